"""The task of an enumerated run: prompts, their candidate responses, the data law and the reward over them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["EnumeratedTask", "Prompt"]


@dataclass(frozen=True)
class Prompt:
    """One prompt x: its text, its candidate responses, d(.|x) and r(x, .) over them, and r(x, `other`)."""

    text: str
    responses: tuple[str, ...]
    data_law: tuple[float, ...]
    reward: tuple[float, ...]
    reward_other: float = 0.0


@dataclass(frozen=True)
class EnumeratedTask:
    """Prompts with uniform law q, and their arrays over the candidates followed by `other`."""

    prompts: tuple[Prompt, ...]

    @property
    def log_d(self) -> np.ndarray:
        """[prompts, candidates + 1], -inf for `other`: the experts never leave the list."""
        law = np.array([[*prompt.data_law, 0.0] for prompt in self.prompts])
        return np.log(law, where=law > 0, out=np.full(law.shape, -math.inf))

    @property
    def reward(self) -> np.ndarray:
        """[prompts, candidates + 1]"""
        return np.array([[*prompt.reward, prompt.reward_other] for prompt in self.prompts])

    @property
    def texts(self) -> list[str]:
        """What a word-level tokenizer must cover."""
        return [text for prompt in self.prompts for text in (prompt.text, *prompt.responses)]
