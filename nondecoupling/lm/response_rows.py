"""Responses as rows of tokens that the network evaluates; a prompt stands once for several of its responses.

A row is a prompt with a tree of responses behind it: a token attends to the prompt and to what comes before it in its
own response, at the position that it has there. What responses begin with alike is evaluated once, where that leaves so
few tokens that it is faster. Not every architecture honours such a mask (those without attention do not, a window of
attention is lost). So a call compares two responses with rows of their own, and falls back on those for all; a model
that has passed is compared again where its rows or responses are longer than any that passed, since that is what a lost
window takes. In half precision rounding would hide the difference, and every response has a row of its own.

Where the frequencies of positions depend on the longest row (``rope``), rows of either kind are evaluated apart, and a
response that begins in the one and ends in the other is two: no score depends on what else is evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nondecoupling.kernels import token_stats
from nondecoupling.lm.language_model import LanguageModel
from nondecoupling.lm.rope import RowLengths, row_lengths
from nondecoupling.lm.tokens import PromptResponse
from nondecoupling.lm.tolerances import enumeration_tolerance
from nondecoupling.lm.tries import TokenRow, attention_mask, padded

__all__ = ["COARSE", "ResponseRows", "evaluate", "response_rows"]

# Tokens. The mask has the square of it, and so has what attention computes in vain.
LONGEST_ROW = 512
# Of the tokens that rows of their own have: attention with a mask costs more than it saves where fewer are saved
# (experiments/benchmarks/shared_prompts.py).
WORTH_A_MASK = 0.75
# Of a precision in which a wrong mask may pass for rounding.
COARSE = 1e-4
# What has been seen not to honour the mask.
_WITHOUT_MASKS: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True)
class _Honoured:
    """Up to how many tokens of a row, and of a prompt with one response, attention of that name honours the mask."""

    attention: str
    row: int
    response: int

    def covers(self, other: _Honoured) -> bool:
        return self == self.joined(other)

    def joined(self, other: _Honoured) -> _Honoured:
        """Both, where they are about the same attention; else the other."""
        if self.attention != other.attention:
            return other
        return _Honoured(
            self.attention, max(self.row, other.row), max(self.response, other.response)
        )


_HONOURED: WeakKeyDictionary[nn.Module, _Honoured] = WeakKeyDictionary()


@dataclass(frozen=True)
class ResponseRows:
    """Rows of tokens, and where the responses are in them.

    ``tokens``, ``positions`` [rows, length]; ``mask`` [rows, 1, length, length], 0 where attention is allowed, None for
    plain sequences. ``source``: of each response the flat places whose hidden states predict its tokens. ``checked``:
    responses that would show a mask or a position that is not honoured.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor | None
    source: list[list[int]]
    checked: list[int]


@dataclass
class _Tree:
    """A prompt and its responses so far; a node is a place in the row."""

    prompt: list[int]
    row: TokenRow = field(init=False)
    children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.prompt)
        self.row = TokenRow(list(self.prompt), list(range(size)), list(range(-1, size - 1)))

    def add(self, response: Sequence[int]) -> list[int]:
        """The places whose hidden states predict the tokens of ``response``."""
        row, at = self.row, len(self.prompt) - 1
        places = [at]
        for token in response[:-1]:
            if (at, token) not in self.children:
                self.children[at, token] = len(row.tokens)
                row.tokens.append(token)
                row.positions.append(row.positions[at] + 1)
                row.parent.append(at)
            at = self.children[at, token]
            places.append(at)
        return places


def response_rows(
    pairs: Sequence[PromptResponse], longest: int, dtype: torch.dtype
) -> ResponseRows:
    """Rows of at most ``longest`` tokens; where a response with its prompt has more, each has a row of its own.

    ``dtype`` is that of the mask.
    """
    largest = max(range(len(pairs)), key=lambda i: len(pairs[i].prompt) + len(pairs[i].response))
    if len(pairs[largest].prompt) + len(pairs[largest].response) > longest:
        longest = 0
    trees: list[_Tree] = []
    filling: dict[tuple[int, ...], int] = {}
    found: list[tuple[int, list[int]]] = []
    displaced: list[int] = []
    for index, pair in enumerate(pairs):
        prompt = tuple(pair.prompt)
        number = filling.get(prompt)
        if number is None or len(trees[number].row.tokens) + len(pair.response) > longest:
            number = filling[prompt] = len(trees)
            trees.append(_Tree(pair.prompt))
        places = trees[number].add(pair.response)
        found.append((number, places))
        if places[-1] != len(pair.prompt) + len(pair.response) - 2:
            displaced.append(index)
    rows = [tree.row for tree in trees]
    tokens, positions = padded(rows)
    width = tokens.shape[1]
    return ResponseRows(
        tokens=tokens,
        positions=positions,
        mask=attention_mask(rows, dtype) if displaced else None,
        source=[[row * width + place for place in places] for row, places in found],
        checked=[largest, *displaced[-1:]],
    )


