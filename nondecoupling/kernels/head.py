"""One model's side of every call: hidden states, the head they enter, and the map from their product to logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Head", "statistics_dtype", "take"]


def statistics_dtype(device: torch.device) -> torch.dtype:
    """float64, but for the one backend that has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def take(tensor: Tensor, index: Tensor | None) -> Tensor:
    """``tensor[index]``, or all of it for None."""
    return tensor if index is None else tensor[index]


class Head(NamedTuple):
    """logits = softcap * tanh((hidden @ weight.T + bias) / softcap) / temperature, [T, V].

    ``hidden`` [T, D], ``weight`` [V, D], ``bias`` [V] or None, of one dtype and device; without a ``softcap`` the
    logits are (hidden @ weight.T + bias) / temperature.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    temperature: float
    softcap: float | None

    @property
    def tokens(self) -> int:
        return self.hidden.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.weight.shape[0]

    @property
    def width(self) -> int:
        return self.weight.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """What logits are computed in: float32 for inputs of lower precision."""
        return torch.promote_types(self.hidden.dtype, torch.float32)

    @property
    def scales(self) -> tuple[float, float]:
        """(inner, outer) of logits = outer * tanh(inner * (h w + b)), or inner * (h w + b) without a cap."""
        if self.softcap is None:
            return 1 / self.temperature, 1.0
        return 1 / self.softcap, self.softcap / self.temperature

    def only(self, index: Tensor | slice | None) -> Head:
        """The head with the hidden states of these tokens; all of them for None."""
        return self if index is None else self._replace(hidden=self.hidden[index])
