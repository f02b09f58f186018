"""Household: a small text world with a stale map and ambiguous hints."""

from selfreg.envs.household.environment import (
    HouseholdConfig,
    HouseholdEnvironment,
    exact_model,
    household_tasks,
    make_household,
)

__all__ = ["HouseholdConfig", "HouseholdEnvironment", "exact_model", "household_tasks", "make_household"]
