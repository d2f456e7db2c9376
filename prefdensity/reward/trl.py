"""Variance-reduced training in trl: subclasses of DPOTrainer and RewardTrainer, and their collator.

A fresh pair is prepared by trl as if a_1 were chosen and a_2 rejected, once, when the trainer is made. A batch holds
each row twice over: chosen with rejected, and a_1 with a_2. So the first half of it are first responses and the
second half second ones, as trl's own code expects. Rows without fresh pair are left to trl: with lambda_=0, and in
evaluation sets that have none. Needs the extra `prefdensity[trl]`.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from trl import DPOTrainer, RewardTrainer

from prefdensity.errors import DataError, require_positive
from prefdensity.reward.columns import require_columns
from prefdensity.reward.losses import CLIP, Loss, VRTerms, dpo_margin, logistic, vr_margin_loss
from prefdensity.reward.tuning import Covariances, Tuned

Batch = dict[str, Any]

_AUXILIARY, _WEIGHT, _ROW = "auxiliary", "weight", "fresh_pair_row"
_OLD_IDS = ("chosen_input_ids", "rejected_input_ids")
_IDS = {"prompt_ids": "a_prompt_ids", "chosen_ids": "a_1_ids", "rejected_ids": "a_2_ids"}
_REFERENCE = {"ref_chosen_logps": "ref_a_1_logps", "ref_rejected_logps": "ref_a_2_logps"}
_OF_FRESH = _IDS | _REFERENCE  # what trl reads of a row -> the same of its fresh pair
_PROBABILITIES = ("chosen_preference", "a_1_preference")
# options of DPOConfig that would change trl's loss, with the value that does not
_PLAIN = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
    "label_smoothing": 0.0,
}


@dataclass
class FreshPairCollator:
    """Collates rows that the trainers below have prepared.

    Attributes
    ----------
    base
        The collator of trl, for rows of token ids.
    """

    base: Callable[[list[Batch]], Batch]

    def __call__(self, examples: list[Batch]) -> Batch:
        """Return the batch of `base`; twice as long, with probabilities and weights [2 * row], with fresh pairs."""
        if "a_1_ids" not in examples[0]:
            return self.base(examples)
        batch = self.base(examples + [_fresh(example) for example in examples])
        batch[_AUXILIARY] = torch.tensor([float(example[name]) for name in _PROBABILITIES for example in examples])
        if _WEIGHT in examples[0]:
            batch[_WEIGHT] = torch.tensor([float(example[_WEIGHT]) for _ in "ab" for example in examples])
        return batch


@dataclass(frozen=True)
class VROptions:
    """How the auxiliary is used; see `prefdensity.reward.losses.vr_margin_loss`.

    Attributes
    ----------
    loss
        A loss of margins.
    lambda_
        Weight of the auxiliary. The default is the best for a perfect auxiliary with one fresh pair for each row; 1
        is as published. 0 trains as trl does, and needs no fresh pairs. "auto": of least variance, by `tune` when
        training begins.
    clip
        Bound of labelled margins in the auxiliary terms. None is as published: where a network can raise labelled
        margins alone, most losses then have no bound below.
    """

    loss: Loss = logistic
    lambda_: float | str = 0.5
    clip: float | None = CLIP

    def __post_init__(self) -> None:
        if isinstance(self.lambda_, str):
            if self.lambda_ != "auto":
                raise DataError(f"lambda_={self.lambda_!r} is neither a number nor 'auto'")
        elif not 0 <= self.lambda_ <= 1:
            raise DataError(f"lambda_={self.lambda_!r} must lie between 0 and 1")
        if self.lambda_ == 0 and self.loss is not logistic:
            raise DataError("lambda_=0 trains as trl does, with the loss_type of its config; leave out loss=...")
        if self.clip is not None:
            require_positive(clip=self.clip)


class _VarianceReduced:
    """What both trainers share: rows with fresh pairs, and the loss of a batch of margins."""

    accelerator: Any
    args: Any
    data_collator: Any
    model: Any
    train_dataset: Any
    vr: VROptions
    tuned: Tuned | None
    _metrics: Any
    _covariances: Covariances | None = None
    _signature_columns: list[str] | None

    def __init__(self, *args: Any, vr: VROptions | None = None, **kwargs: Any) -> None:
        self.vr = vr or VROptions()
        self.tuned: Tuned | None = None
        super().__init__(*args, **kwargs)
        if self.vr.lambda_ != 0:
            if "a_1_ids" not in _columns(self.train_dataset):
                require_columns({}, "the training set")
            self.data_collator = FreshPairCollator(self.data_collator)

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        """Return the rows as trl prepares them; with fresh pairs also a_1_ids and a_2_ids, prepared in the same way."""
        columns, where = set(_columns(dataset)), f"the {dataset_name} set"
        prepare = partial(super()._prepare_dataset, processing_class=processing_class, dataset_name=dataset_name)  # type: ignore[misc]
        if _ROW in columns:  # prepared before
            return prepare(dataset, args=args)
        if self.vr.lambda_ == 0 or not columns & {"a_1", "a_2", "a_1_ids"}:
            if _WEIGHT in columns:
                raise DataError(f"{where} has a column 'weight', and trl's loss has no weights; drop it")
            return prepare(dataset, args=args)
        if columns & {"image", "images"}:
            raise DataError(f"{where} has images; fresh pairs are prepared for texts and messages only")
        if "margin" in columns:
            raise DataError(f"{where} has a column 'margin', which would shift the loss of labels only; drop it")
        rows = dataset.map(partial(_numbered, where=where), with_indices=True)
        if "a_1_ids" not in columns:
            unlimited = copy.copy(args)
            unlimited.max_length = None  # trl drops what is too long; here that would part the pairs from their rows
            ids = _fresh_ids(rows, partial(prepare, args=unlimited), where)
            rows = concatenate_datasets([rows, ids], axis=1)
        found = _prepared(rows, partial(prepare, args=args), f"chosen and rejected of {where}")
        if isinstance(dataset, Dataset) and len(found) < len(dataset):
            warnings.warn(
                f"trl leaves out {len(dataset) - len(found)} of {len(dataset)} rows of {where}: they are longer than "
                f"max_length={args.max_length}",
                stacklevel=2,
            )
        if args.max_length is None or getattr(args, "truncation_mode", "keep_start") == "keep_end":
            return found
        return found.filter(partial(_has_room, limit=args.max_length, where=where))

    def _set_signature_columns_if_needed(self) -> None:
        """Keep what the collator reads among the columns that Trainer does not remove."""
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()  # type: ignore[misc]
            assert self._signature_columns is not None
            self._signature_columns += [*_OF_FRESH.values(), *_PROBABILITIES, _WEIGHT]

    def _margin_loss(self, margin: Tensor, auxiliary: Tensor, weight: Tensor | None) -> Tensor:
        """Return the loss of margins [2 * row], labelled then fresh, and note its terms."""
        # as on a card, networks may compute in half precision, in which a probability of .999 is 1
        margin = margin.to(torch.promote_types(margin.dtype, torch.float32))
        (d, away), (g, g_away) = margin.chunk(2), auxiliary.to(margin).chunk(2)
        own, other = (None, None) if weight is None else weight.to(margin).chunk(2)
        if self._covariances is not None:
            self._covariances.add(d, g, away, g_away, loss=self.vr.loss, weights=own, clip=self.vr.clip)
        terms: VRTerms = vr_margin_loss(
            d, g, away, g_away, loss=self.vr.loss, lambda_=self.lambda_, clip=self.vr.clip,
            weights=own, fresh_weights=other,
        )  # fmt: skip
        noted = self._metrics["train" if self.model.training else "eval"]
        for name in ("observed", "expected", "fresh"):
            value = self.accelerator.gather(getattr(terms, name).detach())
            noted[f"vr/{name}"].append(value.mean().item())
        return terms.total

    @property
    def lambda_(self) -> float:
        """Weight of the auxiliary in use; of "auto" the default until it is tuned."""
        if self.tuned is not None:
            return self.tuned.lambda_
        return VROptions.lambda_ if isinstance(self.vr.lambda_, str) else self.vr.lambda_  # type: ignore[return-value]

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as trl does, after `tune` if lambda is "auto"."""
        if self.vr.lambda_ == "auto" and self.tuned is None:
            self.tune()
        return super().train(*args, **kwargs)  # type: ignore[misc]

    def tune(self, rows: int = 256) -> Tuned:
        """Find the lambda of least variance, and what labels are worth with it, from gradients of the last layer.

        At the model as it stands, on about `rows` rows of the training set, of which nothing is learned. The last layer
        is the last of the parameters that are trained.
        """
        last = [each for each in self.model.parameters() if each.requires_grad][-1:]
        training, metrics = self.model.training, self._metrics
        self._covariances, seen = Covariances(last), 0
        self._metrics = {mode: defaultdict(list) for mode in metrics}
        try:
            self.model.eval()
            place = self.accelerator.device  # of several cards no other draws
            beside = [] if place.type == "cpu" else [place]
            with torch.random.fork_rng(beside, device_type=place.type if beside else "cuda"), torch.enable_grad():
                for batch in self.get_train_dataloader():  # type: ignore[attr-defined]
                    self.compute_loss(self.model, self._prepare_inputs(batch))  # type: ignore[attr-defined]
                    seen += len(batch[_AUXILIARY]) // 2 * self.accelerator.num_processes
                    if seen >= rows:
                        break
            self.tuned = self._covariances.tuned(partial(self.accelerator.reduce, reduction="sum"))
        finally:
            self._covariances, self._metrics = None, metrics
            self.model.train(training)
        return self.tuned

    def prediction_step(self, model: Any, inputs: Batch, *args: Any, **kwargs: Any) -> Any:
        """Return loss, logits and labels; the last two of labelled rows only, as `compute_metrics` expects."""
        loss, *rest = super().prediction_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if _AUXILIARY in inputs:
            rest = [_labelled(each) if isinstance(each, Tensor) else each for each in rest]
        return (loss, *rest)


