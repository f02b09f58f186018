"""Environments with an expert, help under a budget, and Phase I collection."""

from selfreg.envs.babyai.environment import BABYAI_LEVELS, BabyAIConfig, make_babyai, split_tasks
from selfreg.envs.collection import advised_rollouts, branch_rollouts, collect_into, low_count_states
from selfreg.envs.episode import run_episode
from selfreg.envs.exact import enumerate_model
from selfreg.envs.helpers import ErringHelper, FixedAction, Situational
from selfreg.envs.household.environment import (
    HouseholdConfig,
    HouseholdEnvironment,
    household_tasks,
    make_household,
)
from selfreg.envs.imitation import ImitationConfig, ImitationPolicy, demonstrate, train_imitation
from selfreg.envs.protocol import (
    AssistedEnvironment,
    Environment,
    Expert,
    Intervention,
)
from selfreg.envs.rollouts import CollectConfig, RandomHelp, collect
from selfreg.envs.textworld.environment import (
    TextWorldConfig,
    TextWorldEnvironment,
    make_textworld,
    textworld_tasks,
)
from selfreg.envs.worlds import World

__all__ = [
    "BABYAI_LEVELS",
    "AssistedEnvironment",
    "BabyAIConfig",
    "CollectConfig",
    "Environment",
    "ErringHelper",
    "Expert",
    "FixedAction",
    "HouseholdConfig",
    "HouseholdEnvironment",
    "ImitationConfig",
    "ImitationPolicy",
    "Intervention",
    "RandomHelp",
    "Situational",
    "TextWorldConfig",
    "TextWorldEnvironment",
    "World",
    "advised_rollouts",
    "branch_rollouts",
    "collect",
    "collect_into",
    "demonstrate",
    "enumerate_model",
    "household_tasks",
    "low_count_states",
    "make_babyai",
    "make_household",
    "make_textworld",
    "run_episode",
    "split_tasks",
    "textworld_tasks",
    "train_imitation",
]
