class BenchError(Exception):
    """The run has failed, so its figures are void."""
