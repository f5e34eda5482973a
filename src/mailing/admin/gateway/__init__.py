"""The gateway page: its state, the rate limit, the emergency stop."""
