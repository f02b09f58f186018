"""Environments with an expert, help under a budget, and Phase I collection."""

from selfreg.envs.babyai import BabyAIConfig, BabyAIEnvironment, DegradedBot, make_babyai, split_tasks
from selfreg.envs.collect import CollectConfig, RandomHelp, collect
from selfreg.envs.episode import HelpPolicy, run_episode
from selfreg.envs.protocol import AssistedEnvironment, BasePolicy, Environment, Intervention

__all__ = [
    "AssistedEnvironment",
    "BabyAIConfig",
    "BabyAIEnvironment",
    "BasePolicy",
    "CollectConfig",
    "DegradedBot",
    "Environment",
    "HelpPolicy",
    "Intervention",
    "RandomHelp",
    "collect",
    "make_babyai",
    "run_episode",
    "split_tasks",
]
