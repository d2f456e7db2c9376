"""What effects by whom are called, and what a layer declares of them."""

from __future__ import annotations

from typing import Any


def sites_of(label: str, effect: str) -> tuple[str, str, str]:
    """Return what an effect by a label is called: each one's own, their standard deviation, standardised effects."""
    own = f"{label}_{effect}"
    return own, f"{own}_spread", f"{own}_offset"


def trend_of(over: str, effect: str) -> str:
    """Return what the change of an effect over a number is called."""
    return f"{over}_{effect}"


def declared(effect: str, by: tuple[str, ...], what: str, shown: bool = True, over: str = "") -> dict[str, Any]:
    """Return what a layer declares of an effect that varies by these labels, and changes over a number.

    `what` the effect is, in words; `shown`: each one's own effect is a site; `over`: "" for no number.
    """
    numbers = (over,) if over else ()
    trends = {trend_of(name, effect): 0.0 for name in numbers}
    meanings = dict.fromkeys(trends, f"change for one standard deviation of {over}: {what}")
    for label in by:
        own, spread, _ = sites_of(label, effect)
        meanings |= {own: f"of this {label}: {what}"} if shown else {}
        meanings[spread] = f"standard deviation by {label}: {what}"
    return {
        "needs": (*by, *numbers),
        "null": trends,
        "hyper": tuple(sites_of(label, effect)[1] for label in by),
        "spread": dict(sites_of(label, effect)[1:] for label in by),
        "meanings": meanings,
    }
