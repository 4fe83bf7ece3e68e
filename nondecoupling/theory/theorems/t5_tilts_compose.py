"""T5: Tilts compose: runs in a row, mixtures and temperatures are tilts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nondecoupling.formulas.laws import cross_entropy, log_softmax, log_sum_exp
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.number_system import Array, NumberSystem
from nondecoupling.theory.fields import Law, Positive, Reward, Unit
from nondecoupling.theory.statement import Claim, Statement


class TiltsCompose(Statement):
    """Tilts compose: runs in a row, mixtures and temperatures are tilts.

    Statement: tilt_s(tilt_t(p)) = tilt_{s+t}(p). So k runs in a row at beta, each with the result of the
        last as its reference, end where one run at beta/k ends. The geometric mixture ref^{1-v} tilt^v,
        normalised, is the tilt at beta/v. Sampling whole sequences at temperature T is the tilt of p by
        the reward log p at s = 1/T - 1: forwards in time for T < 1, backwards for T > 1. Refuted: "so is
        sampling per token at temperature T": a token's temperature does not see how sharp the law of the
        tokens after it is.

    Assumptions: the laws that are tilted have full support; every run reaches its exact optimum.

    Side: identities, and a refuted claim (two tokens).

    Equality when: always; per-token temperature agrees if the laws of the second token have the same
        sum of p^{1/T}.

    Units: none.

    Source: a property of exponential families; what it says about trainers is ours.

    Proof idea: log tilt_s(p) = log p + s r - const.

    Example:
    >>> import numpy as np
    >>> from nondecoupling.bounds import gibbs_tilt
    >>> p, r = np.log([0.5, 0.3, 0.2]), np.array([0.0, 1.0, 3.0])
    >>> three = gibbs_tilt(gibbs_tilt(gibbs_tilt(p, r, 0.6), r, 0.6), r, 0.6)
    >>> bool(np.allclose(three, gibbs_tilt(p, r, 0.2), rtol=1e-14))
    True
    """

    id = "T5"
    title = "Tilts compose: runs in a row, mixtures and temperatures are tilts"
    depends = ("F3",)
    world = dict(
        log_law=Law(),
        log_ref=Law(full_support=True),
        reward=Reward(),
        beta=Positive(),
        beta_two=Positive(),
        share=Unit(),
        first=Unit(),
        log_next=Law(full_support=True),
        log_next_two=Law(full_support=True),
    )

    @staticmethod
    def claims(xp: NumberSystem, w: Any) -> Iterator[Claim]:
        for name, one, other in compositions(xp, w):
            # Two policies are the same iff every law has the same loss on both.
            left, right = (cross_entropy(xp, w.log_law, policy) for policy in (one, other))
            yield Claim(name, left, "==", right)
        yield per_token_temperature(xp, w)


def compositions(xp: NumberSystem, w: Any) -> Iterator[tuple[str, Array, Array]]:
    """What each identity says, as (name, a composition of tilts, the one tilt that it is)."""
    tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
    twice = gibbs_tilt(xp, tilt, w.reward, w.beta_two)
    time = 1 / w.beta + 1 / w.beta_two
    yield "two tilts are one", twice, gibbs_tilt(xp, w.log_ref, w.reward, 1 / time)
    thrice = gibbs_tilt(xp, gibbs_tilt(xp, tilt, w.reward, w.beta), w.reward, w.beta)
    once = gibbs_tilt(xp, w.log_ref, w.reward, w.beta / 3)
    yield "three runs at beta are one at beta/3", thrice, once
    mixed = log_softmax(xp, (1 - w.share) * w.log_ref + w.share * tilt)
    part = gibbs_tilt(xp, w.log_ref, w.reward, w.beta / w.share)
    yield "geometric mixture", mixed, part
    # share is the temperature below one, 1/share the one above.
    cold, hot = log_softmax(xp, w.log_ref / w.share), log_softmax(xp, w.log_ref * w.share)
    sharpened = gibbs_tilt(xp, w.log_ref, w.log_ref, w.share / (1 - w.share))
    yield "temperature below one", cold, sharpened
    flattened = gibbs_tilt(xp, w.log_ref, -w.log_ref, 1 / (1 - w.share))
    yield "temperature above one", hot, flattened


def per_token_temperature(xp: NumberSystem, w: Any) -> Claim:
    """The log-odds of the first of two tokens, sampled by sequence and by token at a temperature.

    By sequence the mass of a first token is p(a)^{1/T} sum_b p(b|a)^{1/T}; by token, p(a)^{1/T}.
    """
    by_token = (xp.log(w.first) - xp.log(1 - w.first)) / w.share
    one, two = (log_sum_exp(xp, law / w.share) for law in (w.log_next, w.log_next_two))
    by_sequence = by_token + one - two
    return Claim("per-token temperature", by_token, "==", by_sequence, refuted=True)
