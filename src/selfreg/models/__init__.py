"""What makes, checks and stores models: dicts, Gymnasium tables, UMB files, folders, other models."""
