"""Many models at once: batches, executors, resumable results."""
