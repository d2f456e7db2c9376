"""Rewards from preferences whose intervals stay valid when the annotator model is wrong, policies, and training data.

What is decided here: how an annotator model takes variance away from a reward without adding bias.
"""

from prefdensity.reward.fit import Exact, RewardEstimate, Sampled, reward, reward_from_differences

__all__ = ["Exact", "RewardEstimate", "Sampled", "reward", "reward_from_differences"]
