"""A database restored from a backup: what it does not know, and how sending is enabled again."""
