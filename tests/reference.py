"""Slow NumPy twins of the programs, written from the published formulas: one row at a time, no tensors.

A program of layers is a list of (name, options); `sites` holds the value of each site in its own units.
"""

import numpy as np
from scipy import special, stats


def scores(layers, data, utility):
    """What annotators of log densities `utility` (up to a constant) compare: f log p + g."""
    known = {} if data.item_measures is None else dict(zip(data.measure_names, data.item_measures.T, strict=True))
    for name, options in layers:
        if name == "tempered":
            return options.get("beta", 1.0) * utility
        if name == "length_normalised":
            longest = options.get("longest", known["length"].max())
            return longest / known["length"] * (utility - np.log(np.exp(utility).sum()))
        if name == "dpo":
            return options.get("beta", 1.0) * (utility - known["log_reference"])
        if name == "geometric":
            alpha, reference = options.get("alpha", 1.0), known["log_reference"]
            return (utility - reference) / alpha + reference
    return utility


def own(options, sites, effect, who):
    """How far an effect of annotator `who` lies from that of the average one; 0 where it is the same for all."""
    if "by" not in options:
        return 0.0
    return sites[f"annotator_{effect}_spread"] * sites[f"annotator_{effect}_offset"][who]


def slope(options, sites, data, effect, row):
    """How far an effect has changed over a number at one row."""
    if not options.get("over"):
        return 0.0
    values = data.column(options["over"]).values
    x = (values - np.average(values, weights=data.count)) / np.sqrt(np.cov(values, aweights=data.count, ddof=0))
    return sites[f"{options['over']}_{effect}"] * x[row]


def margins(layers, sites, data, row, utility):
    """The margin of one row, in favour of side a."""
    a, b = data.item_a[row], data.item_b[row]
    who = None if data.annotator is None else data.annotator[row]
    score = scores(layers, data, utility)
    margin = score[a] - score[b]
    for name, options in layers:
        if name == "position_bias":
            margin = margin + (sites["position_bias"] + own(options, sites, "position_bias", who)) * data.first[row]
        if name == "reliability":
            if not options.get("over") or options.get("by"):
                margin = margin * (
                    1 + sites["annotator_reliability_spread"] * sites["annotator_reliability_offset"][who]
                )
            margin = margin * np.exp(slope(options, sites, data, "reliability", row))
        if name == "tastes":
            taste = sites["annotator_taste_spread"] * sites["annotator_taste_offset"][who]
            margin = margin + taste[a] - taste[b]
        if name == "feature_tastes":
            x = standardised(data.item_features)
            weight = sites["annotator_weight_spread"] * sites["annotator_weight_offset"][who] / np.sqrt(x.shape[1])
            margin = margin + (x[a] - x[b]) @ weight
        if name == "feature_factors":
            x = standardised(data.item_features)
            for r in range(1, options.get("rank", 1) + 1):
                along = (x[a] - x[b]) @ sites[f"feature_factor{r}_weight"] / np.sqrt(x.shape[1])
                margin = margin + sites["feature_factor_scale"] * sites[f"feature_factor{r}_score"][who] * along
        if name == "drift":
            over, waves = options.get("over", "date"), options.get("waves", 8)
            values = data.column(over).values
            t = (values[row] - values.min()) / (values.max() - values.min())
            for k in range(1, waves + 1):
                walk = np.sqrt(2) / (k * np.pi) * np.cos(k * np.pi * t) * sites[f"{over}_drift_offset"][k - 1]
                margin = margin + sites[f"{over}_drift_spread"] * (walk[a] - walk[b])
        if name == "covariate" and options:
            c = options["name"]
            x = data.covariates[row] / data.covariate_scale
            effect = sites[f"{c}_offset"] + own(options, sites, f"{c}_effect", who)
            margin = margin + effect * x[data.covariate_names.index(c)]
        elif name == "covariate":
            margin = margin + sites["covariate_offset"] @ (data.covariates[row] / data.covariate_scale)
        if name == "annotator_factors":
            loading, score = sites["factor_loading"], sites["factor_score"]
            margin = margin + sites["factor_scale"] * score[:, who] @ (loading[:, a] - loading[:, b])
        if name == "ideal_points":
            far = [((sites["place"][:, k] - sites["ideal"][:, who]) ** 2).sum() for k in (a, b)]
            margin = margin - sites["ideal_scale"] * (far[0] - far[1])
        if name == "thurstone_case3":  # in units of the probit rule that `CHOICES` applies to it
            noise = np.exp(sites["noise_spread"] * sites["noise_offset"][[a, b]])
            margin = margin * np.sqrt(2 / (noise**2).sum())
        if name == "intransitive":
            turn = sites["blade"][a] * sites["chest"][b] - sites["blade"][b] * sites["chest"][a]
            margin = margin + sites["curl_scale"] * turn
    return margin


