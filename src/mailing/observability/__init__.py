"""Logs, masking, counters, traces."""
