class BenchError(Exception):
    """The run has failed: its figures mean nothing."""
