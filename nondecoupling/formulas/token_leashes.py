"""Leashes per token on a token tree, by backward induction (T3).

Nodes are those of ``TokenTree``: for each prefix and each next token, the sequences that go on with
it. Token laws are lists of columns [..., 1], one per next token, in the order of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from nondecoupling.formulas.trainers import Estimator, forward_leash_optimum
from nondecoupling.formulas.trees import Node, added, column, columns, log_total
from nondecoupling.numbers.duals import Dual, Duals, slope
from nondecoupling.numbers.floats import Floats
from nondecoupling.numbers.number_system import Array, NumberSystem

TokenLaw: TypeAlias = list[Array]
# The law of the next token, from that of ref, the values of the tokens, and beta.
Leash = Callable[[TokenLaw, list[Array], Array], TokenLaw]


def token_laws(xp: NumberSystem, log_p: Sequence[Array], nodes: Sequence[Node]) -> list[TokenLaw]:
    """log p(token | prefix) at every node, from log p of each sequence, all with some mass."""
    found = []
    for node in nodes:
        tokens = [log_total(xp, [log_p[leaf] for leaf in leaves]) for leaves in node]
        whole = log_total(xp, tokens)
        found.append([token - whole for token in tokens])
    return found


def along_path(nodes: Sequence[Node], values: Sequence[Sequence[Array]], leaf: int) -> list[Array]:
    """The values of the tokens on the way to one sequence."""
    return [
        value
        for node, of_node in zip(nodes, values, strict=True)
        for leaves, value in zip(node, of_node, strict=True)
        if leaf in leaves
    ]


def k2_leash(xp: NumberSystem) -> Leash:
    """p prop. to ref e^{Q/beta}."""

    def law(log_ref: TokenLaw, values: list[Array], beta: Array) -> TokenLaw:
        # From the first token's value, so that large common values cancel before the division.
        weights = [r + (q - values[0]) / beta for r, q in zip(log_ref, values, strict=True)]
        whole = log_total(xp, weights)
        return [weight - whole for weight in weights]

    return law


def k3_leash(xp: Floats) -> Leash:
    """p = beta ref/(mu - Q)."""

    def law(log_ref: TokenLaw, values: list[Array], beta: Array) -> TokenLaw:
        ref, rewards = (xp.module.concat(x, axis=-1) for x in (log_ref, values))
        log_p = forward_leash_optimum(xp, ref, rewards, beta)
        return [log_p[..., k : k + 1] for k in range(len(values))]

    return law


def stationary_policy(
    xp: NumberSystem,
    log_ref: Array,
    reward: Array,
    beta: Array,
    nodes: Sequence[Node],
    leash: Leash,
) -> list[Array]:
    """T3: log p of each sequence, by backward induction with the hard value Q = E_p[r | prefix, token]."""
    value, ref_laws = columns(xp, reward), token_laws(xp, columns(xp, log_ref), nodes)
    log_p = [xp.full_like(v, 0) for v in value]
    # A prefix comes before what continues it, so this meets every node after its continuations.
    for node, ref in reversed(list(zip(nodes, ref_laws, strict=True))):
        values = [value[leaves[0]] for leaves in node]
        law = leash(ref, values, beta)
        gains = (xp.exp(p) * (q - values[0]) for p, q in zip(law, values, strict=True))
        mean = values[0] + added(gains)
        for leaves, p in zip(node, law, strict=True):
            for leaf in leaves:
                log_p[leaf], value[leaf] = log_p[leaf] + p, mean
    return log_p


def per_token_law(
    xp: Floats,
    log_ref: Array,
    reward: Array,
    beta: Array,
    nodes: Sequence[Node],
    estimator: Literal["k2", "k3"],
) -> Array:
    """T3 in floats: log p [..., n] for either estimator."""
    leash = k2_leash(xp) if estimator == "k2" else k3_leash(xp)
    law = stationary_policy(xp, log_ref, reward, beta, nodes, leash)
    return xp.module.concat(law, axis=-1)


def moving_tokens(
    xp: NumberSystem, laws: list[TokenLaw], nodes: Sequence[Node], direction: Array
) -> list[TokenLaw]:
    """The token laws with their derivative in e, every token's logit moving by e times its own direction.

    A token's direction is that of its first sequence: all directions at all prefixes arise like this.
    """
    duals = Duals(xp)
    found: list[TokenLaw] = []
    for law, node in zip(laws, nodes, strict=True):
        moved: list[Array] = [
            Dual(p, column(xp, direction, leaves[0])) for p, leaves in zip(law, node, strict=True)
        ]
        whole = duals.log(added(duals.exp(token) for token in moved))
        found.append([token - whole for token in moved])
    return found


def pull_of_sequences(
    xp: NumberSystem,
    laws: list[TokenLaw],
    nodes: Sequence[Node],
    direction: Array,
    of_leaf: Callable[[int, list[Array]], Array],
) -> Array:
    """sum over sequences of p times ``of_leaf(sequence, its moving tokens)``: an expected gradient."""
    moving = moving_tokens(xp, laws, nodes, direction)
    terms = []
    for leaf in range(direction.shape[-1]):
        log_p = added(along_path(nodes, laws, leaf))
        terms.append(xp.exp(log_p) * of_leaf(leaf, along_path(nodes, moving, leaf)))
    return added(terms)


def token_reward_pull(
    xp: NumberSystem,
    laws: list[TokenLaw],
    nodes: Sequence[Node],
    direction: Array,
    reward: Sequence[Array],
) -> Array:
    """E_p[r sum_t d log p_t]: the policy gradient of the sequence's reward."""

    def of_leaf(leaf: int, moving: list[Array]) -> Array:
        return reward[leaf] * added(slope(token) for token in moving)

    return pull_of_sequences(xp, laws, nodes, direction, of_leaf)


def token_penalty_pull(
    xp: NumberSystem,
    k: Estimator,
    laws: list[TokenLaw],
    ref_laws: list[TokenLaw],
    nodes: Sequence[Node],
    direction: Array,
    *,
    ratio: bool = False,
) -> Array:
    """E_p[sum_t d k(u_t)], u_t = log(p_t/ref_t), at held sequences; ``ratio``: each times p_t/held p_t."""
    duals = Duals(xp)

    def of_leaf(leaf: int, moving: list[Array]) -> Array:
        held, ref = (along_path(nodes, x, leaf) for x in (laws, ref_laws))
        terms = []
        for token, p, r in zip(moving, held, ref, strict=True):
            penalty = k(duals, token - r)
            terms.append(slope(duals.exp(token - p) * penalty if ratio else penalty))
        return added(terms)

    return pull_of_sequences(xp, laws, nodes, direction, of_leaf)
