"""NumPy twins of the priors of the programs, what changes of variables weigh, and evidence by quadrature.

A program of layers is a list of (name, options); `sites` holds the value of each site in its own units.
"""

import numpy as np
from scipy import integrate, special, stats


def _log_dirichlet(w, concentration):
    c = np.full(len(w), concentration)
    return special.gammaln(c.sum()) - special.gammaln(c).sum() + ((c - 1) * np.log(w)).sum()


def _log_log_normal(x, mean, sd):
    return stats.norm.logpdf(np.log(x), mean, sd) - np.log(x)


def log_slope(options, sites, effect):
    """Log prior of the change of an effect over a number."""
    return stats.norm.logpdf(sites[f"{options['over']}_{effect}"], 0, 0.5) if options.get("over") else 0.0


def log_own(options, sites, effect, scale):
    """Log prior of annotators' own effects."""
    if not options.get("by"):
        return 0.0
    spread, offset = sites[f"annotator_{effect}_spread"], sites[f"annotator_{effect}_offset"]
    return stats.halfnorm.logpdf(spread, scale=scale) + stats.norm.logpdf(offset).sum()


# layer -> log prior of its sites, given its options and the sites
PRIORS = {
    "utility_scale": lambda s, fixed=None: 0.0 if fixed else _log_log_normal(s["utility_scale"], 0, 1),
    "items": lambda s: stats.norm.logpdf(s["utility"], 0, s["utility_scale"]).sum(),
    "student_items": lambda s, df=2.0: stats.t.logpdf(s["utility"], df, 0, s["utility_scale"]).sum(),
    "linear": lambda s: stats.norm.logpdf(
        s["weight"], 0, s["utility_scale"] / np.sqrt(np.shape(s["weight"])[-1])
    ).sum(),
    "annotator_types": lambda s, k=2, on=(): _log_dirichlet(s["type_weight"], 2.0),
    "position_bias": lambda s, **o: stats.norm.logpdf(s["position_bias"], 0, 0.5) + log_own(o, s, "position_bias", 0.5),
    "reliability": lambda s, scales="wants", by=None, over="": (
        log_own({"by": by or not over}, s, "reliability", 0.5) + log_slope({"over": over}, s, "reliability")
    ),
    "davidson": lambda s: _log_log_normal(s["tie_strength"], 0, 0.7),
    "adjacent_categories": lambda s: (
        _log_log_normal(s["tie_strength"], 0, 0.7) + np.sum(_log_log_normal(s["strength_weight"], 0, 0.7))
    ),
    "graded": lambda s: (
        _log_log_normal(s["tie_excess"], -0.5, 0.7) + np.sum(_log_log_normal(s["strength_step"], 0, 0.7))
    ),
    "rao_kupper": lambda s: _log_log_normal(s["tie_excess"], -0.5, 0.7),
    "flips": lambda s, rate=None, wrong=0, checked=0: (
        0.0 if rate else stats.beta.logpdf(s["flip_rate"], 1 + wrong, 9 + checked - wrong)
    ),
    "lapse": lambda s, **o: (
        stats.beta.logpdf(s["lapse"], 1, 9) + log_own(o, s, "lapse", 1.0) + log_slope(o, s, "lapse")
    ),
    "tastes": lambda s: (
        stats.halfnorm.logpdf(s["annotator_taste_spread"]) + stats.norm.logpdf(s["annotator_taste_offset"]).sum()
    ),
    "feature_tastes": lambda s: (
        stats.halfnorm.logpdf(s["annotator_weight_spread"]) + stats.norm.logpdf(s["annotator_weight_offset"]).sum()
    ),
    "feature_factors": lambda s, rank=1: (
        stats.halfnorm.logpdf(s["feature_factor_scale"])
        + sum(
            stats.norm.logpdf(s[f"feature_factor{r}_{of}"]).sum()
            for r in range(1, rank + 1)
            for of in ("weight", "score")
        )
    ),
    "drift": lambda s, over="date", **o: (
        stats.halfnorm.logpdf(s[f"{over}_drift_spread"]) + stats.norm.logpdf(s[f"{over}_drift_offset"]).sum()
    ),
    "covariate": lambda s, name="", **o: (
        stats.norm.logpdf(s[f"{name or 'covariate'}_offset"], 0, 0.5).sum() + log_own(o, s, f"{name}_effect", 0.5)
    ),
    "crowd_bt": lambda s: stats.beta.logpdf(s["accuracy"], 8, 2).sum(),
    "comparison_types": lambda s, k=2: _log_dirichlet(s["type_weight"], 2.0),
    "dirichlet_types": lambda s, most=5: (
        stats.gamma.logpdf(s["concentration"], 2, scale=1 / 2)
        + stats.beta.logpdf(s["stick"], 1, s["concentration"]).sum()
    ),
    "intransitive": lambda s: (
        stats.halfnorm.logpdf(s["curl_scale"], scale=0.5) + stats.norm.logpdf([*s["blade"], *s["chest"]]).sum()
    ),
    "neural": lambda s, **options: (
        stats.norm.logpdf(s["neural_hidden_offset"]).sum() + stats.norm.logpdf(s["neural_last_offset"]).sum()
    ),
    "gp": lambda s, lengthscale=0.5: stats.norm.logpdf(s["gp_offset"], 0, s["utility_scale"]).sum(),
    "ratings": lambda s: (
        stats.norm.logpdf(s["rating_cut_first"], 0, 3)
        + np.sum(_log_log_normal(s["rating_step"], 0, 1))
        + np.sum(_log_log_normal(s["rating_slope"], 0, 0.5))
        + stats.norm.logpdf(s["rating_shift"]).sum()
    ),
    "strengths": lambda s: (
        stats.halfnorm.logpdf(s["annotator_strengths_spread"])
        + stats.norm.logpdf(s["annotator_strengths_offset"]).sum()
    ),
    "ties": lambda s: (
        stats.halfnorm.logpdf(s["annotator_ties_spread"]) + stats.norm.logpdf(s["annotator_ties_offset"]).sum()
    ),
    "annotator_factors": lambda s, rank=1: (
        stats.halfnorm.logpdf(s["factor_scale"])
        + stats.norm.logpdf(s["factor_loading"]).sum()
        + stats.norm.logpdf(s["factor_score"]).sum()
    ),
    "ideal_points": lambda s, dim=1: (
        stats.halfnorm.logpdf(s["ideal_scale"])
        + stats.norm.logpdf(s["place"]).sum()
        + stats.norm.logpdf(s["ideal"]).sum()
    ),
    "thurstone_case3": lambda s: (
        stats.halfnorm.logpdf(s["noise_spread"], scale=0.5) + stats.norm.logpdf(s["noise_offset"]).sum()
    ),
    "tempered": lambda s, beta=1.0: 0.0,
    "length_normalised": lambda s, longest=None: 0.0,
    "dpo": lambda s, beta=1.0: 0.0,
    "geometric": lambda s, alpha=1.0: 0.0,
    "logit": lambda s: 0.0,
    "luce_choice": lambda s: 0.0,
    "probit": lambda s: 0.0,
}


