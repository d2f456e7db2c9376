"""What the diagnostics of a fit say, in sentences."""

from __future__ import annotations

from prefdensity.posterior.draws import Draws
from prefdensity.posterior.status import CLOSE, DIVERGED, HALF, K_GOOD, K_USABLE, R_HAT, FitStatus, approximates


def appraisal(post: Draws) -> list[tuple[str, bool]]:
    """Return sentences on the fit, and whether each is good news or no news."""
    s = post.status
    ended = "The search settled" if s.converged else "The search did NOT settle"
    lines = [(f"{ended}: {s.message}.", s.converged)]
    if s.k_hat is not None:
        lines.append((_k_hat_sentence(s), approximates(s.k_hat, s.log_weight_sd, s.proposals)))
    if s.r_hat is not None:
        good = s.r_hat < R_HAT and (s.effective or 0) > 100 * s.chains
        said = f"Split R-hat is at most {s.r_hat:.3f} and the smallest effective sample size {s.effective:.0f}: " + (
            "the chains agree." if good else "run longer before trusting intervals."
        )
        lines.append((said, good))
    if s.divergences:
        few = s.divergences <= DIVERGED * s.steps
        what = "few enough to pass" if few else "the sampler missed part of the posterior"
        lines.append((f"{s.divergences} of {s.steps:,} transitions diverged: {what}.", few))
    few = not s.corrected and s.safe_share is not None and s.safe_share < HALF
    lines += [(said, not few) for said in _safe_sentence(post)]
    if post.at_mode:
        known = "only modes are" if s.members > 1 else "one mode alone is"
        lines.append((f"Intervals are given {' and '.join(post.at_mode)}, of which {known} known.", s.members > 1))
    if len(s.restart_values) > 1:
        best = max(s.restart_values)
        near = sum(value > best - 0.5 for value in s.restart_values)
        said = f"{near} of {len(s.restart_values)} restarts came within half a nat of the best ({best:.1f})."
        lines.append((said, True))
    if s.aic is not None and s.deviance is not None:
        said = (
            f"Log likelihood {s.log_likelihood:.2f} with {s.n_parameters} parameters: AIC {s.aic:.2f}, residual "
            f"deviance {s.deviance:.2f}; standard errors are those of the information matrix."
        )
        lines.append((said, True))
    if post.is_point:
        lines.append(("A posterior mode has no intervals; fit with laplace, svi or nuts to get them.", True))
    return lines


def _safe_sentence(post: Draws) -> list[str]:
    if post.status.method in ("mle", "map"):
        return []
    marks = {name: post.marks(name)["safe"] for name in post.draws if name != "type_probability"}
    known = [name for name in marks if name in post.error]
    if not known:
        return ["Single rows were not checked."]
    safe, size = sum(int(marks[name].sum()) for name in known), sum(len(marks[name]) for name in known)
    if safe == size:
        return ["Every row is marked safe: its mean lies within 0.1 posterior standard deviations."]
    ranked = ""
    if "utility" in known:
        ranked = f", of the items {int(marks['utility'].sum())} of {len(marks['utility'])}"
    return [f"{safe} of {size} rows are marked safe{ranked}; of the others the note says how far they may be off."]


def _k_hat_sentence(s: FitStatus) -> str:
    assert s.k_hat is not None
    start = f"Pareto k-hat of the approximation is {s.k_hat:.2f}"
    weighed = f"{s.effective or 0:,.0f} of {s.proposals or 0:,} proposals are effective"
    corrected = f"; the draws are importance-corrected ({weighed})" if s.corrected else ""
    if s.tempering < 1 and s.proposals:
        corrected = f"; its draws are not weighed ({weighed})"
        if s.tempering:
            corrected = (
                f"; the draws are importance-corrected by the weights to the power {s.tempering:.2f} only ({weighed})"
            )
    if s.k_hat < K_GOOD:
        return f"{start}: it stands well for the posterior{corrected}."
    if s.k_hat < K_USABLE:
        return f"{start}: usable{corrected}."
    if s.log_weight_sd is not None and s.log_weight_sd < CLOSE:
        return (
            f"{start}: above 0.7, but its importance weights hardly vary (sd of their logarithm "
            f"{s.log_weight_sd:.2f}), so it is close to the posterior except in the far tails{corrected}."
        )
    if approximates(s.k_hat, s.log_weight_sd, s.proposals):
        return f"{start}: on the border of 0.7, which it may be above by chance; usable{corrected}."
    return (
        f"{start}, clearly above 0.7: the joint posterior is not held, and rows that are not marked safe must NOT be "
        f"trusted{corrected}. Use method='nuts' where it is affordable, or a simpler program."
    )
