"""A client as the API returns it, the same for all servers."""

COLUMNS = ("id", "phone", "operator_code", "tag", "timezone", "opted_out", "created_at", "updated_at")
READ = f"SELECT {', '.join(COLUMNS)} FROM client WHERE id = $1"
LIST = f"SELECT {', '.join(COLUMNS)} FROM client WHERE id > $1 ORDER BY id LIMIT $2"
