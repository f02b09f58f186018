"""Household: a small text world with a stale map and ambiguous hints."""

from selfreg.envs.household.environment import exact_model

__all__ = ["exact_model"]
