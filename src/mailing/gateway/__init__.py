"""The external SMS gateway: classify its answers, call it, share its limits, and practise on a sandbox."""
