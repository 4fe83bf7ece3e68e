"""What the grammar makes and the readers of files return."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Sentence"]


@dataclass(frozen=True)
class Sentence:
    """A sentence and its label; ``source`` is a phenomenon or a publication, ``place`` is for messages."""

    text: str
    acceptable: bool
    source: str
    place: str
