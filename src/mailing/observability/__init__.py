"""Logs, masking, counters, traces."""

import sys

# structlog loads rich where it finds it, for tracebacks, which `masking` renders instead: 0.05 s of each process
_rich = sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # None: an import of it fails
import structlog  # noqa: E402, F401 - see above

if _rich is None:
    del sys.modules["rich"]
