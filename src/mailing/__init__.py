"""Bulk SMS campaigns through an HTTP gateway, on PostgreSQL alone."""

__version__ = "0.1.0"
