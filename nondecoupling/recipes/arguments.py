"""Numbers as callers give them, of Python, NumPy or torch, as Python's own."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

LARGEST_GROUP = 10**6
"""Advantages that are divided by a standard deviation are summed over all counts of correct responses in a group."""


def scalar(value: Any) -> Any:
    """What a 0-d array or tensor holds, which has no gradient then; anything else as it is."""
    alone = getattr(value, "ndim", None) == 0 and not isinstance(value, np.ma.MaskedArray)
    return value.item() if alone else value


def real_number(value: object) -> float:
    """A float; nan for what is no real number, truth values and text among it."""
    number = scalar(value)
    real = isinstance(number, Real) and not isinstance(number, bool)
    if not real:
        return math.nan
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def whole_number(value: object) -> int | None:
    """None for what is no integer; 8.0 is none."""
    number = scalar(value)
    if isinstance(number, bool) or not isinstance(number, Integral):
        return None
    return int(number)
