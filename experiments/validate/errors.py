"""The errors that a run explains to its user."""

__all__ = ["InputError", "RunError"]


class RunError(Exception):
    """The run cannot go on; the message says why and what to change."""


class InputError(RunError, ValueError):
    """What was asked for makes no sense; the message names it and the remedy."""
