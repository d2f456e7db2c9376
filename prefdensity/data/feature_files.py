"""Files of what is known of items: tables whose first column labels the rows, and arrays of embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from prefdensity.data.columns import empty, index_labels, listed
from prefdensity.data.files import parsing, read_rows, require_file, stored_index
from prefdensity.errors import DataError


def label_table(given: str | Path, labels: Any = None, per: str = "item") -> pd.DataFrame:
    """Return a file with one row for each item, or other label, indexed by its labels.

    The first column of a table holds the labels, or the index that pandas stored in a parquet; a column of lists (of a
    parquet, say) is as many columns of numbers. The rows of an array (.npy) are called by `labels`, a table whose first
    column holds them or the labels themselves, or 0, 1, 2, ...; in .npz and .safetensors the arrays may also be vectors
    that are called by the labels.

    Raises
    ------
    DataError
        If the file is neither, or has not one label for each row.
    """
    path = Path(given)
    kind = path.suffix.lower()
    if kind in (".npy", ".npz", ".safetensors"):
        return _array_table(path, kind, labels, per)
    _require_array(labels, path)
    table = read_rows(path)
    if len(table.columns) < 2:
        raise DataError(
            f"{path} has the columns {listed(table.columns)}; it needs a column of {per} labels, then numbers"
        )
    label = stored_index(path) or table.columns[0]
    none = empty(table[label])
    if none.any():
        row = int(none.argmax()) + 1
        raise DataError(f"{path}: the column {label!r} must hold {per} labels; row {row} is empty")
    return _vectors_apart(table.set_index(label), path)


def array_table(values: Any, labels: Any) -> Any:
    """Return an array [row, column], or a tensor, as a frame indexed by labels; a frame, and what is none, as it is."""
    if isinstance(values, pd.DataFrame):
        _require_array(labels, "item_features")
    if isinstance(values, pd.DataFrame | pd.Series) or not hasattr(values, "__array__"):
        return values
    try:
        found = np.asanyarray(values)
    except (RuntimeError, TypeError) as error:  # of tensors on a device, with gradients, or in bfloat16
        way = "x.detach().cpu().float().numpy()"
        raise DataError(f"item_features cannot be read as an array: {error}; of a tensor give {way}") from error
    if found.ndim != 2 or found.dtype.kind not in "fiub":
        raise DataError(
            f"item_features is an array {found.shape} of {found.dtype}; give numbers, with a row for each item"
        )
    return _labelled(found, _row_labels(labels, [], len(found), "item_features"))


def _require_array(labels: Any, given: Any) -> None:
    if labels is not None:
        raise DataError(f"feature_labels is for arrays; {given} has labels of its own, leave it out")


def _labelled(values: np.ndarray, labels: list[str]) -> pd.DataFrame:
    """Return a frame of an array, in the memory of the array."""
    return pd.DataFrame(values, index=labels, columns=[f"x{k}" for k in range(values.shape[1])], copy=False)


def _vectors_apart(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return a table with a column for each entry of columns of vectors."""
    parts = []
    for name in table.columns:
        first = table[name].iloc[0]
        if not isinstance(first, list | tuple | np.ndarray):
            parts.append(table[[name]])
            continue
        sizes = {len(each) if isinstance(each, list | tuple | np.ndarray) else -1 for each in table[name]}
        if len(sizes) > 1:
            raise DataError(f"{path}: column {name!r} holds vectors of different lengths: {sorted(sizes)[:4]}")
        values = np.stack([np.asarray(each) for each in table[name]])
        names = [f"{name}_{k}" for k in range(values.shape[1])]
        parts.append(pd.DataFrame(values, index=table.index, columns=names))
    return pd.concat(parts, axis=1)


def _array_table(path: Path, kind: str, labels: Any, per: str) -> pd.DataFrame:
    require_file(path)
    arrays = _arrays(path, kind)
    tables = {name: value for name, value in arrays.items() if value.ndim == 2}
    vectors = {name: value for name, value in arrays.items() if value.ndim == 1 and value.dtype.kind in "fiu"}
    if len(tables) == 1:
        values = next(iter(tables.values()))
        words = [value for value in arrays.values() if value.ndim == 1 and len(value) == len(values)]
        index = _row_labels(labels, words, len(values), path)
    elif not tables and len({len(value) for value in vectors.values()}) == 1:
        values, index = np.array(list(vectors.values())), list(vectors)
    else:
        raise DataError(
            f"{path} holds arrays {', '.join(f'{n} {v.shape}' for n, v in list(arrays.items())[:4])}; it takes one "
            f"array with a row for each {per}, or one vector for each, called by its label"
        )
    return _labelled(values, index)


def _arrays(path: Path, kind: str) -> dict[str, np.ndarray]:
    if kind == ".safetensors":
        try:
            from safetensors.numpy import load_file
        except ImportError:
            raise DataError(f"{path}: safetensors files need safetensors; pip install safetensors") from None
        with parsing(path, "safetensors"):
            return dict(load_file(path))
    with parsing(path, "an array of numbers"):
        if kind == ".npy":  # mapped, for embeddings may be larger than memory
            return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False)}
        found = np.load(path, allow_pickle=False)
        return {name: found[name] for name in found.files}


def _row_labels(labels: Any, words: list[np.ndarray], rows: int, path: str | Path) -> list[str]:
    if labels is not None:
        filed = isinstance(labels, str | Path)
        known = read_rows(Path(labels)).iloc[:, 0] if filed else labels
        found = index_labels(pd.Index(list(known), dtype=object), "feature_labels")
        if len(found) != rows:
            called = labels if filed else "feature_labels"
            raise DataError(f"{called} labels {len(found)} rows, and {path} has {rows}; they go row by row")
        return found
    texts = [value for value in words if value.dtype.kind in "USiu"]
    if len(texts) == 1:
        return [each.decode() if isinstance(each, bytes) else str(each) for each in texts[0].tolist()]
    return [str(k) for k in range(rows)]
