"""The admin page: HTML rendered on the server, htmx for the parts that refresh themselves."""
