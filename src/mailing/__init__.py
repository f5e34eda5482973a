"""Bulk SMS campaigns through an HTTP gateway, on PostgreSQL alone."""

TYPE_CHECKING = False  # as in `typing`, which takes longer to load than the rest of the start before `__main__`

__version__: str

if not TYPE_CHECKING:

    def __getattr__(name: str) -> str:
        """Read `__version__` from the metadata only when asked for: that takes as long as to import click."""
        if name != "__version__":
            raise AttributeError(name)
        from importlib.metadata import version  # noqa: PLC0415 - as above

        return version("mailing")
