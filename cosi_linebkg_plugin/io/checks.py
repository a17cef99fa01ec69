"""Values that a file says, checked for what they must be; each raises ValueError."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .guard import brief


def mapping(value: Any, what: str) -> Mapping[str, Any]:
    """A mapping."""
    return value if isinstance(value, Mapping) else _refuse(value, what, "a mapping")


def text(value: Any, what: str, among: Collection[str] | None = None) -> str:
    """A text; one of some."""
    if isinstance(value, str) and (among is None or value in among):
        return value
    return _refuse(
        value, what, "a text" if among is None else f"one of {', '.join(list(among)[:20])}"
    )


def texts(value: Any, what: str, among: Collection[str] | None = None) -> tuple[str, ...]:
    """A list of texts, each once."""
    if not isinstance(value, list) or len({str(x) for x in value}) < len(value):
        _refuse(value, what, "a list of different texts")
    return tuple(text(x, what, among) for x in value)


def truth(value: Any, what: str) -> bool:
    """True or false."""
    return value if isinstance(value, bool) else _refuse(value, what, "true or false")


def number(value: Any, what: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from `low` to `high`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < 1e300 or not low <= value <= high:
        limits = "" if (low, high) == (-math.inf, math.inf) else f" from {low:g} to {high:g}"
        _refuse(value, what, f"a finite number{limits}")
    return float(value)


def numbers(
    value: Any, what: str, shape: tuple[int | None, ...], null: float | None = None
) -> NDArray[np.float64]:
    """An array of finite numbers; None in `shape` is any length.

    Parameters
    ----------
    null : float, optional
        What stands for a null; default: there may be none.
    """
    given = value
    if null is not None and isinstance(value, list):
        given = [
            [null if x is None else x for x in row] if isinstance(row, list) else row
            for row in value
        ]
    array = np.array(given)
    if array.size == 0:
        array = array.astype(float).reshape([n or 0 for n in shape])
    right = array.ndim == len(shape) and all(
        n in (None, m) for n, m in zip(shape, array.shape, strict=True)
    )
    if not right or array.dtype.kind not in "iuf":
        wanted = " x ".join("n" if n is None else str(n) for n in shape)
        _refuse(value, what, f"{wanted} numbers")
    array = array.astype(float)
    if null is None and not np.isfinite(array).all():
        _refuse(value, what, "finite numbers")
    return array


def covariance(value: Any, what: str, n: int, null: float | None = None) -> NDArray[np.float64]:
    """A symmetric matrix of shape (n, n) without variances below 0; `null` as of `numbers`."""
    matrix = numbers(value, what, (n, n), null)
    scale = np.abs(matrix).max(initial=0.0, where=np.isfinite(matrix))
    same = np.isclose(matrix, matrix.T, rtol=1e-6, atol=1e-12 * scale, equal_nan=True)
    if np.any(np.diag(matrix) < 0) or not same.all():
        raise ValueError(f"{what} is not symmetric, or has variances below 0")
    return matrix


def _refuse(value: Any, what: str, wanted: str) -> NoReturn:
    got = f"a list of {len(value)}" if isinstance(value, list) else repr(value)
    raise ValueError(f"{what} is {brief(got, 60)}, but must be {wanted}")
