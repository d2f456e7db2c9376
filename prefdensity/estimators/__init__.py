"""Estimators that use a fitted annotator model rather than being one.

`reward`: a reward with valid intervals whether or not Bradley-Terry and the model are right. `pcal_design`, `pcal`: how
to spend a budget on labels and preferences, and what they say. Names load on first use.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

# public name -> the module that defines it
_HOME = {
    "ConfusionJudge": "judges",
    "Design": "pcal_plan",
    "EstimatingEquation": "functionals",
    "Exact": "reward_fit",
    "GaussianNuisance": "nuisances",
    "GivenNuisance": "nuisances",
    "LinearNuisance": "nuisances",
    "LinearRegression": "functionals",
    "LogisticJudge": "judges",
    "LogisticRegression": "functionals",
    "Mean": "functionals",
    "MovedNuisance": "program_nuisance",
    "PcalEstimate": "pcal_estimate",
    "PoissonRegression": "functionals",
    "ProbitJudge": "judges",
    "ProgramNuisance": "program_nuisance",
    "Purchases": "purchase_checks",
    "Quantile": "quantiles",
    "RegressorNuisance": "nuisances",
    "RewardEstimate": "reward_fit",
    "Sampled": "reward_fit",
    "pcal": "pcal_estimate",
    "pcal_design": "pcal_plan",
    "reward": "reward_fit",
    "reward_from_differences": "reward_fit",
    "weigh_returns": "nonresponse",
}

_MODULES = ("policy_learning",)

__all__ = [*_HOME, *_MODULES]

if TYPE_CHECKING:
    from prefdensity.estimators import policy_learning as policy_learning
    from prefdensity.estimators.functionals import (
        EstimatingEquation as EstimatingEquation,
        LinearRegression as LinearRegression,
        LogisticRegression as LogisticRegression,
        Mean as Mean,
        PoissonRegression as PoissonRegression,
    )
    from prefdensity.estimators.judges import (
        ConfusionJudge as ConfusionJudge,
        LogisticJudge as LogisticJudge,
        ProbitJudge as ProbitJudge,
    )
    from prefdensity.estimators.nonresponse import weigh_returns as weigh_returns
    from prefdensity.estimators.nuisances import (
        GaussianNuisance as GaussianNuisance,
        GivenNuisance as GivenNuisance,
        LinearNuisance as LinearNuisance,
        RegressorNuisance as RegressorNuisance,
    )
    from prefdensity.estimators.pcal_estimate import (
        PcalEstimate as PcalEstimate,
        pcal as pcal,
    )
    from prefdensity.estimators.pcal_plan import (
        Design as Design,
        pcal_design as pcal_design,
    )
    from prefdensity.estimators.program_nuisance import (
        MovedNuisance as MovedNuisance,
        ProgramNuisance as ProgramNuisance,
    )
    from prefdensity.estimators.purchase_checks import Purchases as Purchases
    from prefdensity.estimators.reward_fit import (
        Exact as Exact,
        RewardEstimate as RewardEstimate,
        Sampled as Sampled,
        reward as reward,
        reward_from_differences as reward_from_differences,
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return _import_module(f"prefdensity.estimators.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'prefdensity.estimators' has no attribute {name!r}")
    return getattr(_import_module(f"prefdensity.estimators.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
