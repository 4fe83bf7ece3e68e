"""How experts answer: several styles, each with the right answer and, at a known rate, with the wrong one.

d(style, answer | x) = weight(style | x) * (1 - noise(x)) for the right answer and weight * noise(x) for the wrong one.
Weights and noise rotate over the prompts, so the law has real spread and differs between prompts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ExpertResponse", "expert_law"]

# How often experts use each of their three styles; prompts take these laws in turn.
STYLE_WEIGHTS = ((0.50, 0.30, 0.20), (0.25, 0.45, 0.30), (0.35, 0.25, 0.40), (0.60, 0.15, 0.25))


@dataclass(frozen=True)
class ExpertResponse:
    """A response, its probability under the experts' law, and what it is made of."""

    text: str
    probability: float
    style: str
    right: bool


def expert_law(
    index: int, styles: Sequence[str], answers: tuple[str, str], noises: Sequence[float]
) -> list[ExpertResponse]:
    """The law at the prompt with this index; ``styles`` are templates with one place, ``answers`` right and wrong."""
    weights, noise = STYLE_WEIGHTS[index % len(STYLE_WEIGHTS)], noises[index % len(noises)]
    made = [
        (style.format(answer), weight * share, style, right)
        for style, weight in zip(styles, weights, strict=True)
        for answer, share, right in zip(answers, (1 - noise, noise), (True, False), strict=True)
    ]
    total = math.fsum(share for _, share, _, _ in made)
    return [ExpertResponse(text, share / total, style, right) for text, share, style, right in made]
