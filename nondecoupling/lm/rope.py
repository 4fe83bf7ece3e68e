"""Rotary position embeddings whose frequencies depend on how long the longest row of a batch is.

Two kinds do, "longrope" and "dynamic". Up to the length N that the model was first trained for, both are as others
are. Beyond it all rows of a batch have other frequencies, the short ones too, and what is said of a token changes with
the tokens that follow. The law that a model samples from reads each prefix by itself: a token that follows at most N
tokens has the frequencies of short rows.

    longrope    other frequencies in rows of more than N tokens: rows of either kind are evaluated apart
    dynamic     frequencies of the longest row so far, so that a score beyond N would depend on earlier calls
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nondecoupling.lm.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["RowLengths", "row_lengths"]


@dataclass(frozen=True)
class RowLengths:
    """``switches``: lengths beyond which rows have other frequencies; ``longest``: that a row may have."""

    switches: tuple[int, ...]
    longest: int | None

    def kind(self, length: int) -> int:
        """Rows of one kind have the same frequencies, whatever their lengths.

        Raises:
            ModelError: the frequencies of so long a row depend on the rows before it.
        """
        if self.longest is not None and length > self.longest:
            raise ModelError(
                f"a prompt with its response has {length + 1} tokens, and beyond {self.longest + 1} the rotary "
                "position embeddings of this model (rope_type 'dynamic') depend on the rows that it saw before: it has "
                "no law there; give shorter texts, or a model with another rope_type"
            )
        return sum(length > switch for switch in self.switches)


def row_lengths(config: PreTrainedConfig) -> RowLengths:
    """What the configuration of a decoder says about it, whether for all layers or by their type."""
    given = getattr(config, "rope_parameters", None) or {}
    by_layer = [one for one in given.values() if isinstance(one, dict)]
    switches: set[int] = set()
    longest: int | None = None
    for rope in by_layer or [given]:
        kind = str(rope.get("rope_type"))
        if kind == "longrope":
            first = rope.get("original_max_position_embeddings")
            switches.add(int(first or config.max_position_embeddings))
        if "dynamic" in kind:
            # A row of as many tokens does not undo what a longer one left behind.
            longest = int(config.max_position_embeddings) - 1
    return RowLengths(tuple(sorted(switches)), longest)
