"""Answers as a table, one row for each number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nondecoupling.forecast.answers import AtBeta, AtReward, Estimate
from nondecoupling.forecast.support import Unsupported, UnsupportedBeta, UnsupportedRecipe

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("at", "where", "number", "value", "low", "high", "level", "how")
Asked = tuple[str, float, AtBeta | AtReward | Unsupported]


def as_table(answers: Sequence[Asked]) -> pd.DataFrame:
    """``answers``: at what ("beta" or "reward"), where, and the answer."""
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install pandas, or use to_dict()") from None
    rows = [(at, where, *row) for at, where, answer in answers for row in _numbers(answer)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _numbers(answer: Any) -> list[tuple[str, float, float, float, float, str]]:
    if isinstance(answer, (UnsupportedBeta, UnsupportedRecipe)):
        return [_without("", answer)]
    found = []
    for name, number in vars(answer).items():
        if isinstance(number, Estimate):
            found.append((name, number.value, number.low, number.high, number.level, number.how))
        elif isinstance(number, (UnsupportedBeta, UnsupportedRecipe)):
            found.append(_without(name, number))
    return found


def _without(name: str, answer: Unsupported) -> tuple[str, float, float, float, float, str]:
    return (name, math.nan, math.nan, math.nan, math.nan, str(answer))
