"""The expected gradient of a trainer in the logits of a policy, all its parts put together (T1, T4, T11)."""

from __future__ import annotations

from typing import Literal

from nondecoupling.formulas.laws import from_mode
from nondecoupling.formulas.trainers import k2
from nondecoupling.numbers.number_system import Array, NumberSystem

Leash = Literal[
    "none",
    "k1-in-reward",
    "k2-in-reward",
    "k3-in-reward",
    "k1-in-loss",
    "k2-in-loss",
    "k3-in-loss",
    "k3-with-ratio",
]


def leash_pull(xp: NumberSystem, leash: Leash, log_p: Array, log_ref: Array) -> Array:
    """T1: p v, where E_p[v grad log p] is what the leash contributes; u = log(p/ref).

    v is k in the reward, k' in the loss and k + k' with the ratio, up to a constant. Written out for each, so that
    no e^-u overflows where p is small.
    """
    p, u = xp.exp(log_p), log_p - log_ref
    if leash in ("none", "k1-in-loss"):
        return xp.full_like(u, 0)
    if leash == "k2-in-reward":
        return p * k2(xp, u)
    if leash == "k3-in-reward":
        return xp.excess(log_p, -u)
    if leash == "k3-in-loss":
        return p - xp.exp(log_ref)
    return p * u


def ascent(
    xp: NumberSystem, log_p: Array, reward: Array, pull: Array, entropy_bonus: float
) -> Array:
    """p (R - E_p R), p R = p reward - pull - bonus p log p: the gradient in logits whose softmax is p."""
    p = xp.exp(log_p)
    felt = p * from_mode(xp, log_p, reward) - pull - entropy_bonus * (p * log_p)
    return felt - p * xp.sum(felt)
