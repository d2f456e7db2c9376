"""How a fit went, and from which diagnostics on it counts as standing for the posterior."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prefdensity.posterior.psis import USABLE, k_hat_error

K_GOOD, K_USABLE = 0.5, USABLE
# Log weights that vary less than this leave about .01 nats between approximation and posterior, whatever k-hat
# says of their extreme tail; by Pinsker's inequality no probability is then off by more than .08.
CLOSE = 0.15
R_HAT = 1.01
# The estimated error of a row's mean, in posterior standard deviations, up to which the row is marked safe.
SAFE = 0.1
# Of how many numbers an approximation must be known to hold the mean where it is to be trusted.
HALF = 0.5
# The share of a sampler's transitions that may diverge; many short chains take thousands of them.
DIVERGED = 0.001


def approximates(k_hat: float, log_weight_sd: float | None, proposals: int | None = None) -> bool:
    """Say whether an approximation with these importance weights stands for the posterior.

    k-hat is one noisy number: where that of 4,000 weights is .7, another 4,000 say .5 or .9. So an approximation is
    turned down only where k-hat is above .7 by more than twice its standard error.
    """
    if not np.isfinite(k_hat):
        return False
    band = 2 * k_hat_error(k_hat, proposals) if proposals else 0.0
    return k_hat < K_USABLE + band or (log_weight_sd is not None and log_weight_sd < CLOSE)


@dataclass(frozen=True)
class FitStatus:
    """How a fit went: all settings that produced it, and what the diagnostics say.

    Attributes
    ----------
    method
        laplace, ep, variational, svi, nuts, map or mle.
    converged, message
        Whether the search settled, and in words how it ended.
    k_hat
        Pareto shape of the importance weights of the approximation: < .5 good, < .7 usable, clearly more (see
        `approximates`): the joint posterior is not held; read only rows marked safe. None for nuts, map, mle.
    log_weight_sd
        Standard deviation of the log importance weights (nats).
    corrected, tempering
        The draws were importance-resampled towards the exact posterior, by the smoothed weights to this power:
        1 fully, below 1 where too few draws would have been left, 0 not at all (a very large table,
        or Gaussians whose means and covariances are right without).
    proposals
        How many draws of the approximation were weighed.
    elbo, elbo_se, log_evidence
        Evidence lower bound, its Monte-Carlo error, log evidence (nats; importance-weighted, of ep its own
        where its draws are not weighed, or of nuts by bridge sampling); None for point fits, and the bound for nuts.
        With k exchangeable types the evidence counts all k! labellings, taken to be well apart; the bound counts one.
    log_likelihood
        Log likelihood of the judgements at the point estimate (nats), without multinomial coefficients.
    n_parameters, deviance
        Of mle: how many numbers were estimated (a common shift of utilities is none), and twice the nats to a program
        that gives each distinct comparison (who judged, order and covariates as recorded) its observed shares.
    effective
        Effective sample size: of the weighed proposals (Kish, smoothed weights), or of nuts its least.
    r_hat, divergences
        Of nuts.
    safe_share
        Of how many numbers the mean is known to lie within a tenth of a posterior standard deviation, but for the noise
        of so few draws; None where that is not known, and of ensembles, whose rows say it.
    members
        Of an ensemble: at how many modes of the sites that no Gaussian holds it was fitted; 0 of other programs.
    device, parts
        Where it was fitted, and the number of parts in which the table went there.
    restart_values
        The objective reached by each restart (nats).
    modes
        Log evidence of each mode that holds more than 1 in 20,000 of the posterior, the one of the point estimate
        first (nats; for svi its bound); their softmax is what they hold. Draws are from all of them.
    elbo_trace
        ELBO per step of svi, thinned to at most 2,000 values.
    settings
        What `fit` was asked for beyond program, data and seed.
    warnings
        Sentences to read before using the result.
    """

    method: str
    converged: bool
    message: str
    seed: int
    seconds: float
    steps: int
    log_likelihood: float
    n_parameters: int | None = None
    deviance: float | None = None
    k_hat: float | None = None
    log_weight_sd: float | None = None
    corrected: bool = False
    tempering: float = 1.0
    proposals: int | None = None
    elbo: float | None = None
    elbo_se: float | None = None
    log_evidence: float | None = None
    r_hat: float | None = None
    effective: float | None = None
    divergences: int | None = None
    safe_share: float | None = None
    members: int = 0
    chains: int = 1
    guide: str = ""
    device: str = "cpu"
    parts: int = 1
    restart_values: tuple[float, ...] = ()
    modes: tuple[float, ...] = ()
    elbo_trace: tuple[float, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """The method that was asked for; by it the program is fitted to other rows, where "auto" may do otherwise."""
        return str(self.settings.get("method", self.method))

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit: this is what there was then."""
        return "interrupted" in self.message

    @property
    def aic(self) -> float | None:
        """Akaike's criterion (1974) of mle: 2 (n_parameters - log_likelihood)."""
        return None if self.n_parameters is None else 2 * (self.n_parameters - self.log_likelihood)

    @property
    def trusted(self) -> bool:
        """Whether the joint posterior of everything is held; which single rows are safe, `summary()` says."""
        if not self.converged or (self.divergences or 0) > DIVERGED * self.steps:
            return False
        if self.members == 1:  # nothing tells how much one mode leaves out
            return False
        if (
            self.safe_share is not None and self.safe_share < HALF
        ):  # few weights may look even where the posterior is not
            return False
        if self.r_hat is not None:
            return self.r_hat < R_HAT
        if self.k_hat is None:
            return True
        # where weights do not correct the draws, a few of them may look even though the approximation misses much
        known = self.corrected or self.safe_share is None or self.safe_share >= HALF
        return known and approximates(self.k_hat, self.log_weight_sd, self.proposals)
