"""Simulated annotator populations with known truth; numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from prefdensity.data.comparisons import OUTCOMES, Comparisons
from prefdensity.errors import DataError, require_whole

_ASSISTANTS = (
    *("Alder", "Aspen", "Birch", "Cedar", "Elder", "Elm", "Fir", "Hazel", "Holly", "Juniper"),
    *("Larch", "Linden", "Maple", "Oak", "Pine", "Poplar", "Rowan", "Spruce", "Willow", "Yew"),
)


@dataclass(frozen=True, eq=False)
class Truth:
    """What a simulated table was drawn from.

    Attributes
    ----------
    utilities
        float64 [type, item], in the order of `Comparisons.items`.
    type_weight
        float64 [type], the probabilities from which the types of the annotators were drawn.
    annotator_type
        int64 [annotator].
    reliability
        float64 [annotator]: multiplies the difference of the utilities; 0 = does not look at the items.
    tie_strength
        Davidson's nu, or None where no tie is offered.
    position_bias
        Added to the logit of the item shown first.
    lapse
        Probability of an answer drawn uniformly from those offered.
    """

    utilities: NDArray[np.float64]
    type_weight: NDArray[np.float64]
    annotator_type: NDArray[np.int64]
    reliability: NDArray[np.float64]
    tie_strength: float | None
    position_bias: float
    lapse: float

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that annotators may answer."""
        return OUTCOMES[:2] if self.tie_strength is None else OUTCOMES

    def probabilities(self, data: Comparisons) -> NDArray[np.float64]:
        """Return [comparison, outcome]: the probability of each of `outcomes` in each row of `data`.

        Raises
        ------
        DataError
            If `data` lacks the annotators, or the order that a position bias acts on.
        """
        if data.annotator is None:
            raise DataError("these probabilities depend on who judges; the table has no annotators")
        if data.first is None and self.position_bias != 0:
            raise DataError("a position bias acts on the item shown first; the table records no order")
        first = np.zeros(len(data)) if data.first is None else data.first
        return self._probabilities(data.item_a, data.item_b, data.annotator, first)

    def _probabilities(
        self,
        item_a: NDArray[np.int64],
        item_b: NDArray[np.int64],
        annotator: NDArray[np.int64],
        first: NDArray[np.float64] | NDArray[np.int8],
    ) -> NDArray[np.float64]:
        kind = self.annotator_type[annotator]
        difference = self.utilities[kind, item_a] - self.utilities[kind, item_b]
        margin = self.reliability[annotator] * difference + self.position_bias * first
        # the weights p_a : p_b : nu sqrt(p_a p_b), all divided by the larger of the first two
        weight = np.empty((len(margin), len(self.outcomes)))
        weight[:, 0] = np.exp(np.minimum(margin, 0))
        weight[:, 1] = np.exp(-np.maximum(margin, 0))
        if self.tie_strength is not None:
            weight[:, 2] = self.tie_strength * np.exp(-np.abs(margin) / 2)
        share = weight / weight.sum(1, keepdims=True)
        return (1 - self.lapse) * share + self.lapse / len(self.outcomes)


def population(
    n_items: int, n_annotators: int, n_comparisons: int, *, seed: int | np.random.Generator = 0,
    utility_sd: float = 1.0, tie_strength: float | None = None, position_bias: float = 0.0,
    reliability_sd: float = 0.0, lapse: float = 0.0, n_types: int = 1, type_weight: Sequence[float] | None = None,
    n_careless: int = 0, ordered: bool = True, items: Sequence[str] | None = None,
) -> tuple[Comparisons, Truth]:  # fmt: skip
    """Simulate annotators who judge pairs drawn uniformly, each pair by one annotator drawn uniformly.

    The logit of a against b is reliability_j (u_a - u_b) + position_bias first. Ties follow Davidson (1970),
    Journal of the American Statistical Association 65, 317-328, with weights p_a : p_b : nu sqrt(p_a p_b).

    Parameters
    ----------
    n_items, n_annotators, n_comparisons
        Sizes.
    seed
        An integer, or a generator that is then advanced.
    utility_sd
        Utilities are normal with this standard deviation, independent between types.
    tie_strength
        Davidson's nu > 0; None offers no tie.
    position_bias
        Advantage in logits of the item shown first, which is `item_a` in every row.
    reliability_sd, n_careless
        The logarithm of an annotator's reliability is normal with mean 0 and this standard deviation; the last so many
        annotators have reliability 0.
    lapse
        Probability of an answer drawn uniformly from those offered.
    n_types, type_weight
        Annotator types, each with its own utilities, and their probabilities (default: equal).
    ordered
        False keeps from the table that `item_a` was shown first; a position bias acts all the same.
    items
        Distinct labels; they are sorted. Default: item1, item2, ...

    Returns
    -------
    Comparisons whose vocabulary holds all items and annotators, also those never drawn; and the Truth.

    Raises
    ------
    DataError
        If an argument is out of range.
    """
    require_whole("seed", seed, 0)
    _require_sizes(n_items=(n_items, 2), n_annotators=(n_annotators, 1), n_comparisons=(n_comparisons, 1))
    _require_sizes(n_types=(n_types, 1), n_careless=(n_careless, 0))
    _require_rates(utility_sd, reliability_sd, tie_strength, position_bias, lapse)
    if n_careless > n_annotators:
        raise DataError(f"n_careless={n_careless} exceeds the {n_annotators} annotators")
    weight, labels = _weights(type_weight, n_types), _items(items, n_items)
    rng = np.random.default_rng(seed)
    reliability = np.exp(reliability_sd * rng.standard_normal(n_annotators))
    reliability[n_annotators - n_careless :] = 0
    utilities = utility_sd * rng.standard_normal((n_types, n_items))
    kinds = rng.choice(n_types, n_annotators, p=weight)
    truth = Truth(utilities, weight, kinds, reliability, tie_strength, position_bias, lapse)
    return _judgements(truth, labels, n_comparisons, ordered, rng), truth


