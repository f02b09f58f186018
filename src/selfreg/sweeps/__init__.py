"""Many models at once: batches on threads or Ray, results that can be resumed."""
