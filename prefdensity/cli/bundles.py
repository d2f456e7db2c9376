"""Options that several commands share: a dataclass, whose fields each of them gets as options of its own."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any


def with_bundles(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of every parameter that is a dataclass as options, and hand it the dataclass."""
    asked = inspect.signature(command).parameters
    kinds: dict[str, Any] = {name: p.annotation for name, p in asked.items() if dataclasses.is_dataclass(p.annotation)}
    fields = {name: _options(kind) for name, kind in kinds.items()}

    @functools.wraps(command)
    def run(**given: Any) -> None:
        for name, kind in kinds.items():
            given[name] = kind(**{option.name: given.pop(option.name) for option in fields[name]})
        command(**given)

    own = {name: [p.replace(kind=p.KEYWORD_ONLY)] for name, p in asked.items()}
    parameters = [each for name in asked for each in (own | fields)[name]]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _options(kind: Any) -> list[inspect.Parameter]:
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=field.type,
        )
        for field in dataclasses.fields(kind)
    ]
