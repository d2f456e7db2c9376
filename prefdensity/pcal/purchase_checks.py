"""Whether purchases went by the plan: who was bought, what came back, and whether verdicts depend on what was bought.

Intervals of `pcal` need three things of a table that can be checked, for the probabilities of being bought are known:
purchases by these probabilities, verdicts made the same way with and without a label, and nothing lost. Each is tested
by a score: with S what was bought, p its probability and g anything that was seen before, sum (S - p) g has mean 0. A
common loss, or one that goes with covariates, is first fitted by p exp(b'z) where it is not what is tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc, fdtrc

from prefdensity.errors import DataError
from prefdensity.judged.units import COMPARED, LABELLED, TIE, A, B, Judged
from prefdensity.words import counted

Array = NDArray[Any]

DEPENDENT = ("refuse", "mask", "keep")
# False alarms of a valid table: 1 % are doubts about judges, 1.6 % four tests against the plan, .1 % refusals. Who is
# asked is mostly plain to see; what they say is not, and is a doubt first. All judges share a level.
_DOUBT, _ASKED, _SAYS = 0.01, 0.001, 0.0001
_AWAY = 0.016 / 4
_STEPS = 50


@dataclass(frozen=True, eq=False)
class Purchases:
    """What was planned, asked for and came back, and whether verdicts depend on it.

    The tests against the plan take purchases as independent draws, or draws of exact numbers (`PcalDesign.assign`), for
    which they are conservative: without the column of what was asked for, a loss of a quarter is seen in 95 of 100
    tables from about 300 labels on. Where the table says what was asked for, losses are counted.

    Attributes
    ----------
    judged
        The table.
    """

    judged: Judged

    @cached_property
    def counts(self) -> pd.DataFrame:
        """One row per level: level, planned, asked_for, came_back, p_value.

        planned is the sum of probabilities; asked_for is empty where the table does not say; the p-value is of what
        was asked for, or came back, against the plan.
        """
        nothing, one = np.zeros((len(self.judged), 0)), np.ones((len(self.judged), 1))
        rows = []
        for level, asked, p, came in self._levels:
            said = np.nan if self.judged.bought is None else asked.sum()
            p_value = score_test(asked, p, nothing, one, self.judged.cluster)[2]
            rows.append((level, p.sum(), said, came.sum(), p_value))
        return pd.DataFrame(rows, columns=["level", "planned", "asked_for", "came_back", "p_value"])

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Tests of covariates, outputs and verdicts: test, statistic, df, p_value.

        Of the units bought against the plan; and, where the table says what was asked for, of the units whose purchase
        came back against all asked for.
        """
        judged, features = self.judged, seen_features(self.judged)
        (_, label, p1, _), (_, preference, p2, _) = self._levels
        one = np.ones((len(judged), 1))
        rows = []
        # labels among what was compared: verdicts, which are seen there, are tested judge by judge
        for level, asked, chance, among in (
            ("label", label, p1 / p2, preference),
            ("preference", preference, p2, np.ones(len(judged), bool)),
        ):
            cluster = _of(judged.cluster, among)
            found = score_test(asked[among], chance[among], one[among], features[among], cluster)
            rows.append((f"covariates and outputs of units with a {level} against the plan", *found))
        for level, asked, _, came in self._levels:
            if (asked & ~came).any():
                told = [features] if level == "preference" else [features, *map(np.column_stack, seen_votes(judged))]
                of, cluster = np.hstack(told)[asked], _of(judged.cluster, asked)
                found = score_test(came[asked], np.ones(len(of)), one[asked], of, cluster)
                rows.append((f"what was seen of units whose {level} came back", *found))
        return pd.DataFrame(rows, columns=["test", "statistic", "df", "p_value"])

    @cached_property
    def judges(self) -> pd.DataFrame:
        """One row per judge: judge, with_label, without_label, p_asked, p_says.

        Shares of the compared units with and without a label that they judged; p-values of whether who judges, and
        what they say, depends on a label being bought. Empty where every compared unit has a label, or none.
        """
        (_, label, p1, _), (_, _, p2, _) = self._levels
        return _judges(self.judged, label, p1 / p2)

    @property
    def _levels(self) -> tuple[tuple[str, Array, Array, Array], ...]:
        """Return name, what was asked for (what came, if that is not said), its probability, what came [unit]."""
        judged = self.judged
        p1, p2 = planned(judged)
        labelled, compared, bought = judged.labelled, judged.compared, judged.bought
        return (
            ("label", labelled if bought is None else bought == LABELLED, p1, labelled),
            ("preference", compared if bought is None else bought <= COMPARED, p2, compared),
        )

    @property
    def lost(self) -> dict[str, int]:
        """How many labels and preferences that were asked for did not come back; empty where this is not known."""
        known = self.counts.dropna(subset="asked_for").to_dict("records")
        return {row["level"]: int(row["asked_for"] - row["came_back"]) for row in known}

    @cached_property
    def unplanned(self) -> list[str]:
        """What speaks against purchases by the probabilities of the table, in words with p-values."""
        out = []
        for row in self.counts[self.counts["p_value"] < _AWAY].to_dict("records"):
            came = row["came_back"] if np.isnan(row["asked_for"]) else row["asked_for"]
            out.append(
                f"{counted(came, row['level'])} where {row['planned']:,.0f} were planned (p {row['p_value']:.1g})"
            )
        planned = self.tests[self.tests["test"].str.endswith("against the plan") & (self.tests["p_value"] < _AWAY)]
        return out + [f"{row['test']} (p {row['p_value']:.1g})" for row in planned.to_dict("records")]

    @property
    def dependent(self) -> list[str]:
        """Judges who are asked, or who judge, otherwise where a label is bought."""
        asked, says = self.judges["p_asked"] < self._least[0], self.judges["p_says"] < self._least[1]
        # where labels were lost unseen, a loss that goes with the verdict looks the same: it is said as a loss
        if says.any() and self.judged.bought is None and self.unplanned:
            return list(self.judges["judge"][asked])
        return list(self.judges["judge"][asked | says])

    @property
    def doubtful(self) -> list[str]:
        """Judges who may judge otherwise where a label is bought; 1 false alarm in 100 tables."""
        if self.judged.bought is None and self.unplanned:
            return []  # a loss that goes with the verdict looks the same
        return list(self.judges["judge"][self.judges["p_says"] < _DOUBT / max(len(self.judges), 1)])

    @property
    def _least(self) -> tuple[float, float]:
        return _ASKED / max(len(self.judges), 1), _SAYS / max(len(self.judges), 1)

    @property
    def breach(self) -> str | None:
        """What is wrong with verdicts made otherwise where a label is bought, in a sentence; None: nothing seen."""
        names = self.dependent
        if not names:
            return None
        row = self.judges[self.judges["judge"] == names[0]].iloc[0]
        if row["p_asked"] < self._least[0]:
            how = (
                f"judged {row['with_label']:.0%} of the compared units with a label and {row['without_label']:.0%} of "
                f"those without (p {row['p_asked']:.1g})"
            )
        else:
            how = (
                f"judges units with a label otherwise than those without (p {row['p_says']:.1g}): several people, or "
                "one who knows more, under one name"
            )
        return f"verdicts must be made the same way with and without a label, and {names[0]!r} {how}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What did not go by the plan."""
        out = [] if self.breach is None else [f"intervals are not valid: {self.breach}"]
        if not out and self.doubtful:
            out.append(
                f"{', '.join(self.doubtful)} may judge units with a label otherwise than those without: intervals "
                "would not be valid; say who judged, or leave out all verdicts of such judges"
            )
        lost = {level: count for level, count in self.lost.items() if count}
        if lost:
            asked = self.counts.set_index("level")["asked_for"]
            said = " and ".join(f"{n:,} of {counted(asked[level], level)}" for level, n in lost.items())
            back = self.tests[self.tests["test"].str.endswith("came back")]
            seen = [f"{row['test']}: p {row['p_value']:.1g}" for row in back.to_dict("records")]
            how = (
                "the weights repair loss that depends on covariates, outputs and verdicts"
                if (self.judged.returned is not None)
                else "intervals take these as never bought: weigh what came back"
            )
            out.append(
                f"{said} that were asked for never came back ({'; '.join(seen)}); {how}; loss by the label's own value "
                "beyond what was seen can be neither tested nor repaired"
            )
        if self.unplanned and not (self.judged.returned is not None):
            cause = "the probabilities are not those bought by" if self.lost else (
                "labels or preferences never came back, or the probabilities are not those bought by; name the column "
                "of what was asked for to tell"
            )  # fmt: skip
            out.append(f"{'; '.join(self.unplanned)}: {cause}; intervals need both")
        return tuple(out)


