"""Pages for the messages of a mailing and for one message."""
