"""Labels that a reader would take for one another, that spell a missing value, or that swallowed other rows."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?")
_MISSING = {"na", "n/a", "nan", "none", "null", "<na>", "nat", "#n/a", "missing", "?"}
_AS_SEEN = {"Cf": "", "Pd": "-"}  # characters of no width, and dashes of every length
_PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u2212": "-"}) | {
    code: None for code in range(0xFE00, 0xFE10)
}  # quotation marks and minus as typed; whether a sign is drawn in colour
# Letters of Cyrillic and Greek that print as Latin ones do (Unicode TR 39), small and capital.
_TWINS = str.maketrans(
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТУХІЈЅԚԜοΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aeopcyxijshdqwABEKMHOPCTYXIJSQWoABEZHIKMNOPTYX"
)
_NAMED = 3  # groups that a warning spells out


def look_alikes(vocabularies: Mapping[str, Sequence[str]]) -> list[str]:
    """Return warnings of labels that differ only in what a reader does not see, or that mean that nothing is there.

    Two labels look alike when they are equal after NFKC normalisation (full-width letters, no-break blanks), without
    case, outer and doubled blanks, characters of no width and kinds of dashes and quotation marks, with Cyrillic and
    Greek letters taken for the Latin ones that they print as, or as numbers (101 and 101.0, 7 and 007). They stay the
    labels they are: nobody but the user knows whether they are one.

    Parameters
    ----------
    vocabularies
        What the labels name (items, annotators) -> labels.
    """
    return [
        found
        for what, labels in vocabularies.items()
        for found in (*_alike(what, labels), *_absent(what, labels), *_broken(what, labels))
    ]


def looks(label: str) -> str:
    """Return what labels that look alike have in common."""
    text = unicodedata.normalize("NFKC", label)
    if not text.isascii():
        text = "".join(_AS_SEEN.get(unicodedata.category(c), c) for c in text.translate(_PLAIN))
    text = " ".join(text.split()).casefold()
    if len(text) <= 40 and _NUMBER.fullmatch(text):
        return f"{Decimal(text).normalize() + 0:f}"  # no negative zero
    return text


def _alike(what: str, labels: Sequence[str]) -> list[str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[looks(label)].append(label)
    found = [group for group in _joined(groups.values()) if len(group) > 1]
    if not found:
        return []
    named = "; ".join(" and ".join(repr(label[:60]) for label in group[:4]) for group in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more groups" if len(found) > _NAMED else ""
    return [
        f"{sum(map(len, found))} {what} look like {len(found)}: {named}{more} differ only in case, blanks, alphabet, "
        "or the way they are written, and count as different; make them one in the table if they are"
    ]


def _joined(groups: Iterable[list[str]]) -> list[list[str]]:
    """Return the groups of labels, joined where letters of other alphabets are all that tells them apart."""
    joined: dict[str, list[str]] = defaultdict(list)
    for group in groups:
        joined[looks(group[0].translate(_TWINS))] += group
    return list(joined.values())


def _absent(what: str, labels: Sequence[str]) -> list[str]:
    found = [label for label in labels if label.strip().casefold() in _MISSING]
    if not found:
        return []
    named = ", ".join(map(repr, found[:8]))
    return [f"{what} are called {named}: if that means that nobody knows, empty these cells of the table"]


def _broken(what: str, labels: Sequence[str]) -> list[str]:
    found = [label for label in labels if "\n" in label or "\r" in label]
    if not found or what == "contexts":  # prompts have lines
        return []
    return [
        f"{len(found)} {what} hold a line break, first {found[0][:60]!r}: where a quotation mark is missing in a file, "
        "one label swallows the rows up to the next"
    ]
