"""Bulk SMS campaigns through an HTTP gateway, on PostgreSQL alone."""

from importlib.metadata import version

__version__ = version("mailing")