def usable(judged: Judged, dependent_judges: str) -> Judged:
    """Return the table with verdicts that are made the same way with and without a label.

    Parameters
    ----------
    judged
        The table.
    dependent_judges
        "refuse" a table with a judge who is asked, or judges, otherwise where a label is bought; "mask": set aside
        all verdicts of such judges, and of those that then are left as such; "keep": use them all the same.

    Raises
    ------
    DataError
        Naming the judge.
    """
    if dependent_judges not in DEPENDENT:
        raise DataError(f"dependent_judges={dependent_judges!r} must be one of {', '.join(DEPENDENT)}")
    while dependent_judges != "keep" and (found := Purchases(judged)).dependent:
        if dependent_judges == "refuse":
            raise DataError(
                f"{found.breach}; name judges whose verdicts come with the label (labellers=[...]), or leave out all "
                'verdicts of such judges (dependent_judges="mask")'
            )
        judged = judged.set_aside(found.dependent)
    return judged


def planned(judged: Judged) -> tuple[Array, Array]:
    """Return P(label) and P(preference) of being asked for [unit]."""
    if judged.returned is None:
        return judged.label_probability, judged.preference_probability
    return judged.label_probability / judged.returned[:, 0], judged.preference_probability / judged.returned[:, 1]


def seen_features(judged: Judged) -> Array:
    """Return covariates and outputs [unit, feature], standardised."""
    x = np.column_stack([judged.covariates, judged.outputs])
    spread = x.std(0)
    return np.asarray((x - x.mean(0))[:, spread > 0] / spread[spread > 0])


