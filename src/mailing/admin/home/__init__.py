"""The start page: the health of everything that sending needs, and the mailings in progress."""
