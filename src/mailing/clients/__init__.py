"""Clients, the recipients: the API, search, CSV import and export."""
