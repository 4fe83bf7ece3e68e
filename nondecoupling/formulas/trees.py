"""Finite sets of token sequences, and divergences token by token (F4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add

from nondecoupling.formulas.laws import INF
from nondecoupling.numbers.number_system import Array, NumberSystem


def added(terms: Iterable[Array]) -> Array:
    """The sum of some arrays, at least one."""
    return reduce(add, terms)


def column(xp: NumberSystem, x: Array, index: int) -> Array:
    """The entry of each row at one index, with a last axis of one."""
    return xp.gather(x, 0 * xp.mode(x) + index)


def columns(xp: NumberSystem, x: Array) -> list[Array]:
    """The entries of each row, one by one, with a last axis of one."""
    return [column(xp, x, index) for index in range(x.shape[-1])]


def log_mass(xp: NumberSystem, log_p: Array, leaves: Sequence[int]) -> Array:
    """log of the probability of a set of sequences: of a prefix, if they are its continuations."""
    return log_total(xp, [column(xp, log_p, leaf) for leaf in leaves])


def log_total(xp: NumberSystem, parts: Sequence[Array]) -> Array:
    """log of the sum of exp of some columns, at least one; -inf for nothing but -inf."""
    top = parts[0]
    for other in parts[1:]:
        top = xp.maximum(top, other)
    top = xp.pivot(top)
    total = added(xp.exp(x - top) for x in parts)
    some = xp.positive(total)
    return xp.where(some, top + xp.log(xp.where(some, total, 1.0)), -INF)


def token_kl_divergence(
    xp: NumberSystem, log_p: Array, log_q: Array, nodes: Sequence[Sequence[Sequence[int]]]
) -> Array:
    """F4: sum over prefixes of p(prefix) KL(p(. | prefix) || q(. | prefix)).

    A node lists, for each of its next tokens, the indices of the sequences that continue with it.
    """
    if not nodes:  # a single sequence without tokens
        return xp.full_like(xp.sum(log_p), 0.0)
    return added(token_kl_at(xp, log_p, log_q, node) for node in nodes)


def token_kl_at(
    xp: NumberSystem, log_p: Array, log_q: Array, node: Sequence[Sequence[int]]
) -> Array:
    """p(prefix) KL(p(. | prefix) || q(. | prefix)), from the conditional laws of the next token."""
    everything = [leaf for leaves in node for leaf in leaves]
    at_p, at_q = log_mass(xp, log_p, everything), log_mass(xp, log_q, everything)
    reached, known = xp.support(at_p), xp.support(at_q)
    terms = []
    for leaves in node:
        next_p, next_q = log_mass(xp, log_p, leaves), log_mass(xp, log_q, leaves)
        # Where q misses the prefix its token law is arbitrary: an earlier token paid for that.
        token_q = xp.where(known, next_q, 0.0) - xp.where(known, at_q, 0.0)
        on = xp.support(next_p)
        token_p = xp.where(on, next_p, 0.0) - xp.where(on, at_p, 0.0)
        u = xp.where(on, token_q, 0.0) - token_p
        missed = xp.where(reached, xp.exp(at_p + token_q), 0.0)
        terms.append(xp.where(on, xp.excess(xp.where(on, next_p, 0.0), u), missed))
    return added(terms)


Tokens = tuple[int, ...]


Node = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class TokenTree:
    """A finite set of token sequences of which none continues another: the leaves of a tree.

    Errors: ``ValueError`` for no sequences, a repeated one, or one that is a prefix of another (let
    each end in an end-of-sequence token).

    >>> TokenTree(((0,), (1, 0), (1, 1))).nodes
    (((0,), (1, 2)), ((1,), (2,)))
    """

    sequences: tuple[Tokens, ...]
    prefixes: tuple[Tokens, ...] = field(init=False, repr=False, compare=False)
    """Every proper prefix, in the order in which a walk through the sequences meets them."""
    nodes: tuple[Node, ...] = field(init=False, repr=False, compare=False)
    """For each prefix and each next token, the indices of the sequences that go on with it."""

    def __post_init__(self) -> None:
        if not self.sequences:
            raise ValueError("sequences=(): a token tree has at least one sequence")
        seen: set[Tokens] = set()
        for sequence in sorted(self.sequences, key=len):
            shorter = [sequence[:k] for k in range(len(sequence) + 1) if sequence[:k] in seen]
            if shorter:
                raise ValueError(
                    f"sequences: {sequence} continues or repeats {shorter[0]}; end every sequence "
                    "with an end-of-sequence token"
                )
            seen.add(sequence)
        found = {s[:k]: None for s in self.sequences for k in range(len(s))}
        object.__setattr__(self, "prefixes", tuple(found))
        nodes = tuple(tuple(self.continuations(prefix).values()) for prefix in found)
        object.__setattr__(self, "nodes", nodes)

    def continuations(self, prefix: Tokens) -> dict[int, tuple[int, ...]]:
        """Next token -> indices of the sequences that continue ``prefix`` with it."""
        k = len(prefix)
        out: dict[int, tuple[int, ...]] = {}
        for index, sequence in enumerate(self.sequences):
            if len(sequence) > k and sequence[:k] == prefix:
                out[sequence[k]] = (*out.get(sequence[k], ()), index)
        return out

    @staticmethod
    def balanced(leaves: int) -> TokenTree:
        """Binary tokens, sequences as equal in length as their number allows.

        >>> TokenTree.balanced(4).sequences
        ((0, 0), (0, 1), (1, 0), (1, 1))
        """

        def split(count: int, prefix: Tokens) -> tuple[Tokens, ...]:
            if count == 1:
                return (prefix,)
            left = count // 2
            return split(left, (*prefix, 0)) + split(count - left, (*prefix, 1))

        return TokenTree(split(leaves, ()))
