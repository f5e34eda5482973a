"""The job queue: enqueueing, inspection, the worker's side."""
