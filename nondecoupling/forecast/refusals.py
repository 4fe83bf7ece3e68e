"""The names of what is wrong with samples. All are ``ValueError``, with the argument, the value and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nondecoupling.estimate.arguments import shown


@dataclass(frozen=True)
class GivenArgument:
    """An argument with a value, as Python writes it."""

    argument: str
    value: Any

    def __str__(self) -> str:
        return f"{self.argument}={shown(self.value)}"


class NamesArguments(ValueError):
    """Says what to give, so that a command can say it with its options in the place of Python's arguments.

    >>> error = NamesArguments("choose one, as ", GivenArgument("step", 20))
    >>> print(error, "|", error.said(lambda given: f"--{given.argument} {given.value}"))
    choose one, as step=20 | choose one, as --step 20
    """

    def __init__(self, *parts: str | GivenArgument) -> None:
        super().__init__("".join(map(str, parts)))
        self.parts = parts

    def said(self, written: Callable[[GivenArgument], str]) -> str:
        return "".join(
            written(part) if isinstance(part, GivenArgument) else part for part in self.parts
        )


class RewardOutsideBounds(ValueError):
    """A reward that ``reward_bounds`` excludes: every limit rests on these bounds."""


class TooFewPrompts(ValueError):
    """Fewer prompts than an interval over prompts can be drawn from."""


class NoSpread(ValueError):
    """All responses to every prompt have one reward: RL has nothing to learn from them."""


class RaggedRows(NamesArguments):
    """Prompts with different numbers of responses."""


class RepeatedPrompts(ValueError):
    """A prompt that occurs twice: its rows are not independent."""
