"""F4: Chain rule for autoregressive policies."""

from __future__ import annotations

from collections.abc import Iterator

from nondecoupling.formulas.laws import kl_by_definition
from nondecoupling.formulas.trees import TokenTree, token_kl_at, token_kl_divergence
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim, Statement
from nondecoupling.theory.worlds import WorldValues


class ChainRule(Statement):
    """Chain rule for autoregressive policies.

    Statement: KL of two sequence laws = sum_t E_{y_<t ~ p} KL(p(.|y_<t)||q(.|y_<t)), the
        expectation under the first argument. So no token's share exceeds the whole.

    Assumptions: a finite token tree: no sequence continues another (each ends in an
        end-of-sequence token). Here the tree is binary; ``proofs`` draws others.

    Side: identity and upper bound.

    Equality when: identity always; the bound iff the laws agree given every first token.

    Units: nats per response.

    Source: Cover and Thomas, section 2.5.

    Proof idea: log p(y) = sum_t log p(y_t|y_<t); take E_p and group by prefix.

    Example:
    >>> from nondecoupling.bounds import kl_divergence, token_kl_divergence
    >>> from nondecoupling.policies import TokenTree
    >>> import numpy as np
    >>> tree = TokenTree(((0,), (1, 0), (1, 1)))  # token 0 ends the sequence at once
    >>> p, q = np.log([0.5, 0.25, 0.25]), np.log([0.2, 0.2, 0.6])
    >>> bool(np.isclose(kl_divergence(p, q), token_kl_divergence(p, q, tree), rtol=1e-14))
    True
    """

    id = "F4"
    title = "Chain rule for autoregressive policies"
    depends = ("F1",)
    world = dict(log_p=Law(), log_q=Law())

    @staticmethod
    def claims(xp: NumberSystem, w: WorldValues[Array]) -> Iterator[Claim]:
        nodes = TokenTree.balanced(w.log_p.shape[-1]).nodes
        whole = kl_by_definition(xp, w.log_p, w.log_q)
        by_token = token_kl_divergence(xp, w.log_p, w.log_q, nodes)
        yield Claim("sum over tokens", whole, "==", by_token)
        first = token_kl_at(xp, w.log_p, w.log_q, nodes[0])
        yield Claim("the first token's share", first, "<=", whole)