def is_tie(share):
    """1 for a tie, 0 for the other outcomes: the last of three, or the middle of more grades."""
    return np.arange(len(share)) == (2 if len(share) == 3 else len(share) // 2)


def noisy(layers, sites, data, row, share):
    """Outcome shares of one row after lapses and reversals."""
    for name, options in layers:
        if name == "lapse":
            rate = special.expit(
                special.logit(sites["lapse"])
                + own(options, sites, "lapse", data.annotator[row])
                + slope(options, sites, data, "lapse", row)
            )
            share = (1 - rate) * share + rate / len(share)
        if name == "ties":
            habit = sites["annotator_ties_spread"] * sites["annotator_ties_offset"][data.annotator[row]]
            share = share * np.exp(habit * is_tie(share))
            share = share / share.sum()
        if name == "strengths":
            habit = sites["annotator_strengths_spread"] * sites["annotator_strengths_offset"][data.annotator[row]]
            share = share * np.exp(habit * np.array([1, 0, 0, 0, 1]))  # two strengths and a tie
            share = share / share.sum()
        if name in ("crowd_bt", "flips"):
            meant = sites["accuracy"][data.annotator[row]] if name == "crowd_bt" else 1 - sites["flip_rate"]
            other = [1, 0, 2][: len(share)] if len(share) < 4 else slice(None, None, -1)
            share = meant * share + (1 - meant) * share[other]
    return share


def logit(margin, sites):
    return [1 / (1 + np.exp(-margin)), 1 / (1 + np.exp(margin))]


def probit(margin, sites):
    return [stats.norm.cdf(margin / np.sqrt(2)), stats.norm.cdf(-margin / np.sqrt(2))]


def davidson(margin, sites):
    # worths exp(margin) and 1; a tie weighs nu times their geometric mean
    worth, nu = np.exp(margin), sites["tie_strength"]
    total = worth + 1 + nu * np.sqrt(worth)
    return [worth / total, 1 / total, nu * np.sqrt(worth) / total]


def rao_kupper(margin, sites):
    worth, theta = np.exp(margin), 1 + sites["tie_excess"]
    a, b = worth / (worth + theta), 1 / (1 + theta * worth)
    return [a, b, (theta**2 - 1) * a * b]


def graded(margin, sites):
    """Shares of the grades, the strongest for side a first, as steps of a logistic distribution function."""
    cut = np.log(1 + sites["tie_excess"]) + np.r_[0, np.cumsum(sites["strength_step"])]
    edges = np.r_[-np.inf, -cut[::-1], cut, np.inf]
    return np.diff(special.expit(edges + margin))


def adjacent_categories(margin, sites):
    """Shares of the grades: log odds of one grade against the next are linear in the margin."""
    weight = np.r_[1, sites["strength_weight"]]
    size = np.arange(1, len(weight) + 1) / 2
    for_a, for_b = weight * np.exp(size * margin), weight * np.exp(-size * margin)
    share = np.r_[for_a[::-1], sites["tie_strength"], for_b]
    return share / share.sum()


CHOICES = {
    "adjacent_categories": adjacent_categories,
    "graded": graded,
    "logit": logit,
    "luce_choice": logit,
    "probit": probit,
    "thurstone_case3": probit,
    "davidson": davidson,
    "rao_kupper": rao_kupper,
}


TYPES = ("annotator_types", "dirichlet_types", "comparison_types")


def type_weights(layers, sites):
    """Shares of the types, or None where there are none."""
    names = [name for name, _ in layers]
    if "dirichlet_types" in names:  # each stick breaks off its share of what the earlier ones left
        left, weights = 1.0, []
        for share in sites["stick"]:
            weights.append(left * share)
            left *= 1 - share
        return np.array([*weights, left])
    return sites["type_weight"] if set(names) & set(TYPES) else None


def standardised(features):
    """Features [item, feature] in standard deviations from their means."""
    spread = np.array([max(column.std(), 1e-300) for column in features.T])
    return (features - features.mean(0)) / spread


def utilities(layers, sites, data, kind):
    """Utilities [item] of one type; `kind` None: there are no types."""
    found = [
        name
        for name in ("weight", "gp_offset", "neural_hidden_offset", "neural_last_offset", "utility")
        if name in sites
    ]
    own = {name: sites[name] if kind is None else sites[name][kind] for name in found}
    options = dict(layers)
    if "utility" in own:
        return own["utility"]
    scaled = standardised(data.item_features)
    if "neural" in options:
        return network(scaled, own["neural_hidden_offset"], own["neural_last_offset"], **options["neural"])
    if "linear" in options:
        return scaled @ own["weight"]
    return gaussian_process(scaled, **options["gp"]) @ own["gp_offset"]


def gaussian_process(features, lengthscale=0.5):
    """A square root of the Matern-5/2 correlation, entry by entry."""
    count = len(features)
    covariance = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            r = np.sqrt(5) * np.linalg.norm(features[i] - features[j]) / lengthscale
            covariance[i, j] = (1 + r + r**2 / 3) * np.exp(-r) + 1e-6 * (i == j)
    return np.linalg.cholesky(covariance)


def network(features, weights, last, width=16, depth=2, input_scale=3.0, amplitude=5.0):
    """Utilities [item] of a tanh network, from standardised weights: of each layer its own, then its biases."""
    weights = iter(weights)
    hidden = input_scale * features
    for _ in range(depth):
        size = hidden.shape[1]
        table = np.array([[next(weights) for _ in range(width)] for _ in range(size)])
        bias = np.array([next(weights) for _ in range(width)])
        hidden = np.tanh((hidden @ table + bias) / np.sqrt(size))
    return amplitude * hidden @ last / np.sqrt(width)


def probabilities(layers, sites, data):
    """Outcome probabilities [type, row, outcome]; one type where the program has none."""
    weights = type_weights(layers, sites)
    choice = next(CHOICES[name] for name, _ in layers if name in CHOICES)
    table = []
    for kind in [None] if weights is None else range(len(weights)):
        utility = utilities(layers, sites, data, kind)
        rows = []
        for row in range(len(data)):
            share = np.array(choice(margins(layers, sites, data, row, utility), sites))
            rows.append(noisy(layers, sites, data, row, share))
        table.append(rows)
    return np.array(table)


def log_likelihood(layers, sites, data):
    """Log probability of the rows as they came, types summed out one annotator (or one judgement) at a time."""
    share, weights = probabilities(layers, sites, data), type_weights(layers, sites)
    if weights is None or "comparison_types" in [name for name, _ in layers]:
        mixed = share[0] if weights is None else np.einsum("k,kno->no", weights, share)
        rated = rating_log_likelihood(layers, sites, data) if "ratings" in dict(layers) else 0.0
        judged = enumerate(zip(data.count, judgement(layers, data), strict=True))
        return rated + sum(n * np.log(mixed[k, y]) for k, (n, y) in judged)
    total = 0.0
    for annotator in range(len(data.annotators)):
        rows = np.flatnonzero(data.annotator == annotator)
        said = judgement(layers, data)
        given = [np.prod([s[k, said[k]] ** data.count[k] for k in rows]) for s in share]
        total += np.log(weights @ given)
    return total


def judgement(layers, data):
    """What was said [row]: the outcome, or for graded judgements the grade."""
    return data.grade if {"graded", "adjacent_categories"} & set(dict(layers)) else data.outcome


def rating_log_likelihood(layers, sites, data):
    """Log probability of the ratings: steps of a logistic distribution function."""
    utility = utilities(layers, sites, data, None)
    cut = sites["rating_cut_first"] + np.r_[0, np.cumsum(sites["rating_step"])]
    edges = np.r_[-np.inf, cut, np.inf]
    total = 0.0
    for item, level, who in zip(data.ratings.item, data.ratings.level, data.ratings.annotator, strict=True):
        score = sites["rating_slope"][who] * utility[item] + sites["rating_shift"][who]
        total += np.log(special.expit(edges[level + 1] - score) - special.expit(edges[level] - score))
    return total


def brute_force_types(layers, sites, data):
    """The same by summing over all K^J assignments of types to annotators."""
    share, weight = probabilities(layers, sites, data), sites["type_weight"]
    people = len(data.annotators)
    total = 0.0
    for assignment in np.ndindex(*(len(weight),) * people):
        term = np.prod([weight[k] for k in assignment])
        for row in range(len(data)):
            term *= share[assignment[data.annotator[row]], row, data.outcome[row]] ** data.count[row]
        total += term
    return np.log(total)
