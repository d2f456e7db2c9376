"""Rewards from preferences whose intervals stay valid when the annotator model is wrong, policies, and training data.

What is decided here: how an annotator model takes variance away from a reward without adding bias.
"""

from importlib import import_module as _import_module
from types import ModuleType as _ModuleType

from prefdensity.reward.fit import Exact, RewardEstimate, Sampled, reward, reward_from_differences, reward_of_table
from prefdensity.reward.policies import PolicyComparison, compare_policies
from prefdensity.reward.table import reward_table, rewards

# Modules for those who train; loaded on first use, for trl brings a trainer's libraries.
_MODULES = ("columns", "losses", "policy_learning", "trl", "tuning")

__all__ = [
    "Exact",
    "PolicyComparison",
    "RewardEstimate",
    "Sampled",
    "compare_policies",
    "reward",
    "reward_from_differences",
    "reward_of_table",
    "reward_table",
    "rewards",
]


def __getattr__(name: str) -> _ModuleType:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _import_module(f"{__name__}.{name}")