def seen_votes(judged: Judged) -> list[tuple[Array, Array]]:
    """Return for each judge +1 and -1 for the higher and the lower output [unit], and ties [unit]; 0 not judged."""
    side = np.sign(judged.outputs[:, 0] - judged.outputs[:, 1])
    return [(np.where(v == A, side, np.where(v == B, -side, 0.0)), (v == TIE).astype(float)) for v in judged.votes.T]


def _judges(judged: Judged, label: Array, chance: Array) -> pd.DataFrame:
    """Return the table of judges: whether they are asked, and judge, as if nobody knew of the label."""
    rows = judged.compared & (chance < 1)
    names = ["judge", "with_label", "without_label", "p_asked", "p_says"]
    if not (label[rows].any() and (~label[rows]).any()):
        return pd.DataFrame(columns=names)
    features = seen_features(judged)
    place = _place(judged, features)
    about = np.column_stack([np.ones(len(judged)), features, place, np.abs(place)])[rows]
    came, cluster = label[rows], _of(judged.cluster, rows)
    expected = chance[rows] * np.exp(_log_linear(came, chance[rows], about))
    out = []
    for name, asked, vote in zip(judged.judges, judged.votes.T[:, rows] >= 0, seen_votes(judged), strict=True):
        said = np.column_stack(vote)[rows]
        # along which way a verdict points an exact judge and one who guesses differ where the middle is far off
        told = np.column_stack([said, said[:, 0] * place[rows]])
        shares = (float(asked[came == with_label].mean()) for with_label in (True, False))
        p_asked = _score(came, expected, about, asked[:, None].astype(float), cluster)[2]
        p_says = _score(came, expected, np.column_stack([about, asked]), told, cluster)[2]
        out.append((name, *shares, p_asked, p_says))
    return pd.DataFrame(out, columns=names)


