"""The row of `gateway` that all statements use. The table is keyed by name, for a second provider later."""

ONLY_ROW = "name = 'default'"
