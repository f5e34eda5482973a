"""Read models for people: counters, progress, backlog, throughput and latency."""