def _place(judged: Judged, features: Array) -> Array:
    """Return how far the middle of the outputs lies above the label expected [unit], standardised."""
    x = np.column_stack([np.ones(len(judged)), features])
    seen = judged.labelled
    slope = _projection(x[seen], judged.label[seen], 1 / judged.label_probability[seen])
    place = judged.outputs.mean(1) - x @ slope
    return np.asarray((place - place.mean()) / max(place.std(), 1e-300))


def _of(cluster: Array | None, rows: Array) -> Array | None:
    return None if cluster is None else cluster[rows]


def score_test(
    came: Array, chance: Array, about: Array, tested: Array, cluster: Array | None
) -> tuple[float, int, float]:
    """Return statistic, df and p-value of: what came had its chance times exp(b'about), whatever `tested` says."""
    expected = chance * np.exp(_log_linear(came, chance, about))
    return _score(came, expected, about, tested, cluster)


def _score(
    came: Array, expected: Array, about: Array, tested: Array, cluster: Array | None
) -> tuple[float, int, float]:
    """Return statistic, df and p-value of the score of `tested` beyond `about`.

    Parameters
    ----------
    came
        bool [unit].
    expected
        Its chance [unit], as fitted by functions of `about`.
    about, tested
        [unit, k].
    cluster
        int64 [unit]: draws within one may be dependent.
    """
    rest = tested - about @ _projection(about, tested, expected) if about.size else tested
    size, whole = ((each**2 * expected[:, None]).sum(0) for each in (rest, tested))
    rest = rest[:, size > 1e-9 * np.maximum(whole, 1e-300)]
    score = (came - expected)[:, None] * rest
    if cluster is None:
        variance = (rest * np.maximum(expected * (1 - expected), 0.0)[:, None]).T @ rest
        groups = np.inf
    else:
        sums = np.zeros((int(cluster.max()) + 1, rest.shape[1]))
        np.add.at(sums, cluster, score)
        variance, groups = sums.T @ sums, len(np.unique(cluster))
    value, vector = np.linalg.eigh(variance) if rest.shape[1] else (np.zeros(0), np.zeros((0, 0)))
    kept = value > 1e-10 * max(value.max(initial=0.0), 1e-300)
    df = int(kept.sum())
    if df == 0 or groups < 2 * df + 2:
        return np.nan, df, np.nan
    statistic = float((((score.sum(0) @ vector[:, kept]) ** 2) / value[kept]).sum())
    if np.isinf(groups):
        return statistic, df, float(chdtrc(df, statistic))
    # Hotelling: the variance is learned from the clusters
    spread = max(1 - statistic / groups, 1e-12)
    return statistic, df, float(fdtrc(df, groups - df, statistic / groups / spread * (groups - df) / df))


def _log_linear(came: Array, chance: Array, about: Array) -> Array:
    """Return b'about [unit] of a Poisson regression of what came, with offset log chance."""
    eta = np.zeros(len(came))
    for _ in range(_STEPS if about.size else 0):
        mean = chance * np.exp(eta)
        step = about @ (_inverse((about * mean[:, None]).T @ about) @ (about.T @ (came - mean)))
        eta = np.clip(eta + step / max(np.abs(step).max() / 2, 1.0), -20, 20)
        if np.abs(step).max() < 1e-8:
            break
    return eta


def _projection(about: Array, tested: Array, weight: Array) -> Array:
    """Return weighted least-squares coefficients of `tested` on `about`."""
    weighted = (about * weight[:, None]).T
    return np.asarray(_inverse(weighted @ about) @ (weighted @ tested))


def _inverse(gram: Array) -> Array:
    return np.asarray(np.linalg.pinv(gram, rcond=1e-12, hermitian=True))
