"""A database restored from a backup: how it is recognised, and how sending is enabled again."""
