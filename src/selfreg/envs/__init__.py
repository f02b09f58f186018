"""Environments with an expert, help under a budget, and Phase I collection."""

from selfreg.envs.babyai.environment import (
    BABYAI_LEVELS,
    BabyAIConfig,
    BabyAIEnvironment,
    DegradedBot,
    make_babyai,
    split_tasks,
)
from selfreg.envs.collection import Recurrence, advised_rollouts, branch_rollouts, collect_into, low_count_states
from selfreg.envs.episode import run_episode
from selfreg.envs.exact import ExactModel, enumerate_model
from selfreg.envs.helpers import ErringHelper, FixedAction, Situational
from selfreg.envs.household.environment import (
    HouseholdConfig,
    HouseholdEnvironment,
    StaleMapAgent,
    household_tasks,
    make_household,
)
from selfreg.envs.imitation import Demonstrations, ImitationConfig, ImitationPolicy, demonstrate, train_imitation
from selfreg.envs.protocol import (
    AssistedEnvironment,
    BasePolicy,
    Environment,
    Expert,
    ExplicitPolicy,
    Intervention,
)
from selfreg.envs.rollouts import CollectConfig, RandomHelp, collect
from selfreg.envs.textworld.environment import (
    CarelessPlayer,
    TextWorldConfig,
    TextWorldEnvironment,
    make_textworld,
    textworld_tasks,
)
from selfreg.envs.textworld.games import TEXTWORLD_LEVELS
from selfreg.envs.worlds import ENVIRONMENTS, World, parse_help

__all__ = [
    "BABYAI_LEVELS",
    "ENVIRONMENTS",
    "TEXTWORLD_LEVELS",
    "AssistedEnvironment",
    "BabyAIConfig",
    "BabyAIEnvironment",
    "BasePolicy",
    "CarelessPlayer",
    "CollectConfig",
    "DegradedBot",
    "Demonstrations",
    "Environment",
    "ErringHelper",
    "ExactModel",
    "Expert",
    "ExplicitPolicy",
    "FixedAction",
    "HouseholdConfig",
    "HouseholdEnvironment",
    "ImitationConfig",
    "ImitationPolicy",
    "Intervention",
    "RandomHelp",
    "Recurrence",
    "Situational",
    "StaleMapAgent",
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
    "parse_help",
    "run_episode",
    "split_tasks",
    "textworld_tasks",
    "train_imitation",
]
