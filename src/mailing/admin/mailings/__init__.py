"""Pages to list, write, release, follow and end mailings."""
