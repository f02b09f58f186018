"""Household: a small text world with a stale map and ambiguous hints."""
