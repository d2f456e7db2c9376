"""Whether a program can be fitted to a table: refusals in words, and warnings worth repeating."""

from __future__ import annotations

import numpy as np

from prefdensity.data.choices import Choices
from prefdensity.data.comparisons import Comparisons
from prefdensity.data.declared import ROW, Held, require_table
from prefdensity.errors import ProgramError
from prefdensity.programs.cells import CODED
from prefdensity.programs.defaults import GRADES
from prefdensity.programs.layers import Layer, Program
from prefdensity.programs.shelf import set_rules, tie_rules
from prefdensity.programs.standardised import spread

_WANTED = {
    "annotator": "needs to know who judged; name the annotator column with annotator=...",
    "first": (
        "needs to know which item was shown first, and the data do not say; if item_a was, say ordered=True "
        "(--ordered), or name a column with first=..."
    ),
    "features": "needs item features; give them with item_features=...",
    "ratings": "needs ratings of the items; add them with prefdensity.with_ratings(data, frame)",
    "grades": (
        "needs strengths of preference, and the data record none; name their column with strength=... (--strength)"
    ),
    "measures": "needs item measures such as lengths; give them with item_measures=... (--item-measures)",
    "covariates": "needs comparison covariates; name them with covariates=...",
    "context": "needs the context of each judgement; name its column with context=...",
}
# Columns that programs call otherwise than tables, and what they describe.
_TIMES = 4  # pairs for each feature, among which all directions mostly differ if they do anywhere
_COLUMN = {"features": ("item_features", "item"), "measures": ("item_measures", "item"), "grades": ("grade", ROW)}


def suit(program: Program, data: Comparisons | Choices) -> list[str]:
    """Return warnings about fitting `program` to `data`.

    Raises
    ------
    DataError
        When the data are no table that was read.
    ProgramError
        When the data lack what the program needs, hold outcomes it cannot express, or cannot identify it.
    """
    require_table(data)
    if data.SETS:
        _require_sets(program)
    if any(each.stage == "judge" for each in program.layers):
        raise ProgramError(f"{program.name} explains labels and verdicts of judged units; fit it with fit_judge")
    for need in program.needs:
        if need.startswith(CODED):
            _require_levels(program, data, need.removeprefix(CODED))
        elif not _has(data, need):
            raise ProgramError(f"{program.name} {_wanted(data, need)}")
        else:
            _require_course(program, data, need)
    if _has(data, "grades") and "grades" not in program.needs:
        raise ProgramError(
            f"{program.name} knows no strength of preference, and the data record {len(data.grades) // 2} strengths; "
            f"fit {GRADES}, or let who won alone count: data.without_strength() (--strength-dropped)"
        )
    warnings = _one_label(program, data)
    if data.n_ties and "tie" not in program.outcomes:
        raise ProgramError(
            f"{program.name} has no tie, and {data.n_ties:g} of {data.n_judgements:g} judgements are ties; add a "
            f"tie rule ({tie_rules()}), or recode them yourself: data.ties_as_half_wins() (--ties half) or "
            "data.without_ties() (--ties drop)"
        )
    if "grades" in program.needs and "tie" not in data.grades:
        _require_no_tie_layer(program)
    elif "tie" in program.outcomes and data.n_ties == 0:
        warnings.append(f"There are no ties, so the tie parameter of {program.name} is near the low end of its prior.")
    if np.any(data.count != np.round(data.count)):
        warnings.append(
            "Counts are fractional, half wins or weights: a convention, not a likelihood, so intervals are approximate."
        )
    if program.type_layer is not None:
        _require_types(program.type_layer, data)
    described = any(each.stage == "utility" and "features" in each.needs for each in program.layers)
    if "first" in program.needs and not described:
        _require_order(program, data.pairs())
    if "features" in program.needs:
        warnings += _feature_warnings(data)
    if "covariates" in program.needs:
        warnings += _covariate_warnings(data.pairs())
    behaviour = next((each.label for each in program.layers if each.stage == "behaviour"), None)
    if behaviour is not None:
        warnings.append(f"Utilities are log densities under {behaviour}: predict() says who wins, not their order.")
    may_be_unused = ("features", "covariates", "ratings", "measures")
    carried = [name for name in may_be_unused if _has(data, name) and name not in program.needs]
    warnings += [f"{program.name} does not use the {name} that the data carry." for name in carried]
    return warnings


