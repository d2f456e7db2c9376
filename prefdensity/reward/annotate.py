"""`annotate`: the user's own rows with what a fitted program says of each label."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prefdensity.data.comparisons import Comparisons
from prefdensity.data.grades import scores, verdict
from prefdensity.errors import DataError, require_whole
from prefdensity.inference.fitting import fit_again
from prefdensity.posterior.posterior import Posterior, require_same_table
from prefdensity.posterior.psis import USABLE, smooth
from prefdensity.posterior.questions import draws_of, given_to
from prefdensity.programs.cells import Cells
from prefdensity.programs.defaults import NOISE
from prefdensity.programs.tabulate import cells_of
from prefdensity.progress import Report, progress as show_progress
from prefdensity.reward.meant import as_meant, channel, flipped, noise_of, table_of
from prefdensity.reward.own_rows import beside, own_rows

Array = NDArray[Any]

_PASS = 8_000_000  # draws x types x cells x outcomes at a time
_REFITS = 5
_LEFT_OUT, _REFITTED, _ROUGH = "leave-one-out", "cross-fitted", "rough"


def annotate(
    dataset: Any, post: Posterior, *, ties: str = "error", repeats: str = "all", refits: int = _REFITS,
    prefix: str = "", seed: int = 0, progress: bool | None = None, **reading: Any,
) -> Any:  # fmt: skip
    """Return the user's rows, all columns kept, with what a fitted program says of each label.

    Parameters
    ----------
    dataset
        What was fitted: whatever `prefdensity.read` takes (a file, a data frame, a `datasets.Dataset`, ...), or
        `Comparisons`.
    post
        A fit of it. What is meant and what is recorded differ by the noise layers of its program (`flips`, `lapse`,
        `crowd_bt`, or the user's own).
    ties, repeats
        What was done to the table before the fit: ties="half" or "drop" for `ties_as_half_wins` and `without_ties`,
        repeats="once" for `repeats_once`.
    refits
        Rows whose leave-one-out weights are unreliable (k-hat above .7) are predicted by refits without them, at most
        so many; 0: not at all.
    prefix
        Put before the names of the new columns.
    seed, progress
        Of refits, and of annotators drawn from the fitted population; a progress bar (None: where a person watches).
    **reading
        Arguments of `prefdensity.read`, as they were for the fit.

    Returns
    -------
    A data frame, or a `datasets.Dataset` if that came in, with the columns of `Labels`. Rows that are no comparison,
    such as those dropped on request, have empty cells. `attrs["notes"]` of the frame says in words what was dropped and
    how labels were left out.

    Raises
    ------
    DataError
        If the table is not the one that was fitted, there is no posterior (mle, map), the table has a column of one of
        the new names, or one row holds several comparisons.
    ProgramError
        If a noise layer is no channel from what is meant to what is recorded.

    Warns
    -----
    UserWarning
        If leave-one-out is unreliable for some rows and `refits` is 0.
    """
    require_whole("seed", seed, 0)
    frame, data, at = own_rows(dataset, ties, repeats, **reading)
    with show_progress(progress) as report:
        found = labels_of(post, data, refits=refits, seed=seed, report=report)
    table = beside(frame, at, found.columns, prefix)
    notes = list(found.notes)
    if len(at) < len(frame):
        notes.insert(0, f"{len(frame) - len(at)} of {len(frame)} rows are no comparison of the fit: empty cells")
    table.attrs["notes"] = tuple([*data.notes, *notes])
    if not (hasattr(dataset, "add_column") and hasattr(dataset, "features")):
        return table
    for name in table.columns[len(frame.columns) :]:
        dataset = dataset.add_column(name, table[name].to_numpy())
    return dataset


@dataclass(frozen=True, eq=False)
class Labels:
    """What a program says of the labels of a table: columns [comparison] by name, and notes in words.

    - p_flipped: probability that another outcome was meant than the one recorded, given all labels; empty if the
      program has no noise layer, under which every label is meant. It needs no leaving out: by Bayes' theorem the
      posterior mean of P(flipped | label, draw) is the probability of a flip from a posterior that has not seen the
      label, given the label.
    - p_recorded: probability of the recorded outcome for who judged, had the label not been seen.
    - soft_label, soft_label_sd: probability that another annotator, of whom nothing is known, means side a (ties count
      half), and its posterior standard deviation; the label not seen.
    - margin: posterior mean of the log odds of a over b of such an annotator; the label not seen.
    - disagreement: probability that two such annotators give different answers; the label not seen.
    - weight: how many judgements that were meant the row is expected to hold, count * (1 - p_flipped).
    - annotator_type, p_type: the likeliest type of the annotator and its probability, if annotators have types.
    - out_of_sample: how the label was left out, "leave-one-out" (importance weights), "cross-fitted", or "rough"
      (unreliable weights, no refits).
    """

    columns: dict[str, Array]
    notes: tuple[str, ...]


def labels_of(post: Posterior, data: Comparisons, *, refits: int, seed: int, report: Report) -> Labels:
    """Return what a fitted program says of every label of the comparisons it was fitted to; see `annotate`."""
    require_same_table(post, data)
    if post.is_point or post.status.method == "mle":
        raise DataError(f"{post.status.method} gives no posterior; fit with laplace, svi or nuts to annotate")
    if data.outcome is None:
        raise DataError("these pairs have no outcomes yet, so there are no labels")
    if not (isinstance(refits, int) and refits >= 0):
        raise DataError(f"refits={refits!r} must be a whole number, 0 for none")
    values, k_hat, wrong = _of_rows(post, data, seed, report)
    bad = np.flatnonzero(~(k_hat <= USABLE) | bool(post.at_mode))  # no weights take a label out of what is at a mode
    how = np.full(len(data), _LEFT_OUT, dtype=object)
    how[bad] = _REFITTED if refits else _ROUGH
    if len(bad) and refits:
        _refit(post, data, bad, values, refits, seed, report)
    if len(bad) and not refits:
        warnings.warn(
            f"{len(bad)} of {len(data)} rows have a k-hat above {USABLE}, so what is said of them without their label "
            "is rough; set refits=5",
            stacklevel=3,
        )
    notes = [f"{int((how == words).sum())} labels left out: {words}" for words in dict.fromkeys(how)]
    if noise_of(post.program):
        low, high = np.quantile(wrong, [0.05, 0.95])
        notes.append(f"flipped labels: {wrong.mean():.1f} expected, 90 % interval {low:.1f} to {high:.1f}")
    else:
        notes.append(
            f"{post.program_name} takes every label as meant, so none can be flipped: p_flipped is empty; fit it with "
            f"a noise layer, as in {post.program_name}+{NOISE}"
        )
    values["weight"] = data.count * (1 - np.nan_to_num(values["p_flipped"]))
    if data.annotator is not None and "type_probability" in post.draws:
        share = post.draws["type_probability"].mean(0)[data.annotator]
        values["annotator_type"], values["p_type"] = share.argmax(1) + 1, share.max(1)
    values["out_of_sample"] = how
    return Labels(values, tuple(notes))


_NAMES = ("p_flipped", "p_recorded", "soft_label", "soft_label_sd", "margin", "disagreement")


def _of_rows(post: Posterior, data: Comparisons, seed: int, report: Report) -> tuple[dict[str, Array], Array, Array]:
    """Return columns [comparison], each label left out by importance weights, k-hat [comparison] and expected flips.

    Flips [draw] are those expected in all rows by every draw.
    """
    cells = cells_of(data, post.outcomes, post.program.needs)
    assert cells.term is not None  # the data have outcomes
    size = len(post.outcomes)
    once = np.minimum(data.count, 1.0)  # half a judgement is left out where there is no more
    key, of_row = np.unique(np.stack([cells.term.numpy(), once]), axis=1, return_inverse=True)
    term, power = key[0].astype(np.int64), key[1]
    whole = _said_by_annotators(post, cells)
    found = np.empty((len(_NAMES) + 1, len(term)))
    often, wrong = np.bincount(of_row.ravel()), np.zeros(post.n_draws)
    for start, part in _blocks(cells, post):
        report("labels", start, len(cells))
        rows = np.flatnonzero((term // size >= start) & (term // size < start + len(part)))
        if len(rows):
            asked = _Asked.of(post, part, whole, seed)
            cell, outcome = term[rows] // size - start, term[rows] % size
            found[:, rows] = asked.left_out(cell, outcome, power[rows])
            wrong += asked.flips(cell, outcome, often[rows])
    columns = found[:, of_row.ravel()]
    return _turned(dict(zip(_NAMES, columns[:-1], strict=True)), data), columns[-1], wrong


def _blocks(cells: Cells, post: Posterior) -> Iterator[tuple[int, Cells]]:
    types = post.draws["type_weight"].shape[1] if "type_weight" in post.draws else 1
    step = max(1, _PASS // (post.n_draws * types * len(post.outcomes)))
    for start in range(0, len(cells), step):
        yield start, cells.take(torch.arange(start, min(start + step, len(cells)))).to(post.device)


def _said_by_annotators(post: Posterior, cells: Cells) -> Tensor | None:
    """Return the log likelihood [draw, type, annotator] of all that annotators said; None unless they have types."""
    if not post.program.annotators_have_types:
        return None
    assert cells.annotator is not None  # types are refused without annotators
    total: Tensor | None = None
    for _, part in _blocks(cells, post):
        assert part.outcome is not None
        assert part.annotator is not None  # parts of the same table
        said = (table_of(post, part)[0] * part.outcome).sum(-1)
        own = said.new_zeros(*said.shape[:2], cells.n_annotators).index_add(-1, part.annotator, said)
        total = own if total is None else total + own
    return total


def _turned(columns: dict[str, Array], data: Comparisons) -> dict[str, Array]:
    """Return columns about side a as recorded: cells have the smaller code on side a."""
    flip = data.item_a > data.item_b
    columns["soft_label"] = np.where(flip, 1 - columns["soft_label"], columns["soft_label"])
    columns["margin"] = np.where(flip, -columns["margin"], columns["margin"])
    return columns


@dataclass(frozen=True, eq=False)
class _Asked:
    """What every draw says of some cells.

    `recorded` and `wrong` [draw, type, cell, outcome] are P(recorded) and P(recorded, and another was meant), `share`
    [draw, type, cell] log shares of who judged's types, had they said nothing (`whole` None) or all they said (see
    `_said_by_annotators`); `score`, `margin` and `differ` [draw, cell] are about somebody new.
    """

    recorded: Tensor
    wrong: Tensor | None
    share: Tensor | None
    seen: bool
    score: Tensor
    margin: Tensor
    differ: Tensor

    @classmethod
    def of(cls, post: Posterior, cells: Cells, whole: Tensor | None, seed: int) -> _Asked:
        """Ask a posterior; `whole`: what annotators said of everything, with these cells; None: of the fit's table."""
        recorded, weight = table_of(post, cells)
        ideal, wrong = as_meant(post), None
        meant = recorded if ideal is post else table_of(ideal, cells)[0]
        if ideal is not post:
            wrong = flipped(recorded, meant, channel(post, cells), post.program)
        share = None
        if weight is not None:
            assert cells.annotator is not None  # types are refused without annotators
            if whole is None:
                share = draws_of(post, "type_probability").log().transpose(1, 2)[..., cells.annotator]
            else:
                share = (whole + weight)[..., cells.annotator]
        one, other = _somebody_new(ideal, cells, meant, weight, seed)
        return cls(
            recorded=recorded,
            wrong=wrong,
            share=share,
            seen=whole is not None,
            score=one.exp() @ torch.tensor(scores(post.outcomes)).to(one),
            margin=_pooled(one, post.outcomes, "a") - _pooled(one, post.outcomes, "b"),
            differ=1 - (one + other).exp().sum(-1),
        )

    def left_out(self, cell: Array, outcome: Array, power: Array) -> Array:
        """Return the columns of `_NAMES` and k-hat [column, term] of labels left out by importance weights."""
        at, said = torch.as_tensor(np.stack([cell, outcome])).to(self.score.device)
        label, wrong = self._of_labels(at, said)
        weight, k_hat = smooth(-(label * torch.tensor(power).to(label)).T.contiguous())
        weight = weight.exp()
        flipped = torch.full_like(k_hat, torch.nan) if wrong is None else (wrong / label.exp()).mean(0)
        return torch.stack([flipped, *self._averaged(weight, label, at), k_hat]).cpu().numpy()

    def flips(self, cell: Array, outcome: Array, often: Array) -> Array:
        """Return how many of labels, each so often, were flipped by what every draw expects [draw]; 0 without noise."""
        at, said = torch.as_tensor(np.stack([cell, outcome])).to(self.score.device)
        label, wrong = self._of_labels(at, said)
        if wrong is None:
            return np.zeros(len(label))
        return ((wrong / label.exp()) @ torch.as_tensor(often).to(label)).cpu().numpy()

    def held_out(self, cell: Array, outcome: Array) -> Array:
        """Return the columns of `_NAMES` [column, term] of labels that the fit has not seen."""
        at, said = torch.as_tensor(np.stack([cell, outcome])).to(self.score.device)
        label, wrong = self._of_labels(at, said)
        weight = label.new_full((len(cell), len(label)), 1 / len(label))
        flipped = torch.full_like(label[0], torch.nan) if wrong is None else wrong.mean(0) / label.exp().mean(0)
        return torch.stack([flipped, *self._averaged(weight, label, at)]).cpu().numpy()

    def _of_labels(self, cell: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return log P(label | what else its annotator said) and P(label, flipped | the same) [draw, term]."""
        label = self.recorded[:, :, cell, outcome]
        wrong = None if self.wrong is None else self.wrong[:, :, cell, outcome]
        if self.share is None:
            return label[:, 0], None if wrong is None else wrong[:, 0]
        rest = self.share[..., cell] - (label if self.seen else 0.0)
        rest = rest.log_softmax(1)
        return (rest + label).logsumexp(1), None if wrong is None else (rest.exp() * wrong).sum(1)

    def _averaged(self, weight: Tensor, label: Tensor, cell: Tensor) -> Iterator[Tensor]:
        """Yield p_recorded, soft_label, its sd, margin and disagreement by weights [term, draw]."""
        yield (weight * label.exp().T).sum(1)
        score = self.score.T[cell]
        mean = (weight * score).sum(1)
        yield mean
        yield (weight * (score - mean[:, None]) ** 2).sum(1).sqrt()
        yield (weight * self.margin.T[cell]).sum(1)
        yield (weight * self.differ.T[cell]).sum(1)


def _pooled(log_prob: Tensor, outcomes: tuple[str, ...], side: str) -> Tensor:
    """Return the log probability [...] of a side, whatever its strength, from those of outcomes [..., outcome]."""
    return log_prob[..., [k for k, each in enumerate(outcomes) if verdict(each) == side]].logsumexp(-1)


def _somebody_new(
    ideal: Posterior, cells: Cells, own: Tensor, weight: Tensor | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Return log probabilities [draw, cell, outcome] of what two annotators mean of whom nothing is known."""
    given = given_to(ideal, cells, ["annotator"])
    if weight is not None:
        mixed = [(own + _in_general(weight)).logsumexp(1)] * 2
    else:
        mixed = [own[:, 0]] * 2
    if len(given) == len(ideal.drawn):
        return mixed[0], mixed[1]
    found = []
    for k in (0, 1):
        table, weight = table_of(ideal, cells, given, seed=2 * seed + k)
        found.append(table[:, 0] if weight is None else (table + _in_general(weight)).logsumexp(1))
    return found[0], found[1]


def _in_general(weight: Tensor) -> Tensor:
    """Return log shares [draw, type, 1, 1] of types among all annotators, of those by annotator [draw, type, one]."""
    return weight.exp().mean(-1).log()[..., None, None]


def _refit(
    post: Posterior, data: Comparisons, bad: Array, values: dict[str, Array], refits: int, seed: int, report: Report
) -> None:
    """Put into `values` what refits without the rows `bad` say of them; p_flipped needs no leaving out."""
    fold = np.random.default_rng(seed).permutation(np.arange(len(bad)) % min(refits, len(bad)))
    for k in range(int(fold.max()) + 1):
        report("refits", k, int(fold.max()) + 1)
        out = bad[fold == k]
        kept = np.setdiff1d(np.arange(len(data)), out)
        part = fit_again(post, data.take(kept), seed=seed)
        left = data.take(out)
        cells = cells_of(left, post.outcomes, post.program.needs)
        assert cells.term is not None  # the data have outcomes
        term, size = cells.term.numpy(), len(post.outcomes)
        columns = _Asked.of(part, cells.to(part.device), None, seed).held_out(term // size, term % size)
        for name, column in _turned(dict(zip(_NAMES, columns, strict=True)), left).items():
            if name != "p_flipped":
                values[name][out] = column
