"""Logs to counts in bounded memory."""