def log_prior(layers, sites):
    """Log density of the sites in their own units."""
    fixed = dict(layers).get("utility_scale", {}).get("fixed")
    sites = sites if fixed is None else sites | {"utility_scale": fixed}
    return sum(PRIORS[name](sites, **options) for name, options in layers)


POSITIVE = (
    "tie_strength", "tie_excess", "annotator_reliability_spread", "annotator_position_bias_spread",
    "annotator_taste_spread", "curl_scale", "utility_scale", "concentration", "rating_step", "rating_slope",
    "strength_step", "strength_weight", "annotator_ties_spread", "annotator_strengths_spread",
    "annotator_weight_spread", "feature_factor_scale",
    "annotator_c_effect_spread", "annotator_lapse_spread", "date_drift_spread", "factor_scale", "ideal_scale",
    "noise_spread",
)  # fmt: skip
SHARES = ("lapse", "accuracy", "flip_rate", "stick")


def log_jacobian(sites):
    """Log |d sites / d z| of z = log (positive), logit (unit interval) or stick-breaking (simplex)."""
    total = 0.0
    for name, value in sites.items():
        if name in POSITIVE:
            total += np.log(value).sum()
        elif name in SHARES:
            total += (np.log(value) + np.log1p(-value)).sum()
        elif name == "type_weight":  # a piece of what is left, and what is left, for each break
            left = np.concatenate([[1.0], 1 - np.cumsum(value)[:-1]])
            total += sum(np.log(value[k]) + np.log1p(-value[k] / left[k]) for k in range(len(value) - 1))
    return total


def log_evidence_of_two_items(wins, losses, scale):
    """Log evidence of Bradley-Terry with two items, by quadrature over their difference."""
    spread = scale * np.sqrt(2)

    def integrand(d):
        return np.exp(stats.norm.logpdf(d, 0, spread) - wins * np.log1p(np.exp(-d)) - losses * np.log1p(np.exp(d)))

    return np.log(integrate.quad(integrand, -12 * spread, 12 * spread, epsabs=0, epsrel=1e-12, limit=500)[0])


def log_evidence_of_three_items(counts, scale):
    """Log evidence of Bradley-Terry with three items; `counts` {(i, j): (wins of i, wins of j)}.

    By the trapezoid rule on (u0 - u1, u1 - u2), whose prior is bivariate normal: spectrally accurate.
    """
    x = np.linspace(-14 * scale, 14 * scale, 1401)
    d01, d12 = np.meshgrid(x, x, indexing="ij")
    covariance = scale**2 * np.array([[2.0, -1.0], [-1.0, 2.0]])
    log = stats.multivariate_normal([0, 0], covariance).logpdf(np.stack([d01, d12], -1))
    for (i, j), (won, lost) in counts.items():
        d = {(0, 1): d01, (1, 2): d12, (0, 2): d01 + d12}[i, j]
        log = log - won * np.logaddexp(0, -d) - lost * np.logaddexp(0, d)
    return special.logsumexp(log) + 2 * np.log(x[1] - x[0])