def _has(data: Comparisons | Choices, need: str) -> bool:
    """Say whether a table has what a program needs: a column, or an attribute as in "annotator.age"."""
    if need == "ratings":
        return data.ratings is not None
    return need in _COLUMN and data.column(*_COLUMN[need]) is not None or _held(data, need) is not None


def _held(data: Comparisons | Choices, name: str) -> Held | None:
    """Return the column of rows, or the attribute, that a program calls so."""
    per, _, own = data.full_name(name).rpartition(".")
    return data.column(own, per or ROW)


def _one_label(program: Program, data: Comparisons | Choices) -> list[str]:
    """Return a warning of each label that the program reads and that is one throughout."""
    found = []
    for need in program.needs:
        held = None if need.startswith(CODED) else _held(data, need)
        if held is not None and held.column.kind == "label" and len(np.unique(held.values)) == 1:
            only = held.words[int(held.values[0])]
            found.append(
                f"{program.name} reads {need!r}, and all is of one, {only!r}: what is its own cannot be told from what "
                "is common to all, and the prior parts them."
            )
    return found


def _require_levels(program: Program, data: Comparisons | Choices, name: str) -> None:
    """Refuse to regress on what does not differ, or on what describes items."""
    full = data.full_name(name)
    per = full.rpartition(".")[0]
    held = _held(data, name)
    if per == "item":
        raise ProgramError(f"{program.name} regresses on {full!r}, which describes items; give it as item_features=...")
    if held is not None and len(np.unique(held.values)) < 2:
        raise ProgramError(f"{program.name} regresses on {name!r}, and the data have one value of it; leave it out")


def _require_course(program: Program, data: Comparisons | Choices, need: str) -> None:
    """Refuse a number that users named and that is the same throughout."""
    held = _held(data, need)
    if held is not None and held.unit is not None and len(held.values) and np.ptp(held.values) == 0:
        raise ProgramError(f"{program.name} reads {need!r}, and the data have one value of it; leave it out")


def _wanted(data: Comparisons | Choices, need: str) -> str:
    if need in _WANTED:
        return _WANTED[need]
    per, _, name = need.rpartition(".")
    if per:
        given = f"attributes={{{per!r}: ...}} (--attributes {per}=FILE)"
        return f"needs to know {name!r} of every {per}; give a table with that column by {given}"
    named = [each.column.name for each in data.more if each.column.per == ROW]
    return (
        f"needs the column {need!r}, and the table was read with {', '.join(named) or 'no such columns'}; name it with "
        f"groups=[{need!r}] (--group {need}) if it holds labels, or numbers=[{need!r}] (--number {need}) if it holds "
        "numbers or dates"
    )


def _require_no_tie_layer(program: Program) -> None:
    for each in program.layers:
        if each.ties:
            raise ProgramError(f"{each.label} is about ties, and the grades of the data hold none; leave it out")


def _require_sets(program: Program) -> None:
    """Refuse what says nothing about choices from more than two items."""
    if not program.layers:
        raise ProgramError(f"{program.name} is a plain Pyro function of pairs; choices need layers: {set_rules()}")
    for each in program.layers:
        comparisons_only = each.stage in ("margin", "choice", "noise") and not each.sets
        if comparisons_only or (each.stage == "types" and each.per != "annotator"):
            raise ProgramError(
                f"{each.label} is about pairs, and these data are choices from sets; use {set_rules()}, with a utility "
                "and what says of itself that it goes with sets"
            )


def _require_types(types: Layer, data: Comparisons | Choices) -> None:
    key, k = next((each for each in types.options if each[0] != "on"), ("k", 2))
    if not isinstance(k, int) or k < 1:
        raise ProgramError(f"{types.name} takes a whole number of types, {key}=1 or more, not {key}={k!r}")
    if types.per == "annotator" and k > len(data.annotators):
        raise ProgramError(f"{types.label} has more types than the {len(data.annotators)} annotators of the data")


