"""The base of all errors that a run explains to its user."""

__all__ = ["RunError"]


class RunError(Exception):
    """The run cannot go on; the message says why and what to change."""
