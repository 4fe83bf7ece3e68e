"""Prompts and their candidate responses as tries, laid out in a batch of token rows.

A trie node is a prefix of a response; the root is the prompt itself. Every edge is a token that some candidate
takes next, every candidate ends in the end-of-sequence token, so the list is prefix-free. The root and all inner
nodes need a hidden state. Two layouts give it:

    shared prefixes     a prompt and its whole trie are one row: each node attends to the prompt and to its own
                        ancestors, at the position of its depth, so every prefix is evaluated once
    one row each        a row per candidate, for architectures that do not look at an attention mask
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nondecoupling.lm.errors import ResponseError
from nondecoupling.lm.tokens import prompt_and_responses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "LAYOUTS",
    "ONE_ROW_EACH",
    "SHARED_PREFIXES",
    "Batch",
    "Candidates",
    "TokenRow",
    "attention_mask",
    "encode",
    "make_batch",
    "padded",
    "shared_row",
]

SHARED_PREFIXES, ONE_ROW_EACH = "shared prefixes", "one row each"


@dataclass(frozen=True)
class Candidates:
    """Token ids of a prompt, and of each of its candidate responses with its end."""

    prompt: list[int]
    responses: list[list[int]]


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, responses: Sequence[str]) -> Candidates:
    """The prompt and its candidate responses as tokens, each response with the end-of-sequence token.

    Raises:
        ResponseError: there is no response, two have the same tokens, or what ``prompt_and_responses`` refuses.
    """
    if not responses:
        raise ResponseError(f"the prompt {prompt!r} has no candidate responses; list at least one")
    start, tokens = prompt_and_responses(tokenizer, prompt, responses)
    first: dict[tuple[int, ...], int] = {}
    for index, ids in enumerate(tokens):
        earlier = first.setdefault(tuple(ids), index)
        if earlier != index:
            raise ResponseError(
                f"two responses to {prompt!r} have the same tokens: {responses[earlier]!r} and "
                f"{responses[index]!r}; leave one out"
            )
    return Candidates(start, tokens)


@dataclass
class _Trie:
    """Nodes in an order in which parents come first; the root is node 0 and stands for the prompt."""

    prompt: list[int]
    responses: list[list[int]]
    token: list[int] = field(default_factory=lambda: [-1])
    parent: list[int] = field(default_factory=lambda: [-1])
    depth: list[int] = field(default_factory=lambda: [0])
    # node -> token -> node, or ~candidate where the token ends a response
    branches: list[dict[int, int]] = field(default_factory=lambda: [{}])
    # node -> (first candidate below it, its depth): where a row per candidate holds it
    seen_in: list[int] = field(default_factory=lambda: [0])

    def __post_init__(self) -> None:
        for candidate, response in enumerate(self.responses):
            node = 0
            for token in response[:-1]:
                if token not in self.branches[node]:
                    self.branches[node][token] = len(self.token)
                    self.token.append(token)
                    self.parent.append(node)
                    self.depth.append(self.depth[node] + 1)
                    self.branches.append({})
                    self.seen_in.append(candidate)
                node = self.branches[node][token]
            self.branches[node][response[-1]] = ~candidate


@dataclass
class TokenRow:
    """Tokens of one row, for each its position, and the earlier place it attends through (-1: none)."""

    tokens: list[int]
    positions: list[int]
    parent: list[int]


def _shared_row(trie: _Trie) -> tuple[list[TokenRow], list[tuple[int, int]]]:
    length = len(trie.prompt)
    row = TokenRow(list(trie.prompt), list(range(length)), list(range(-1, length - 1)))
    for node in range(1, len(trie.token)):
        row.tokens.append(trie.token[node])
        row.positions.append(length - 1 + trie.depth[node])
        row.parent.append(length - 1 + trie.parent[node])
    return [row], [(0, length - 1 + node) for node in range(len(trie.token))]


def _row_per_candidate(trie: _Trie) -> tuple[list[TokenRow], list[tuple[int, int]]]:
    rows = []
    for response in trie.responses:
        tokens = [*trie.prompt, *response[:-1]]
        size = len(tokens)
        rows.append(TokenRow(tokens, list(range(size)), list(range(-1, size - 1))))
    last = len(trie.prompt) - 1
    return rows, [(trie.seen_in[n], last + trie.depth[n]) for n in range(len(trie.token))]


LAYOUTS = {SHARED_PREFIXES: _shared_row, ONE_ROW_EACH: _row_per_candidate}


@dataclass(frozen=True)
class Batch:
    """Everything that the law of some prompts needs, as tensors; one edge per trie branch.

    ``source`` is the flat place of the hidden state that predicts an edge's token ``target``; ``siblings`` are the
    tokens of all edges that leave the same node. Sums along paths are products with the 0/1 matrices ``to_nodes``
    and ``to_candidates``. ``nodes_of_prompt`` is padded with a node one past the last.
    """

    tokens: Tensor
    positions: Tensor
    mask: Tensor | None
    source: Tensor
    target: Tensor
    siblings: Tensor
    first_edge: Tensor
    to_nodes: Tensor
    to_candidates: Tensor
    nodes_of_prompt: Tensor
    candidates: int

    def to(self, device: torch.device) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in values.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    @property
    def places(self) -> int:
        """Token places that the network evaluates, padding included."""
        return self.tokens.numel()


def make_batch(encoded: Iterable[Candidates], layout: str, dtype: torch.dtype) -> Batch:
    """The batch of some encoded prompts (``encode``); ``dtype`` is that of the attention mask.

    Raises:
        ResponseError: there is no prompt, or two have different numbers of candidates.
    """
    tries = [_Trie(one.prompt, one.responses) for one in encoded]
    sizes = sorted({len(trie.responses) for trie in tries})
    if len(sizes) != 1:
        raise ResponseError(
            f"prompts have {sizes or 'no'} candidate responses; give each of them the same number, at least one"
        )
    rows: list[TokenRow] = []
    places: list[list[tuple[int, int]]] = []
    for trie in tries:
        new, where = LAYOUTS[layout](trie)
        places.append([(len(rows) + row, place) for row, place in where])
        rows += new
    tokens, positions = padded(rows)
    return Batch(
        tokens=tokens,
        positions=positions,
        mask=attention_mask(rows, dtype) if layout == SHARED_PREFIXES else None,
        candidates=len(tries[0].responses),
        **_edges(tries, places, tokens.shape[1]),
    )


def shared_row(candidates: Candidates) -> TokenRow:
    """The row of a prompt and its whole trie, of the layout of shared prefixes."""
    (row,), _ = _shared_row(_Trie(candidates.prompt, candidates.responses))
    return row


def padded(rows: Sequence[TokenRow]) -> tuple[Tensor, Tensor]:
    """(tokens, positions), [rows, length], with zeros behind."""
    length = max(len(row.tokens) for row in rows)
    tokens = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        size = len(row.tokens)
        tokens[index, :size] = torch.tensor(row.tokens)
        positions[index, :size] = torch.tensor(row.positions)
    return tokens, positions


def attention_mask(rows: Sequence[TokenRow], dtype: torch.dtype) -> Tensor:
    """[rows, 1, length, length]: 0 where a place attends, to itself and to what its parent attends to."""
    length = max(len(row.tokens) for row in rows)
    # A padding place sees itself, since a softmax over nothing is NaN; nobody else sees it.
    allowed = np.tile(np.eye(length, dtype=bool), (len(rows), 1, 1))
    for seen, row in zip(allowed, rows, strict=True):
        for place, parent in enumerate(row.parent):
            if parent >= 0:
                seen[place] |= seen[parent]
    mask = torch.zeros(allowed.shape, dtype=dtype)
    return mask.masked_fill(~torch.from_numpy(allowed), torch.finfo(dtype).min)[:, None]


def _edges(
    tries: Sequence[_Trie], places: Sequence[Sequence[tuple[int, int]]], length: int
) -> dict[str, Tensor]:
    source: list[int] = []
    target: list[int] = []
    siblings: list[list[int]] = []
    first_edge: list[int] = []
    node_paths: list[list[int]] = []
    candidate_paths: list[list[int]] = []
    nodes_of_prompt: list[list[int]] = []
    for trie, where in zip(tries, places, strict=True):
        paths: dict[int, list[int]] = {0: []}
        ends: dict[int, list[int]] = {}
        nodes_of_prompt.append([])
        for node, branches in enumerate(trie.branches):
            row, place = where[node]
            nodes_of_prompt[-1].append(len(node_paths))
            node_paths.append(paths[node])
            first_edge.append(len(source))
            for token, child in branches.items():
                (ends if child < 0 else paths)[child] = [*paths[node], len(source)]
                source.append(row * length + place)
                target.append(token)
                siblings.append(list(branches))
        candidate_paths += [ends[~candidate] for candidate in range(len(trie.responses))]
    width, most = max(map(len, siblings)), max(map(len, nodes_of_prompt))
    return {
        "source": torch.tensor(source),
        "target": torch.tensor(target),
        "siblings": torch.tensor([s + [-1] * (width - len(s)) for s in siblings]),
        "first_edge": torch.tensor(first_edge),
        "to_nodes": _incidence(node_paths, len(source)),
        "to_candidates": _incidence(candidate_paths, len(source)),
        "nodes_of_prompt": torch.tensor(
            [nodes + [len(node_paths)] * (most - len(nodes)) for nodes in nodes_of_prompt]
        ),
    }


def _incidence(paths: Sequence[Sequence[int]], edges: int) -> Tensor:
    matrix = torch.zeros(len(paths), edges, dtype=torch.float64)
    for row, path in enumerate(paths):
        matrix[row, list(path)] = 1
    return matrix