def _require_order(program: Program, data: Comparisons) -> None:
    """Refuse an order effect that utilities of single items could stand for exactly."""
    from scipy.sparse import csr_matrix  # slow to load, as in `data.report`
    from scipy.sparse.linalg import lsqr

    assert data.first is not None
    first = data.first.astype(float)
    if not first.any():
        raise ProgramError(
            f"{program.name}: no comparison says which item was shown first, so there is no order effect"
        )
    pairs, index = np.unique(np.stack([data.item_a, data.item_b, data.first], 1), axis=0, return_index=True)
    rows = np.arange(len(pairs))
    ones = np.ones(len(pairs))
    design = csr_matrix(
        (np.r_[ones, -ones], (np.r_[rows, rows], np.r_[pairs[:, 0], pairs[:, 1]])),
        (len(pairs), len(data.items)),
    )
    target = first[index]
    rest = target - design @ lsqr(design, target, atol=1e-10, btol=1e-10, iter_lim=2000)[0]
    if np.abs(rest).max() < 1e-6:
        raise ProgramError(
            f"{program.name}: the order effect is not identified: which item was shown first follows from the items "
            "themselves (no pair or cycle of items was shown in both orders)"
        )


def _feature_warnings(data: Comparisons | Choices) -> list[str]:
    assert data.item_features is not None
    table, unit = data.item_features, spread(data.item_features).astype(np.float64)
    implied = data.pairs()
    pairs = np.unique(np.stack([implied.item_a, implied.item_b], 1), axis=0)
    columns = table.shape[1]
    every = 1 + len(pairs) // (_TIMES * columns)
    for some in (pairs[::every], pairs)[: 2 if every > 1 else 1]:  # a few of many mostly differ in all
        rank = _rank((table[some[:, 0]] - table[some[:, 1]]) / unit)
        if rank == columns:
            return []
    return [
        f"Only {rank} of {columns} feature directions differ within the compared pairs; the other weights are set by "
        "their prior alone."
    ]


def _rank(matrix: np.ndarray) -> int:
    """Return the rank of a matrix, by a factorisation that takes a third of the time of singular values."""
    from scipy.linalg import qr

    pivots = np.abs(np.diagonal(qr(matrix, mode="r", pivoting=True, check_finite=False)[0]))
    return int((pivots > pivots.max(initial=0.0) * max(matrix.shape) * np.finfo(matrix.dtype).eps).sum())


def _covariate_warnings(data: Comparisons) -> list[str]:
    """Say which covariates can teach nothing, are the same, or decide every judgement that they speak to."""
    assert data.covariates is not None
    assert data.covariate_scale is not None
    table, names, found = data.covariates / data.covariate_scale, data.covariate_names, []
    for name, column in zip(names, table.T, strict=True):
        if not column.any():
            found.append(f"The covariate {name!r} is 0 in every row; its effect is that of the prior alone.")
        elif _separates(column, data.outcome):
            found.append(
                f"The covariate {name!r} separates the judgements: whenever it is not 0, the side it speaks for wins "
                "(or always loses), so the size of its effect is set by the prior."
            )
    kept = [k for k in range(len(names)) if table[:, k].any()]
    for place, k in enumerate(kept):
        twin = next((m for m in kept[:place] if _parallel(table[:, k], table[:, m])), None)
        if twin is not None:
            found.append(
                f"The covariates {names[twin]!r} and {names[k]!r} are multiples of each other; only the sum of their "
                "effects is known, leave one out."
            )
    distinct = np.unique(table[:, kept], axis=0)
    if not any("multiples" in each for each in found) and np.linalg.matrix_rank(distinct) < len(kept):
        listed = ", ".join(names[k] for k in kept)
        found.append(f"The covariates {listed} are linearly dependent; their single effects are set by the prior.")
    return found


def _separates(column: np.ndarray, outcome: np.ndarray | None) -> bool:
    if outcome is None:
        return False
    spoken = column != 0
    lead = np.array([1.0, -1.0, 0.0])[outcome[spoken]] * np.sign(column[spoken])
    return bool(spoken.sum() > 1 and (lead == lead[0]).all() and lead[0] != 0)


def _parallel(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.allclose(one, other, atol=1e-9) or np.allclose(one, -other, atol=1e-9))
