"""Labels or preferences under a budget: designs, influence functions, intervals, and the study of all three.

What is decided here: what to buy, how a target is estimated from what came back, and when its interval is valid.
"""

from prefdensity.judged.verdicts import expect_verdicts
from prefdensity.pcal.estimate import PcalEstimate, pcal
from prefdensity.pcal.functionals import (
    BradleyTerry,
    EstimatingEquation,
    LinearRegression,
    LogisticRegression,
    Mean,
    Means,
    PoissonRegression,
)
from prefdensity.pcal.judges import ConfusionJudge, LogisticJudge, ProbitJudge
from prefdensity.pcal.ladder import LadderEstimate, RungRegression, ladder
from prefdensity.pcal.ladder_plan import LadderPlan, ladder_plan
from prefdensity.pcal.nonresponse import weigh_returns
from prefdensity.pcal.nuisances import GaussianNuisance, GivenNuisance, LinearNuisance, RegressorNuisance
from prefdensity.pcal.plan import PcalDesign, pcal_design
from prefdensity.pcal.program_nuisance import MovedNuisance, ProgramNuisance
from prefdensity.pcal.purchase_checks import Purchases
from prefdensity.pcal.quantiles import Quantile
from prefdensity.pcal.ranks import jointly, ranks
from prefdensity.pcal.rounds import anytime, decided, drift, pooled, together
from prefdensity.pcal.world_study import LadderWorld, WorldStudy, world_study

__all__ = [
    "BradleyTerry",
    "ConfusionJudge",
    "PcalDesign",
    "EstimatingEquation",
    "GaussianNuisance",
    "GivenNuisance",
    "LadderEstimate",
    "LadderPlan",
    "LadderWorld",
    "LinearNuisance",
    "LinearRegression",
    "LogisticJudge",
    "LogisticRegression",
    "Mean",
    "Means",
    "MovedNuisance",
    "PcalEstimate",
    "PoissonRegression",
    "ProbitJudge",
    "ProgramNuisance",
    "Purchases",
    "Quantile",
    "RegressorNuisance",
    "RungRegression",
    "WorldStudy",
    "anytime",
    "decided",
    "drift",
    "expect_verdicts",
    "jointly",
    "ladder",
    "ladder_plan",
    "pcal",
    "pcal_design",
    "pooled",
    "ranks",
    "together",
    "weigh_returns",
    "world_study",
]