class VarianceReducedDPOTrainer(_VarianceReduced, DPOTrainer):
    """trl's DPOTrainer with the variance-reduced loss.

    Parameters
    ----------
    vr
        The loss and how much of the auxiliary to use.
    args, kwargs
        Those of DPOTrainer. Rows have the columns of `prefdensity.reward.columns`, in any format of trl: `a_1`
        and `a_2` are written as `chosen` and `rejected` are. Evaluation sets without them have trl's own loss.
        Reference log-probabilities may be given in columns, `ref_chosen_logps`, `ref_rejected_logps`, `ref_a_1_logps`
        and `ref_a_2_logps`.

    Raises
    ------
    DataError
        When the trainer is made: for options of DPOConfig that choose another loss, and, by row and column, for rows
        without fresh pair, with improper probabilities, or whose fresh pair trl cannot prepare. Rows that are streamed
        are looked at as they come.
    """

    precompute_ref_logps: bool

    def __init__(self, *args: Any, vr: VROptions | None = None, **kwargs: Any) -> None:
        config = kwargs.get("args", args[2] if len(args) > 2 else None)
        for name, plain in _PLAIN.items():
            if (vr or VROptions()).lambda_ != 0 and config is not None and getattr(config, name, plain) != plain:
                raise DataError(f"{name}={getattr(config, name)!r} changes trl's loss; choose one in vr=... instead")
        super().__init__(*args, vr=vr, **kwargs)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Return the rows with reference log-probabilities of all their responses."""
        compute, columns = super()._precompute_ref_logps, _columns(dataset)
        if "a_1_ids" not in columns:
            return compute(dataset, name, batch_size)
        if set(_REFERENCE) <= set(columns):  # given
            return dataset
        labelled = dataset.select_columns(list(_IDS))
        fresh = dataset.select_columns(list(_IDS.values())).rename_columns({ours: ids for ids, ours in _IDS.items()})
        one, two = (compute(each, name, batch_size).select_columns(list(_REFERENCE)) for each in (labelled, fresh))
        return concatenate_datasets([dataset, one, two.rename_columns(_REFERENCE)], axis=1)

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **more: Any) -> Any:
        """Return the loss of a batch, and the model's outputs if asked."""
        if _AUXILIARY not in inputs:
            return super().compute_loss(model, inputs, return_outputs, **more)
        rows = {name: value for name, value in inputs.items() if name not in (_AUXILIARY, _WEIGHT)}
        given = {name: value for name, value in rows.items() if name not in ("completion_mask", *_REFERENCE)}
        if "ref_chosen_logps" not in rows:
            found = self.compute_ref_log_probs(self.ref_model or self.model, rows)
            rows |= dict(zip(_REFERENCE, found, strict=True))
        # the forward pass of trl's own loss, whose head returns log-probabilities of labels
        labels = rows["input_ids"].masked_fill(rows["completion_mask"] == 0, -100)
        router = {"output_router_logits": True} if self.aux_loss_enabled else {}
        outputs = model(**given, **router, labels=labels, use_cache=False, fused_lm_head=True)
        log_p = outputs.log_probs[:, 1 - labels.shape[1] :].sum(1)  # a prompt that is tuned comes before the tokens
        one, two = log_p.chunk(2)
        margin = dpo_margin(one, two, rows["ref_chosen_logps"], rows["ref_rejected_logps"], self.beta)
        loss = self._margin_loss(margin, inputs[_AUXILIARY], inputs.get(_WEIGHT))
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss
        self._note_labelled(outputs, rows)
        if return_outputs:  # the head above makes no logits
            with torch.no_grad():
                outputs = model(**given, use_cache=False)
        return (loss, outputs) if return_outputs else loss

    def _note_labelled(self, outputs: Any, rows: Batch) -> None:
        """Let trl note its metrics of labelled rows, from outputs that are there already."""
        size = len(rows["input_ids"])
        there = SimpleNamespace(**{name: _labelled(v) if _is_rows(v, size) else v for name, v in outputs.items()})
        labelled = {name: _labelled(v) if name not in _REFERENCE else v[: size // 4] for name, v in rows.items()}
        precomputed, self.precompute_ref_logps = self.precompute_ref_logps, True
        try:
            with torch.no_grad():
                super()._compute_loss(lambda **_: there, labelled, False)
        finally:
            self.precompute_ref_logps = precomputed


class VarianceReducedRewardTrainer(_VarianceReduced, RewardTrainer):
    """trl's RewardTrainer with the variance-reduced loss; parameters as in `VarianceReducedDPOTrainer`."""

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **more: Any) -> Any:
        """Return the loss of a batch, and the model's outputs if asked."""
        if _AUXILIARY not in inputs:
            return super().compute_loss(model, inputs, return_outputs, **more)
        rows = {name: value for name, value in inputs.items() if name not in (_AUXILIARY, _WEIGHT)}
        outputs = model(**rows, use_cache=False)
        one, two = outputs.logits.squeeze(-1).chunk(2)
        loss = self._margin_loss(one - two, inputs[_AUXILIARY], inputs.get(_WEIGHT))
        if self.args.center_rewards_coefficient is not None:
            labelled = (one + two)[: len(one) // 2]
            loss = loss + self.args.center_rewards_coefficient * (labelled**2).mean()
        with torch.no_grad():  # trl notes its metrics of labelled rows, from outputs that are there already
            there = SimpleNamespace(logits=_labelled(outputs.logits))
            super().compute_loss(lambda **_: there, {name: _labelled(value) for name, value in rows.items()})
        return (loss, outputs) if return_outputs else loss


def _columns(dataset: Any) -> list[str]:
    return list(dataset.column_names or next(iter(dataset)))


def _numbered(row: Mapping[str, Any], index: int, where: str) -> dict[str, int]:
    """Return the number of a row that can be trained on, as a column."""
    found = f"row {index + 1} of {where}"
    tokens = {name: row[f"{name}_ids"] for name in ("a_1", "a_2") if f"{name}_ids" in row}
    require_columns({**row, **tokens}, found)
    given = [name for names in _REFERENCE.items() for name in names if row.get(name) is not None]
    missing = next((name for names in _REFERENCE.items() for name in names if name not in given), None)
    if given and missing:
        raise DataError(
            f"{found} has no {missing!r}: reference log-probabilities are needed of all of chosen, rejected, a_1 and "
            "a_2, or of none"
        )
    return {_ROW: index + 1}


def _fresh_ids(rows: Any, prepare: Callable[[Any], Any], where: str) -> Any:
    """Return token ids of fresh pairs, which trl prepares as if they were labelled ones."""
    own = {"chosen", "rejected", *_IDS, *_OLD_IDS} & set(_columns(rows))
    alone = rows.remove_columns([*own, _ROW]).rename_columns({"a_1": "chosen", "a_2": "rejected"})
    found = _prepared(alone, prepare, f"a_1 and a_2 of {where}")
    names = {name: ours for name, ours in _IDS.items() if name in _columns(found)}
    return found.select_columns(list(names)).rename_columns(names)


def _prepared(rows: Any, prepare: Callable[[Any], Any], what: str) -> Any:
    """Return what trl makes of rows; where it cannot, raise `DataError` naming the first row that it cannot do."""
    try:
        return prepare(rows)
    except Exception as error:
        if not isinstance(rows, Dataset):
            raise
        low, high, reason = 0, len(rows), error
        while high - low > 1:
            middle = (low + high) // 2
            try:
                prepare(rows.select(range(low, middle)))
                low = middle
            except Exception as found:
                high, reason = middle, found
        raise DataError(f"row {high}: trl cannot prepare {what} ({type(reason).__name__}: {reason})") from error


def _has_room(row: Mapping[str, Any], limit: int, where: str) -> bool:
    """Return True, or raise `DataError` for a fresh pair that trl would drop for its length."""
    if "a_prompt_ids" in row:  # responses are truncated, and one token of them must be left
        sizes, most = {"the prompt of a_1 and a_2": len(row["a_prompt_ids"])}, limit - 1
    else:
        sizes, most = {name: len(row[f"{name}_ids"]) for name in ("a_1", "a_2")}, limit
    for what, size in sizes.items():
        if size > most:
            raise DataError(f"row {row[_ROW]} of {where}: {what} has {size} tokens, and max_length is {limit}")
    return True


def _fresh(row: Batch) -> Batch:
    """Return a row whose labelled pair is the fresh pair."""
    return row | {name: row[fresh] for name, fresh in _OF_FRESH.items() if fresh in row}


def _labelled(values: Any) -> Any:
    """Return what belongs to labelled rows of a batch: the first half of either half."""
    return torch.cat([half[: len(half) // 2] for half in values.chunk(2)])


def _is_rows(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.dim() > 0 and len(value) == size
