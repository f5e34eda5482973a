"""A client as the API shows it; the same for all who serve it."""

COLUMNS = ("id", "phone", "operator_code", "tag", "timezone", "opted_out", "created_at", "updated_at")
READ = f"SELECT {', '.join(COLUMNS)} FROM client WHERE id = $1"
LIST = f"SELECT {', '.join(COLUMNS)} FROM client WHERE id > $1 ORDER BY id LIMIT $2"