def evaluate(language_model: LanguageModel, pairs: Sequence[PromptResponse]) -> Tensor:
    """[tokens, D]: the hidden states that predict the tokens of the responses, one response after another.

    Raises:
        ModelError: what these are in so long a row depends on the rows before it.
    """
    lengths = row_lengths(language_model.causal.config.get_text_config())
    parts = [part for pair in pairs for part in _parts(pair, lengths)]
    kinds = [lengths.kind(len(part.prompt) + len(part.response) - 1) for part in parts]
    if len(set(kinds)) == 1:
        return _evaluate(language_model, parts)
    found: dict[int, Tensor] = {}
    for kind in set(kinds):
        places = [place for place, own in enumerate(kinds) if own == kind]
        some = [parts[place] for place in places]
        hidden = _evaluate(language_model, some).split([len(part.response) for part in some])
        found |= dict(zip(places, hidden, strict=True))
    return torch.cat([found[place] for place in range(len(parts))])


def _parts(pair: PromptResponse, lengths: RowLengths) -> list[PromptResponse]:
    """The response in parts, each of tokens that follow as many as rows of one kind have."""
    whole, first = [*pair.prompt, *pair.response], len(pair.prompt)
    cuts = [switch + 1 for switch in lengths.switches if first <= switch < len(whole) - 1]
    ends = [*cuts, len(whole)]
    return [
        PromptResponse(whole[:start], whole[start:end])
        for start, end in zip([first, *cuts], ends, strict=True)
    ]


def _evaluate(language_model: LanguageModel, pairs: Sequence[PromptResponse]) -> Tensor:
    model, dtype = language_model.model, language_model.head.weight.dtype
    if model not in _WITHOUT_MASKS and torch.finfo(dtype).eps < COARSE:
        rows = response_rows(pairs, LONGEST_ROW, dtype)
        alone = len(pairs) * max(len(pair.prompt) + len(pair.response) - 1 for pair in pairs)
        if rows.tokens.numel() <= WORTH_A_MASK * alone:
            try:
                hidden = _flat(language_model, rows)
                honoured = rows.mask is None or _honours(language_model, pairs, rows, hidden)
            except (RuntimeError, TypeError, ValueError):
                # Architectures without attention may not even accept its mask.
                honoured = False
            if honoured:
                return hidden[_places(rows.source, hidden)]
            _WITHOUT_MASKS.add(model)
    rows = response_rows(pairs, 0, dtype)
    hidden = _flat(language_model, rows)
    return hidden[_places(rows.source, hidden)]


def _places(source: Sequence[Sequence[int]], hidden: Tensor) -> Tensor:
    return torch.tensor([place for places in source for place in places], device=hidden.device)


def _flat(language_model: LanguageModel, rows: ResponseRows) -> Tensor:
    """[rows * length, D]."""
    device = language_model.device
    mask = None if rows.mask is None else rows.mask.to(device)
    hidden = language_model.hidden_states(rows.tokens.to(device), mask, rows.positions.to(device))
    return hidden.reshape(-1, hidden.shape[-1])


def _honours(
    language_model: LanguageModel,
    pairs: Sequence[PromptResponse],
    rows: ResponseRows,
    hidden: Tensor,
) -> bool:
    """Whether the model honours the mask of these rows, by what it has been seen to do, or by comparison.

    A comparison is remembered where it could have failed, so not as long as attention counts for nothing, as it does in
    a model before its first step whose attention is initialised at 0.
    """
    model, config = language_model.model, language_model.causal.config.get_text_config()
    largest = pairs[rows.checked[0]]
    asked = _Honoured(
        attention=str(config._attn_implementation),
        row=rows.tokens.shape[1],
        response=len(largest.prompt) + len(largest.response),
    )
    seen = _HONOURED.get(model)
    if seen is not None and seen.covers(asked):
        return True
    some = [pairs[i] for i in rows.checked]
    alone = response_rows(some, 0, hidden.dtype)
    expected = _log_probs(language_model, _flat(language_model, alone), alone.source, some)
    depth, eps = config.num_hidden_layers, torch.finfo(hidden.dtype).eps
    allowed = [enumeration_tolerance(np.array(value), depth, eps) for value in expected]

    def agrees(hidden: Tensor) -> bool:
        source = [rows.source[i] for i in rows.checked]
        found = _log_probs(language_model, hidden, source, some)
        return bool((np.abs(found - expected) <= allowed).all())

    if not agrees(hidden):
        return False
    if not agrees(_flat(language_model, replace(rows, mask=None))):
        _HONOURED[model] = asked if seen is None else seen.joined(asked)
    return True


def _log_probs(
    language_model: LanguageModel,
    hidden: Tensor,
    source: Sequence[Sequence[int]],
    pairs: Sequence[PromptResponse],
) -> NDArray[np.float64]:
    """[pairs]."""
    head = language_model.head
    stats = token_stats(
        hidden[_places(source, hidden)],
        head.weight,
        torch.tensor([token for pair in pairs for token in pair.response], device=hidden.device),
        bias=getattr(head, "bias", None),
        **language_model.logit_options,
    )
    each = stats.logprob.split([len(pair.response) for pair in pairs])
    return np.array([float(tokens.sum()) for tokens in each])
