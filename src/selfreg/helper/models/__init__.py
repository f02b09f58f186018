"""Models behind a helper, one file a family."""
