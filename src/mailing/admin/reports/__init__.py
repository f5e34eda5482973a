"""Pages for the daily reports."""
