"""Users, sessions, API keys, sign-in and permissions."""
