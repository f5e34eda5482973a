"""Pages to search, edit, import and export clients."""
