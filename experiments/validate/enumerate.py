"""The exact law of a language model over listed responses and the atom `other`.

Each candidate ends in the end-of-sequence token, so the list is prefix-free and p(y | x) is a product of token
probabilities. The rest of the model's mass is one atom,

    log p(other) = logsumexp over trie nodes of [log p(prefix) + log p(a token that continues no candidate | prefix)],

a sum of positive terms: nothing is subtracted and nothing renormalised, so |sum p - 1| is a test of its own.

A response here is a sequence of tokens. The same text cut into other tokens belongs to `other`.

Shared prefixes: a prompt and its whole candidate trie are one row of the batch. Each trie node attends to the
prompt and to its own ancestors, at the position of its depth, so every prefix is evaluated once.
Precision: hidden states are those of the model; the head is applied in float64, and so is everything after it. The
policy that the statements speak about is the law so defined.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nondecoupling.kernels import token_stats
from validate.data import Prompt, Task
from validate.models import LanguageModel

__all__ = ["Enumeration", "law_one_at_a_time"]


@dataclass
class _Row:
    """A prompt and its trie: token, parent and depth per position, and the edges that leave each node."""

    tokens: list[int]
    parent: list[int]
    position: list[int]
    root: int
    children: dict[int, dict[int, int]]  # node -> token -> node, or ~candidate for an end


def encode(language_model: LanguageModel, prompt: Prompt) -> tuple[list[int], list[list[int]]]:
    """Token ids of the prompt, and of each response with the end-of-sequence token.

    Raises:
        ValueError: two responses have the same tokens, or one has a token unknown to the tokenizer.
    """
    tokenizer = language_model.tokenizer
    start = tokenizer(prompt.text)["input_ids"]
    if start and start[-1] == tokenizer.eos_token_id:
        start = start[:-1]
    responses = []
    for text in prompt.responses:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            raise ValueError(f"the tokenizer has no token for a part of the response {text!r}")
        responses.append([*ids, tokenizer.eos_token_id])
    if len({tuple(ids) for ids in responses}) < len(responses):
        raise ValueError(f"two responses to {prompt.text!r} have the same tokens")
    return start, responses


def _build_row(prompt_tokens: list[int], responses: list[list[int]]) -> _Row:
    length = len(prompt_tokens)
    row = _Row(
        tokens=list(prompt_tokens),
        parent=list(range(-1, length - 1)),
        position=list(range(length)),
        root=length - 1,
        children={length - 1: {}},
    )
    for candidate, response in enumerate(responses):
        node = row.root
        for token in response[:-1]:
            if token not in row.children[node]:
                new = len(row.tokens)
                row.tokens.append(token)
                row.parent.append(node)
                row.position.append(row.position[node] + 1)
                row.children[node][token] = new
                row.children[new] = {}
            node = row.children[node][token]
        row.children[node][response[-1]] = ~candidate
    return row


class Enumeration:
    """``log_law()`` is log p, [prompts, candidates + 1] in float64, differentiable; `other` comes last."""

    def __init__(self, language_model: LanguageModel, task: Task) -> None:
        self.language_model = language_model
        rows = [_build_row(*encode(language_model, prompt)) for prompt in task.prompts]
        self._make_batch(rows)
        self._make_edges(rows, len(task.prompts[0].responses))
        self._frozen_head: tuple[Tensor, Tensor | None] | None = None

    def _make_batch(self, rows: list[_Row]) -> None:
        device = self.language_model.device
        batch, self.length = len(rows), max(len(row.tokens) for row in rows)
        self.tokens = torch.zeros(batch, self.length, dtype=torch.long)
        self.positions = torch.zeros(batch, self.length, dtype=torch.long)
        # A padding position sees itself, since a softmax over nothing is NaN; nobody else sees it.
        allowed = torch.eye(self.length, dtype=torch.bool).repeat(batch, 1, 1)
        for index, row in enumerate(rows):
            size = len(row.tokens)
            self.tokens[index, :size] = torch.tensor(row.tokens)
            self.positions[index, :size] = torch.tensor(row.position)
            for node, parent in enumerate(row.parent):
                if parent >= 0:
                    allowed[index, node] |= allowed[index, parent]
        dtype = self.language_model.head.weight.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
        self.tokens, self.positions = self.tokens.to(device), self.positions.to(device)
        self.mask = mask[:, None].to(device)

    def _make_edges(self, rows: list[_Row], candidates: int) -> None:
        """One edge per trie branch. Sums along paths are products with 0/1 matrices."""
        device = self.language_model.device
        source: list[int] = []  # the position whose hidden state predicts the edge's token
        target: list[int] = []
        siblings: list[list[int]] = []  # the tokens of all edges that leave the same node
        first_edge: list[int] = []
        node_paths: list[list[int]] = []
        candidate_paths: list[list[int]] = [[] for _ in range(len(rows) * candidates)]
        nodes_of_prompt: list[list[int]] = []
        for index, row in enumerate(rows):
            paths = {row.root: list[int]()}
            nodes_of_prompt.append([])
            for node, branches in row.children.items():  # parents come before their children
                nodes_of_prompt[-1].append(len(node_paths))
                node_paths.append(paths[node])
                first_edge.append(len(source))
                for token, child in branches.items():
                    path = [*paths[node], len(source)]
                    if child < 0:
                        candidate_paths[index * candidates + ~child] = path
                    else:
                        paths[child] = path
                    source.append(index * self.length + node)
                    target.append(token)
                    siblings.append(list(branches))
        width = max(map(len, siblings))
        self.source = torch.tensor(source, device=device)
        self.target = torch.tensor(target, device=device)
        self.siblings = torch.tensor(
            [tokens + [-1] * (width - len(tokens)) for tokens in siblings], device=device
        )
        self.first_edge = torch.tensor(first_edge, device=device)
        self.to_nodes = _incidence(node_paths, len(source), device)
        self.to_candidates = _incidence(candidate_paths, len(source), device)
        most = max(map(len, nodes_of_prompt))
        # Pads point one past the last node, where -inf stands.
        self.nodes_of_prompt = torch.tensor(
            [nodes + [len(node_paths)] * (most - len(nodes)) for nodes in nodes_of_prompt],
            device=device,
        )
        self.candidates = candidates

    def _head(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias in float64; converted once where training leaves the head alone."""
        if self._frozen_head is not None:
            return self._frozen_head
        head = self.language_model.head
        bias = getattr(head, "bias", None)
        double = (head.weight.double(), None if bias is None else bias.double())
        if not head.weight.requires_grad:
            self._frozen_head = double
        return double

    def log_law(self) -> Tensor:
        hidden = self.language_model.hidden_states(self.tokens, self.mask, self.positions)
        hidden = hidden.reshape(-1, hidden.shape[-1]).index_select(0, self.source)
        weight, bias = self._head()
        stats = token_stats(
            hidden.double(),
            weight,
            self.target,
            bias=bias,
            softcap=self.language_model.softcap,
            exclude=self.siblings,
        )
        assert stats.logsumexp_rest is not None
        candidates = (self.to_candidates @ stats.logprob).reshape(-1, self.candidates)
        prefix = self.to_nodes @ stats.logprob
        leave = (stats.logsumexp_rest - stats.logsumexp).index_select(0, self.first_edge)
        leaves = torch.cat([prefix + leave, leave.new_full((1,), -torch.inf)])
        other = leaves[self.nodes_of_prompt].logsumexp(dim=1, keepdim=True)
        return torch.cat([candidates, other], dim=1)

    def measured(self) -> np.ndarray:
        """The law as an array, outside of autograd."""
        with torch.no_grad():
            return self.log_law().cpu().numpy()


def _incidence(paths: list[list[int]], edges: int, device: torch.device) -> Tensor:
    matrix = torch.zeros(len(paths), edges, dtype=torch.float64, device=device)
    for row, path in enumerate(paths):
        matrix[row, path] = 1
    return matrix


def law_one_at_a_time(language_model: LanguageModel, prompt: Prompt) -> np.ndarray:
    """log p of each candidate from the model's own logits, one sequence at a time, without a trie.

    The other route to the same numbers: it guards the attention mask, the positions and the treatment of the head.
    """
    start, responses = encode(language_model, prompt)
    result = []
    with torch.no_grad():
        for response in responses:
            tokens = torch.tensor([start + response], device=language_model.device)
            logits = language_model.causal(input_ids=tokens, use_cache=False).logits.double()
            steps = torch.log_softmax(logits[0, len(start) - 1 : -1], dim=-1)
            picked = steps.gather(1, tokens[0, len(start) :, None])
            result.append(float(picked.sum()))
    return np.array(result)
