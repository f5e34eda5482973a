"""What tests share: rows, roles, servers, processes, and readers of pages, documents, logs and metrics."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
