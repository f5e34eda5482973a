"""Messages: claims, results, plans, leases, and every transition between their states."""
