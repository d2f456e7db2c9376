"""The posterior of a fitted program: draws, what they mean, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from prefdensity.data.columns import listed
from prefdensity.data.declared import Table, require_table
from prefdensity.data.grades import scores
from prefdensity.errors import DataError, ProgramError
from prefdensity.posterior.appraisal import appraisal
from prefdensity.posterior.by_group import Groups, by_group
from prefdensity.posterior.courses import course_of
from prefdensity.posterior.draws import Draws, require_fit, require_level
from prefdensity.posterior.newcomer import given_votes
from prefdensity.posterior.predict import outcome_probabilities
from prefdensity.posterior.signature import Ask, require_same, signature_of
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.loading import load_program, shipped
from prefdensity.shown import shown

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Posterior(Draws):
    """Draws of everything a program leaves unknown, given a table of comparisons, and the questions to them.

    Attributes are those of `draws.Draws`.
    """

    def __repr__(self) -> str:
        return f"Posterior({self.program_name}, {len(self.items)} items, {self.n_draws} draws, {self.status.method})"

    def __str__(self) -> str:
        table = self.summary().head(10).to_string(index=False, float_format=lambda x: f"{x:.3f}")
        return "\n".join([repr(self), table, *self.quality()])

    def _repr_html_(self) -> str:
        return shown("\n".join([repr(self), *self.quality()]), self.summary())

    def to_frame(self) -> pd.DataFrame:
        """Return `summary`."""
        return self.summary()

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return the ranking: one row per item (and type), best first, the largest type first.

        Columns: item, mean (of the centred utility), lower, upper (central interval of probability `level`), sd,
        rank_lower, rank_upper (the same for the rank, 1 = best), p_best, safe and note (see `marks`). For mle the mean
        is the estimate and the rest its asymptotic sampling distribution; for map there is no spread: sd, lower, upper
        and p_best are empty, and both ranks are those of the mode.
        """
        require_level(level)
        draws = self.utilities()
        centre = self._utility(self.point)
        centre = centre - centre.mean(-1, keepdims=True)
        marks = self.marks("utility")
        if draws.ndim == 2:
            frame = self._ranking(draws, centre, level).join(marks)
            return frame.sort_values("mean", ascending=False, ignore_index=True)
        parts = []
        for k in self.types_by_size():
            own = marks.iloc[k * len(self.items) : (k + 1) * len(self.items)].reset_index(drop=True)
            part = self._ranking(draws[:, k], centre[k], level).join(own).sort_values("mean", ascending=False)
            part.insert(0, "type", k + 1)
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    def _ranking(self, draws: Array, centre: Array, level: float) -> pd.DataFrame:
        tails = [(1 - level) / 2, (1 + level) / 2]
        frame = pd.DataFrame({"item": list(self.items)})
        frame["mean"] = centre if self.status.method in ("mle", "map") else draws.mean(0)
        order = (-draws).argsort(1).argsort(1) + 1
        frame["lower"], frame["upper"] = np.quantile(draws, tails, axis=0)
        frame["sd"] = draws.std(0, ddof=1) if len(draws) > 1 else np.nan
        if self.status.method == "mle":  # Wald's intervals
            reach = NormalDist().inv_cdf(tails[1]) * frame["sd"]
            frame["lower"], frame["upper"] = frame["mean"] - reach, frame["mean"] + reach
        ranks = np.quantile(order, tails, axis=0, method="closest_observation")
        frame["rank_lower"], frame["rank_upper"] = ranks.astype(int)
        frame["p_best"] = (order == 1).mean(0)
        if self.is_point:
            frame[["lower", "upper", "p_best"]] = np.nan
        return frame

    def parameters(self, level: float = 0.9) -> pd.DataFrame:
        """Return all that is not an item's utility: tie strength, biases, reliabilities, type weights, ...

        Columns: parameter, index (annotator, type or feature; empty for scalars), mean, lower, upper, sd, safe and note
        (see `marks`), meaning. Of sites at a mode the mean is that of the first member, and there is no interval.
        """
        require_level(level)
        rows = []
        for name, values in self.draws.items():
            if name in ("utility", "type_probability") or name.endswith("_offset"):
                continue
            flat, point = values.reshape(len(values), -1), np.reshape(self.point[name], -1)
            marks = self.marks(name)
            for column, index in enumerate(self._labels(name)):
                rows.append(
                    (
                        name,
                        index,
                        *self._line(flat[:, column], point[column], level, name in self.at_mode),
                        *marks.iloc[column],
                        self.meanings.get(name, ""),
                    )
                )
        columns = ["parameter", "index", "mean", "lower", "upper", "sd", "safe", "note", "meaning"]
        return pd.DataFrame(rows, columns=columns)

    def _line(self, values: Array, point: float, level: float, at_mode: bool) -> tuple[float, ...]:
        if self.is_point or at_mode:
            return (float(point), np.nan, np.nan, np.nan)
        lower, upper = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        mean = point if self.status.method == "mle" else values.mean()
        return (float(mean), float(lower), float(upper), float(values.std(ddof=1)))

    def predict(
        self,
        pairs: pd.DataFrame | Iterable[tuple[str, str]],
        *,
        annotator: str | None = None,
        first: str = "neither",
        at: Mapping[str, Any] | None = None,
        level: float = 0.9,
        seed: int = 0,
    ) -> pd.DataFrame:
        """Return outcome probabilities of pairs of items that are alike in all covariates, with intervals.

        Parameters
        ----------
        pairs
            (item_a, item_b) labels, or a frame with these columns.
        annotator
            Who judges; None: an annotator unknown so far, drawn from the fitted population.
        first
            Which side is shown first: a, b or neither.
        at
            Of further columns that the program reads, the label or the number (or date) asked about, as in
            {"category": "code", "date": "2024-05-31"}; a label that is not given is one that nobody has met, drawn from
            the fitted population, and a number that is not given is at its mean.
        level
            Probability of the central intervals.
        seed
            For annotators and other labels drawn from the population.

        Returns
        -------
        Frame with item_a, item_b and p_a, p_a_lower, p_a_upper, and so on for every outcome.

        Raises
        ------
        DataError
            For an unknown item, annotator or other label, naming it.
        ProgramError
            If the program came from a user's file and was not given when this posterior was loaded.
        """
        require_level(level)
        named = [(str(a), str(b)) for a, b in map(_two, _listed(pairs))]
        table = outcome_probabilities(self, named, annotator, first, seed, at=at or {})
        frame = pd.DataFrame(named, columns=["item_a", "item_b"])
        lower, upper = np.quantile(table, [(1 - level) / 2, (1 + level) / 2], axis=0)
        for k, outcome in enumerate(self.outcomes):
            frame[f"p_{outcome}"] = table[..., k].mean(0)
            frame[f"p_{outcome}_lower"], frame[f"p_{outcome}_upper"] = lower[:, k], upper[:, k]
        return frame

    def win_probabilities(self, items: Sequence[str] | None = None) -> pd.DataFrame:
        """Return item x item: probability that the row is preferred to the column, ties counted half.

        For an annotator drawn from the fitted population and no order; the diagonal is 1/2. At most 200
        draws are used.
        """
        names = list(self.items if items is None else items)
        upper = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
        table = outcome_probabilities(self, upper, None, "neither", 0, most=200).mean(0)
        wins = table @ scores(self.outcomes)
        square = np.full((len(names), len(names)), 0.5)
        square[np.triu_indices(len(names), 1)] = wins
        square[np.tril_indices(len(names), -1)] = 1 - square.T[np.tril_indices(len(names), -1)]
        return pd.DataFrame(square, index=names, columns=names)

    def by(self, label: str, level: float = 0.9, reference: str | None = None) -> Groups:
        """Return a ranking for each group of a label that the program reads, and how far groups differ.

        See `by_group.by_group`.
        """
        return by_group(self, label, level, reference)

    def over(
        self, name: str, at: Sequence[Any] | None = None, level: float = 0.9, reference: str | None = None
    ) -> pd.DataFrame:
        """Return the utilities of the items at some dates, or values of another number that the program reads.

        See `courses.course_of`.
        """
        return course_of(self, name, at, level, reference)

    def given(
        self,
        votes: pd.DataFrame | Iterable[tuple[str, str, str]],
        *,
        name: str = "new",
        known: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Posterior:
        """Return the posterior once one new annotator has judged a few pairs, without fitting anew.

        What they want is found by Newton's method, and every draw of this posterior weighed by how likely it makes
        their judgements (`newcomer`); where the weights cannot be relied on, a warning in its status says so.

        Parameters
        ----------
        votes
            (item_a, item_b, outcome) of each judgement, or a frame with these columns; further columns may be first (a,
            b or neither), count, and labels or numbers of judgements that the program reads, such as category.
        name
            What the annotator is called in the answer, as in ``predict(pairs, annotator="new")``.
        known
            What is known of them, and the program reads: {"age": 30, "language": "de"}. A label that nobody tells is
            one that nobody has met, and a number is at its mean.
        seed
            Of the draws.

        Returns
        -------
        Posterior whose one annotator is the new one; it learns from their judgements about everything else, too.

        Raises
        ------
        DataError
            For an item, outcome or other label that the fit does not know, and fits without a posterior (mle, map) or
            with covariates.
        """
        return replace(self, **given_votes(self, votes, name, known or {}, seed))

    def quality(self) -> list[str]:
        """Return sentences on how far this fit can be trusted."""
        return [sentence for sentence, _ in appraisal(self)]

    def troubles(self) -> list[str]:
        """Return those sentences of `quality` that speak against the fit; none where it stands."""
        return [sentence for sentence, good in appraisal(self) if not good]

    def to_arviz(self) -> Any:
        """Return an ArviZ InferenceData (0.x) or DataTree (1.x) with named dims."""
        from prefdensity.posterior.groups import to_arviz  # xarray is 20 MB that most fits never need

        return to_arviz(self)

    def save(self, path: str | Path) -> Path:
        """Write a netCDF file, atomically: an existing file stays intact if anything fails.

        Of the program it holds the name and a `Signature`; see `load_posterior`.
        """
        from prefdensity.posterior.files import write

        signed = self if self.fitted is None else replace(self, signature=signature_of(self, self.fitted))
        return write(signed, path)


def _listed(pairs: pd.DataFrame | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """Return pairs row by row; refuse a frame that does not name them."""
    if not isinstance(pairs, pd.DataFrame):
        return pairs
    if missing := [each for each in ("item_a", "item_b") if each not in pairs]:
        raise DataError(f"the pairs lack the column {missing[0]!r}; they have {listed(pairs.columns)}")
    return pairs[["item_a", "item_b"]].itertuples(index=False)


def _two(pair: Any) -> Any:
    """Return a pair; refuse what is none, such as one name."""
    if isinstance(pair, str) or not isinstance(pair, Sized) or len(pair) != 2:
        raise DataError(f"{pair!r} is no pair of items; give pairs as in [('elm', 'fir')]")
    return pair


def require_same_table(post: Posterior, data: Table) -> None:
    """Raise `DataError` unless `data` is the table that `post` was fitted to."""
    require_fit(post)
    require_table(data)
    found = data.fingerprint()
    if post.data_fingerprint != found:
        raise DataError(
            f"{data.source} is not the table of this fit (fingerprint {found}, not {post.data_fingerprint}); "
            "give the same file with the same columns, labels and treatment of ties"
        )


def load_posterior(path: str | Path, program: str | Path | Program | Layer | None = None) -> Posterior:
    """Return the posterior that `Posterior.save` wrote; nothing in the file is executed, nor any file that it names.

    Parameters
    ----------
    path
        The file.
    program
        The program that was fitted, or the path of its file, where it is not made of shipped layers alone. Without it
        such a posterior can be read (`summary`, `parameters`), not asked.

    Raises
    ------
    DataError
        If the file is missing, damaged, or not one of ours.
    ProgramError
        If `program` is not the one that was fitted.
    """
    from prefdensity.posterior.files import read

    return attached(read(path, Posterior), path, None if program is None else load_program(program))


def attached(post: Posterior, path: str | Path, program: Program | None = None, ask: Ask | None = None) -> Posterior:
    """Return a posterior that was read from a file with its program, or with the reason why that is not at hand.

    Parameters
    ----------
    post, path
        What was read, and from where.
    program
        What was given; None: found by its name, if that spells it by shipped layers alone.
    ask
        As in `signature_of`.

    Raises
    ------
    ProgramError
        If `program` is not the one that was fitted, saying what differs.
    """
    if program is not None:
        require_same(post, program, ask)
        return replace(post, fitted=program)
    if post.signature is None or not post.signature.by_name:
        why = "is not made of shipped layers alone, and a file holds no code; files are not run unasked"
        return replace(post, missing=_how(post, path, why))
    try:
        found = shipped(post.program_name)
        require_same(post, found, ask)
    except ProgramError as error:
        return replace(post, missing=_how(post, path, f"is not the one of that name here ({error})"))
    return replace(post, fitted=found)


def _how(post: Posterior, path: str | Path, why: str) -> str:
    return (
        f"the program {post.program_name} of this posterior {why}; give it once, when loading {path}: program=..., the "
        "program or the path of its file (--model on the command line)"
    )
