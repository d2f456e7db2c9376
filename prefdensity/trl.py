"""Variance-reduced training in trl: subclasses of DPOTrainer and RewardTrainer, and their collator.

A batch holds each row twice over: chosen with rejected, and the fresh pair a_1 with a_2. So the first half of it are
first responses and the second half second ones, as trl's own code expects. Needs the extra `prefdensity[trl]`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from trl import DPOTrainer, RewardTrainer

from prefdensity.errors import DataError
from prefdensity.preference_columns import require_columns
from prefdensity.preference_losses import Loss, dpo_margin, logistic, vr_margin_loss

Batch = dict[str, Any]

_AUXILIARY = "auxiliary"
_REFERENCE = ("ref_chosen_logps", "ref_rejected_logps", "ref_a_1_logps", "ref_a_2_logps")
# options of DPOConfig that would change trl's loss, with the value that does not
_PLAIN = {
    "loss_type": ["sigmoid"],
    "f_divergence_type": "reverse_kl",
    "ld_alpha": None,
    "use_weighting": False,
    "label_smoothing": 0.0,
    "precompute_ref_log_probs": False,
}


@dataclass
class FreshPairCollator:
    """Collates rows of trl's trainers together with their fresh pairs.

    Attributes
    ----------
    base
        The collator of the trainer, for rows of token ids.
    tokenizer
        For a_1 and a_2, which are tokenised here.
    max_length
        Tokens a fresh response may have where `base` does not truncate; None: any number.
    """

    base: Callable[[list[Batch]], Batch]
    tokenizer: PreTrainedTokenizerBase
    max_length: int | None = None

    def __call__(self, examples: list[Batch]) -> Batch:
        """Return the batch of `base`, twice as long, with auxiliary probabilities [2 * row]."""
        for example in examples:
            require_columns(example, f"the row with prompt {str(example.get('prompt', ''))[:40]!r}")
            if example.get("margin") is not None:
                raise DataError("a column 'margin' would shift the loss of labels only, not what is expected; drop it")
        batch = self.base([_bare(example) for example in examples] + [self._fresh(example) for example in examples])
        first = [example["chosen_preference"] for example in examples]
        batch[_AUXILIARY] = torch.tensor(first + [example["a_1_preference"] for example in examples])
        return batch

    def _fresh(self, example: Batch) -> Batch:
        """Return the fresh pair as if it were a row of its own."""
        one, two = (self._ids(example.get("prompt"), example[name]) for name in ("a_1", "a_2"))
        if "prompt_ids" not in example:
            longest = max(len(one), len(two))
            if self.max_length is not None and longest > self.max_length:
                raise DataError(f"a_1 or a_2 has {longest} tokens with its prompt; max_length is {self.max_length}")
            return {"chosen_ids": one, "rejected_ids": two}
        start = min(_common(example["prompt_ids"], ids) for ids in (one, two))
        pair = {"prompt_ids": one[:start], "chosen_ids": one[start:], "rejected_ids": two[start:]}
        found = [name in example for name in _REFERENCE]
        if any(found):
            if not all(found):
                raise DataError(
                    f"a row has no {_REFERENCE[found.index(False)]!r}: reference log-probabilities are "
                    "needed of all of chosen, rejected, a_1 and a_2, or of none"
                )
            pair |= {"ref_chosen_logps": example["ref_a_1_logps"], "ref_rejected_logps": example["ref_a_2_logps"]}
        return pair

    def _ids(self, prompt: Any, response: Any) -> list[int]:
        """Return token ids of prompt and response, ended as trl ends them."""
        if isinstance(response, str):
            end = self.tokenizer.eos_token
            whole = (prompt or "") + (response if response.endswith(end) else response + end)
            return list(self.tokenizer(whole)["input_ids"])
        found = self.tokenizer.apply_chat_template((prompt or []) + response, tokenize=True, return_dict=True)
        return list(found["input_ids"])


@dataclass(frozen=True)
class VROptions:
    """How the auxiliary is used; see `prefdensity.preference_losses.vr_margin_loss`.

    Attributes
    ----------
    loss
        A loss of margins. The default is the logistic one; for a whole network `ramp`, or a `clip`, stays bounded.
    lambda_
        Weight of the auxiliary; 0 trains as trl does, and needs no fresh pairs.
    clip
        Bound of labelled margins in the auxiliary terms, or None.
    """

    loss: Loss = logistic
    lambda_: float = 1.0
    clip: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lambda_ <= 1:
            raise DataError(f"lambda_={self.lambda_!r} must lie between 0 and 1")


class _VarianceReduced:
    """What both trainers share: the loss of a batch of margins, and its terms in the log."""

    args: Any
    data_collator: Any
    model: Any
    processing_class: Any

    def _begin(self, vr: VROptions | None, max_length: int | None) -> None:
        self.vr = vr or VROptions()
        self._terms: dict[str, list[float]] = {}
        if self.vr.lambda_ > 0:
            self.args.remove_unused_columns = False  # a_1 and a_2 must reach the collator
            self.data_collator = FreshPairCollator(self.data_collator, self.processing_class, max_length)

    def _margin_loss(self, margin: Tensor, auxiliary: Tensor | None) -> Tensor:
        """Return the loss of margins [2 * row], labelled then fresh; without auxiliary those of labelled rows [row]."""
        if auxiliary is None:
            self._note(margin)
            return self.vr.loss(margin).mean()
        d, away = margin.chunk(2)
        g, g_away = auxiliary.to(margin).chunk(2)
        found = vr_margin_loss(d, g, away, g_away, loss=self.vr.loss, lambda_=self.vr.lambda_, clip=self.vr.clip)
        self._note(d, observed=found.observed, expected=found.expected, fresh=found.fresh)
        return found.total

    def _note(self, d: Tensor, **terms: Tensor) -> None:
        start = "" if self.model.training else "eval_"
        noted = {"rewards/margins": d.mean(), "rewards/accuracies": (d > 0).float().mean()}
        for name, value in (noted | {f"vr/{name}": value for name, value in terms.items()}).items():
            self._terms.setdefault(start + name, []).append(float(value.detach()))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the means of the terms since the last time, with everything else."""
        start = "" if self.model.training else "eval_"
        due = [name for name in self._terms if name.startswith("eval_") == bool(start)]
        means = {name: sum(values) / len(values) for name in due for values in [self._terms.pop(name)]}
        super().log(logs | means, start_time)  # type: ignore[misc]


