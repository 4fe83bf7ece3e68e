"""The names of what is wrong with samples. All are ``ValueError``, with the argument, the value and the remedy."""

from __future__ import annotations

from nondecoupling.estimate.arguments import NamesArguments


class RewardOutsideBounds(NamesArguments):
    """A reward that ``reward_bounds`` excludes: every limit rests on these bounds."""


class TooFewPrompts(ValueError):
    """Fewer prompts than an interval over prompts can be drawn from."""


class NoSpread(ValueError):
    """All responses to every prompt have one reward: RL has nothing to learn from them."""


class RaggedRows(NamesArguments):
    """Prompts with different numbers of responses."""


class RepeatedPrompts(ValueError):
    """A prompt that occurs twice: its rows are not independent."""
