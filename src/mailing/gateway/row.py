"""The row of `gateway` that all statements read and write: the table is keyed by name, for a second provider later."""

ONLY_ROW = "name = 'default'"