class VarianceReducedDPOTrainer(_VarianceReduced, DPOTrainer):
    """trl's DPOTrainer with the variance-reduced loss.

    Parameters
    ----------
    vr
        The loss and how much of the auxiliary to use.
    args, kwargs
        Those of DPOTrainer. Rows have the columns of `prefdensity.preference_columns`; the options of DPOConfig that
        choose another loss are refused.

    Raises
    ------
    DataError
        For such options, and at the first batch for rows without fresh pair or with improper probabilities.
    """

    def __init__(self, *args: Any, vr: VROptions | None = None, **kwargs: Any) -> None:
        config = kwargs.get("args", args[2] if len(args) > 2 else None)
        for name, plain in _PLAIN.items():
            if config is not None and getattr(config, name, plain) != plain:
                raise DataError(f"{name}={getattr(config, name)!r} changes trl's loss; choose one in vr=... instead")
        super().__init__(*args, **kwargs)
        self._begin(vr, None)  # trl's collator truncates

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a batch, and the model's outputs if asked."""
        inputs = dict(inputs)
        auxiliary = inputs.pop(_AUXILIARY, None)
        if "ref_chosen_logps" in inputs:
            reference = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        else:
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False)
        log_p = completion_log_probs(outputs.logits, inputs["input_ids"], inputs["completion_mask"])
        one, two = log_p.chunk(2)
        loss = self._margin_loss(dpo_margin(one, two, *reference, self.beta), auxiliary)
        return (loss, outputs) if return_outputs else loss


class VarianceReducedRewardTrainer(_VarianceReduced, RewardTrainer):
    """trl's RewardTrainer with the variance-reduced loss; parameters as in `VarianceReducedDPOTrainer`."""

    def __init__(self, *args: Any, vr: VROptions | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begin(vr, self.args.max_length)

    def compute_loss(self, model: Any, inputs: Batch, return_outputs: bool = False, **_: Any) -> Any:
        """Return the loss of a batch, and the model's outputs if asked."""
        inputs = dict(inputs)
        auxiliary, shift = inputs.pop(_AUXILIARY, None), inputs.pop("margin", 0.0)
        outputs = model(**inputs, use_cache=False)
        one, two = outputs.logits.squeeze(-1).chunk(2)
        loss = self._margin_loss(one - two - shift, auxiliary)
        if self.args.center_rewards_coefficient is not None:
            rows = len(one) if auxiliary is None else len(one) // 2
            loss = loss + self.args.center_rewards_coefficient * ((one + two)[:rows] ** 2).mean()
        return (loss, outputs) if return_outputs else loss


def completion_log_probs(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Return summed log-probabilities [row] of the completion's tokens from logits [row, position, token]."""
    log_p = logits[:, :-1].float().log_softmax(-1).gather(-1, input_ids[:, 1:, None])[..., 0]
    return (log_p * completion_mask[:, 1:]).sum(-1)


def _bare(example: Mapping[str, Any]) -> Batch:
    """Return the columns that trl's collators read."""
    names = ("prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "ref_rejected_logps")
    return {name: example[name] for name in names if name in example}


def _common(one: list[int], two: list[int]) -> int:
    """Return how many leading ids agree."""
    same = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        same += 1
    return same
