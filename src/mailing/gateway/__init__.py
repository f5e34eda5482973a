"""The external SMS gateway: calls and their outcomes, shared limits, providers, and a sandbox."""
