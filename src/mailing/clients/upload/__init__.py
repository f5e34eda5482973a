"""CSV files that a user uploads in the admin page and a worker imports."""
