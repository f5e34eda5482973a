"""HTTP: the server, validation, problems, pagination, documentation, health."""
