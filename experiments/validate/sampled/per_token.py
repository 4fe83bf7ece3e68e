"""What the scorer says of each token, as one array per policy: how a measurement keeps ``TokenScores``.

The last axis holds log p, log ref, the mass ranked before the token, the mass of the nucleus, whether the token is in
it, and the log-sums at the temperatures of ``nondecoupling.estimate``. Tokens that a response does not have are NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nondecoupling.estimate import TEMPERATURES, TokenScores

__all__ = ["COLUMNS", "padded", "rows_of", "table_of", "token_scores_of"]

SINGLE = ("log_p", "log_ref", "mass_before", "nucleus_mass", "in_nucleus")
COLUMNS = len(SINGLE) + len(TEMPERATURES)
# What is kept: far more than a test of a few thousand tokens can see, in a fifth of the space of all digits.
DIGITS = 6
Numbers = NDArray[np.float64]


def table_of(scores: TokenScores) -> Numbers:
    """[responses, longest, ``COLUMNS``], rounded to what is kept; NaN where the mask leaves a token out."""
    columns = [np.asarray(getattr(scores, name), dtype=float)[..., None] for name in SINGLE]
    table = np.concatenate([*columns, np.asarray(scores.log_sums)], axis=-1).round(DIGITS)
    return np.where(np.asarray(scores.mask, dtype=bool)[..., None], table, np.nan)


def rows_of(scores: TokenScores) -> list[list[list[float]]]:
    """Per response a list of its tokens, each a list of ``COLUMNS`` numbers."""
    mask = np.asarray(scores.mask, dtype=bool)
    return [row[kept].tolist() for row, kept in zip(table_of(scores), mask, strict=True)]


def padded(prompts: Sequence[Sequence[Sequence[Sequence[float]]]]) -> Numbers:
    """[prompts, responses, longest, ``COLUMNS``] from ``rows_of`` of the responses to each prompt."""
    longest = max(len(tokens) for responses in prompts for tokens in responses)
    table = np.full((len(prompts), len(prompts[0]), longest, COLUMNS), np.nan)
    for x, responses in enumerate(prompts):
        for y, tokens in enumerate(responses):
            table[x, y, : len(tokens)] = tokens
    return table


def token_scores_of(table: Numbers) -> TokenScores:
    """Of all responses, [prompts * responses, longest]."""
    flat = table.reshape(-1, *table.shape[2:])
    single = dict(zip(SINGLE, np.moveaxis(flat[..., : len(SINGLE)], -1, 0), strict=True))
    return TokenScores(**single, log_sums=flat[..., len(SINGLE) :], mask=~np.isnan(flat[..., 0]))
