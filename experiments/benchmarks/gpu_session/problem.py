"""Inputs of the session's steps, and how far results are from float64."""

from __future__ import annotations

from typing import NamedTuple

import torch
from benchmarks.gpu_session.measure import device
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats

__all__ = ["FULL", "TINY", "HeadProblem", "Sizes", "stats_error"]

CHECKED_TOKENS = 64


class Sizes(NamedTuple):
    """What a session measures at: [T, V] logits, for each width D; ``square`` is the side of the bare product."""

    tokens: int
    vocabulary: int
    widths: tuple[int, ...]
    square: int


FULL = Sizes(8192, 151_936, (1024, 4096), 8192)
# For rehearsals without a GPU.
TINY = Sizes(32, 272, (16,), 64)


class HeadProblem:
    """Two nearby heads over one vocabulary: logits of standard deviation 2.5, the same for every route."""

    def __init__(self, tokens: int, vocabulary: int, width: int, dtype: torch.dtype) -> None:
        place = device()
        generator = torch.Generator(place).manual_seed(0)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            values = torch.randn(*shape, generator=generator, device=place, dtype=torch.float32)
            return values.mul_(scale).to(dtype)

        step = 2.5 / width**0.5
        self.hidden = normal(tokens, width).requires_grad_()
        self.weight = normal(vocabulary, width, scale=step).requires_grad_()
        self.hidden_q = (self.hidden.detach() + normal(tokens, width, scale=0.1)).requires_grad_()
        self.weight_q = (
            self.weight.detach() + normal(vocabulary, width, scale=0.1 * step)
        ).requires_grad_()
        self.targets = torch.randint(0, vocabulary, (tokens,), generator=generator, device=place)
        self.upstream = torch.randn(3, tokens, generator=generator, device=place)

    def exact(self) -> tuple[Tensor, Tensor, Tensor]:
        """(logprob, entropy, kl) of the first ``CHECKED_TOKENS`` tokens in float64."""
        rows = slice(0, CHECKED_TOKENS)
        with torch.no_grad():
            hidden, weight = self.hidden[rows].double(), self.weight.double()
            stats = token_stats(hidden, weight, self.targets[rows], impl="reference")
            kl = token_kl(
                hidden,
                weight,
                self.hidden_q[rows].double(),
                self.weight_q.double(),
                impl="reference",
            )
        return stats.logprob, stats.entropy, kl


def stats_error(value: Tensor, exact: Tensor, *, relative: bool = False) -> float:
    """Largest error on the tokens that ``exact`` holds; NaN if anything is.

    >>> stats_error(torch.tensor([1.0, 2.5, 9.0]), torch.tensor([1.0, 2.0]))
    0.5
    """
    error = (value[: exact.shape[0]].double() - exact).abs()
    return float((error / exact.abs() if relative else error).max())
