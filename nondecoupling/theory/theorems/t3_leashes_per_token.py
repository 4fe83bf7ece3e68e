"""T3: Leashes per token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.token_leashes import (
    along_path,
    k2_leash,
    stationary_policy,
    token_laws,
    token_penalty_pull,
    token_reward_pull,
)
from nondecoupling.formulas.trainers import k2, k3
from nondecoupling.formulas.trees import TokenTree, added, columns
from nondecoupling.numbers.number_system import NumberSystem
from nondecoupling.theory.fields import Law, Logits, Positive, Reward
from nondecoupling.theory.statement import Claim, Statement


class LeashesPerToken(Statement):
    """Leashes per token.

    Statement: On a token tree, with a penalty per token in the loss, the stationary policy is
        unique, globally attracting, and found by backward induction: for k2, p(a|y) is proportional
        to ref(a|y) e^{Q(y,a)/beta}; for k3, p(a|y) = beta ref(a|y)/(mu(y) - Q(y,a)), mu(y) = V(y) +
        beta. Q(y,a) = E_p[r|y,a] is the hard value, V(y) = E_p[r|y]. The sequence tilt has the soft
        value beta log E_ref[e^{r/beta}|y,a] in its place: the two agree at the last token and
        differ before. k3 times the token's own ratio pulls as k2 does.

    Assumptions: ref has full support; every token at every prefix has its own logit; exact expected
        gradients. Here the tree is binary; ``proofs`` draws others.

    Side: identity; one refuted claim.

    Equality when: always.

    Units: reward units.

    Source: ours.

    Proof idea: the penalty's gradient holds the sampled prefix, so at the prefix y the total is p(y)
        times that of a one-token problem with the rewards Q(y, .); last tokens settle first. Every
        p is stationary for the reward beta sum_t (u_t - KL_t), or beta sum_t (1 - ref_t/p_t).

    Example:
    >>> import numpy as np
    >>> from nondecoupling.bounds import gibbs_tilt, per_token_optimum
    >>> from nondecoupling.policies import TokenTree
    >>> tree = TokenTree(((0,), (1, 0), (1, 1)))
    >>> ref, r = np.log([0.5, 0.25, 0.25]), np.array([0.0, -2.0, 1.0])
    >>> np.exp(per_token_optimum(ref, r, 0.5, tree, "k2")).round(3).tolist()
    [0.121, 0.002, 0.877]
    >>> np.exp(gibbs_tilt(ref, r, 0.5)).round(3).tolist()  # what a KL of the sequence would give
    [0.213, 0.002, 0.785]
    """

    id = "T3"
    title = "Leashes per token"
    depends = ("T1", "T2", "F4")
    world = dict(
        log_p=Law(full_support=True),
        log_ref=Law(full_support=True),
        reward=Reward(),
        direction=Logits(),
        beta=Positive(),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        n = w.log_p.shape[-1]
        nodes = TokenTree.balanced(n).nodes
        laws, ref_laws = (
            token_laws(xp, columns(xp, log_p), nodes) for log_p in (w.log_p, w.log_ref)
        )
        ratios = [
            [p - r for p, r in zip(law, ref, strict=True)]
            for law, ref in zip(laws, ref_laws, strict=True)
        ]
        # The rewards for which p is the stationary policy: no root is needed.
        divergences = [
            added(xp.exp(p) * u for p, u in zip(law, us, strict=True))
            for law, us in zip(laws, ratios, strict=True)
        ]
        surplus = [[u - kl for u in us] for us, kl in zip(ratios, divergences, strict=True)]
        missing = [[1 - xp.exp(-u) for u in us] for us in ratios]
        for_k2, for_k3 = (
            [w.beta * added(along_path(nodes, of_token, leaf)) for leaf in range(n)]
            for of_token in (surplus, missing)
        )
        for k, reward, name in (
            (k2, for_k2, "k2 stops where r = beta sum (u - KL)"),
            (k3, for_k3, "k3 stops where r = beta sum (1 - ref/p)"),
        ):
            gain = token_reward_pull(xp, laws, nodes, w.direction, reward)
            leash = token_penalty_pull(xp, k, laws, ref_laws, nodes, w.direction)
            yield Claim(name, gain, "==", w.beta * leash)
        log_ratio = token_penalty_pull(xp, k2, laws, ref_laws, nodes, w.direction)
        with_ratio = token_penalty_pull(xp, k3, laws, ref_laws, nodes, w.direction, ratio=True)
        yield Claim("k3 with the token's ratio pulls as k2", with_ratio, "==", log_ratio)

        # At the first token: mu - Q = beta ref/p with hard values, by plain conditional means.
        first = nodes[0][0]
        p = columns(xp, xp.exp(w.log_p))
        value = added(p[leaf] * for_k3[leaf] for leaf in range(n))
        mass = added(p[leaf] for leaf in first)
        of_token = added(p[leaf] * for_k3[leaf] for leaf in first) / mass
        room = value + w.beta - of_token
        yield Claim("k3 has the hard value", room, "==", w.beta * xp.exp(-ratios[0][0]))

        found = stationary_policy(xp, w.log_ref, w.reward, w.beta, nodes, k2_leash(xp))
        tilt = columns(xp, gibbs_tilt(xp, w.log_ref, w.reward, w.beta))
        # The last two sequences differ in their last token only.
        last, of_tilt = found[-1] - found[-2], tilt[-1] - tilt[-2]
        yield Claim("the last token is the tilt's", last, "==", of_tilt)
        laws = token_laws(xp, found, nodes)
        reward = columns(xp, w.reward)
        gain = token_reward_pull(xp, laws, nodes, w.direction, reward)
        leash = token_penalty_pull(xp, k2, laws, ref_laws, nodes, w.direction)
        yield Claim("backward induction finds where k2 stops", gain, "==", w.beta * leash)
        name = "k2 per token ends at the sequence tilt"
        yield Claim(name, found[0], "==", tilt[0], refuted=True)
