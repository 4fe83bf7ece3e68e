"""The errors that a run explains to its user."""

__all__ = ["InputError", "RunError", "RunFolderError"]


class RunError(Exception):
    """The run cannot go on; the message says why and what to change."""


class InputError(RunError, ValueError):
    """What was asked for makes no sense; the message names it and the remedy."""


class RunFolderError(RunError):
    """The run folder cannot be used as asked, or a file in it is damaged; what is sound in it was kept."""