def _judgements(
    truth: Truth, labels: tuple[str, ...], n_comparisons: int, ordered: bool, rng: np.random.Generator
) -> Comparisons:
    """Return what the annotators of a truth say of pairs drawn uniformly."""
    n_items, n_annotators = len(labels), len(truth.reliability)
    item_a = rng.integers(n_items, size=n_comparisons)
    item_b = rng.integers(n_items - 1, size=n_comparisons)
    item_b += item_b >= item_a  # uniform over the other items
    annotator = rng.integers(n_annotators, size=n_comparisons)
    first = np.ones(n_comparisons, np.int8)
    below = truth._probabilities(item_a, item_b, annotator, first).cumsum(1)[:, :-1]
    return Comparisons(
        items=labels,
        item_a=item_a,
        item_b=item_b,
        outcome=(rng.random((n_comparisons, 1)) >= below).sum(1).astype(np.int8),
        count=np.ones(n_comparisons),
        annotators=_labels("annotator", n_annotators),
        annotator=annotator,
        first=first if ordered else None,
        source="simulated population",
    )


def example() -> tuple[Comparisons, Truth]:
    """Return the simulated table behind "example:annotators", and its truth.

    20 invented assistants, 40 annotators of whom the last two are careless, 3,000 judgements with ties and
    an advantage of the assistant shown first.
    """
    data, truth = population(
        len(_ASSISTANTS),
        40,
        3000,
        seed=1970,
        tie_strength=0.6,
        position_bias=0.3,
        reliability_sd=0.5,
        n_careless=2,
        items=_ASSISTANTS,
    )
    return replace(data, source="example:annotators (simulated)"), truth


def _labels(word: str, size: int) -> tuple[str, ...]:
    digits = len(str(size))  # padded, so that the labels sort as they are numbered
    return tuple(f"{word}{number:0{digits}d}" for number in range(1, size + 1))


def _items(items: Sequence[str] | None, size: int) -> tuple[str, ...]:
    labels = _labels("item", size) if items is None else tuple(sorted(set(items)))
    if len(labels) != size or (items is not None and len(items) != size):
        raise DataError(f"items must be {size} distinct labels")
    return labels


def _weights(type_weight: Sequence[float] | None, n_types: int) -> NDArray[np.float64]:
    if type_weight is None:
        return np.full(n_types, 1 / n_types)
    weight = np.asarray(type_weight, float)
    if weight.shape != (n_types,) or not (weight >= 0).all() or not np.isclose(weight.sum(), 1):
        raise DataError(f"type_weight must be {n_types} probabilities that sum to 1, not {list(type_weight)}")
    return weight


def _require_sizes(**sizes: tuple[int, int]) -> None:
    for name, (size, least) in sizes.items():
        require_whole(name, size, least)


def _require_rates(
    utility_sd: float, reliability_sd: float, tie_strength: float | None, position_bias: float, lapse: float
) -> None:
    for name, scale in (("utility_sd", utility_sd), ("reliability_sd", reliability_sd)):
        if not 0 <= scale < np.inf:
            raise DataError(f"{name} must be a finite number of at least 0, not {scale}")
    if tie_strength is not None and not 0 < tie_strength < np.inf:
        raise DataError(f"tie_strength must be positive, or None for no ties, not {tie_strength}")
    if not np.isfinite(position_bias):
        raise DataError(f"position_bias must be finite, not {position_bias}")
    if not 0 <= lapse <= 1:
        raise DataError(f"lapse is a probability, from 0 to 1, not {lapse}")
