"""Operating-system processes: supervision, worker pools, watchdog, heartbeat, the local stack."""
