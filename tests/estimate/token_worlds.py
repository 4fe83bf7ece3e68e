"""Worlds of autoregressive policies on a small vocabulary, from which any sampler can be asked for responses.

A policy is its conditional laws given the last token, [worlds, V, V]; token 0 ends a response. The
prompt is one random token, which the policy did not draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nondecoupling.estimate.agreement import TokenScores, token_scores

END = 0


@dataclass(frozen=True)
class Sampled:
    """Texts [worlds, n, 1 + T], the prompt first; mask is true on the tokens after it, END included."""

    texts: np.ndarray
    mask: np.ndarray

    @property
    def tokens(self) -> np.ndarray:
        return self.texts[..., 1:]

    @property
    def before(self) -> np.ndarray:
        return self.texts[..., :-1]


def policies(rng, worlds, *, sharpness, end, vocabulary=8):
    """Random laws: softmax of normal logits times ``sharpness``, mixed with END at chance ``end``."""
    logits = sharpness * rng.normal(size=(worlds, vocabulary, vocabulary))
    law = np.exp(logits - logits.max(-1, keepdims=True))
    law /= law.sum(-1, keepdims=True)
    law *= 1 - end
    law[..., END] += end
    return law


def at_temperature(law, tau):
    warmed = law ** (1 / tau)
    return warmed / warmed.sum(-1, keepdims=True)


def nucleus(law, mass):
    """Top-p sampling: the tokens ranked first until their mass is at least ``mass``."""
    order = np.argsort(-law, axis=-1, kind="stable")
    ranked = np.take_along_axis(law, order, -1)
    ranked = np.where(np.cumsum(ranked, -1) - ranked < mass, ranked, 0.0)
    kept = np.zeros_like(law)
    np.put_along_axis(kept, order, ranked, -1)
    return kept / kept.sum(-1, keepdims=True)


def sample(rng, sampler, n, length):
    worlds, vocabulary, _ = sampler.shape
    texts = np.zeros((worlds, n, 1 + length), dtype=int)
    texts[..., 0] = rng.integers(1, vocabulary, size=(worlds, n))
    alive, mask = np.ones((worlds, n), dtype=bool), np.zeros((worlds, n, length), dtype=bool)
    cumulative = np.cumsum(sampler, -1)
    for t in range(length):
        law = cumulative[np.arange(worlds)[:, None], texts[..., t]]
        drawn = (rng.random((worlds, n, 1)) * law[..., -1:] > law).sum(-1)
        texts[..., t + 1], mask[..., t] = np.where(alive, drawn, END), alive
        alive = alive & (drawn != END)
    return Sampled(texts, mask)


def score(scorer, ref, texts, mask) -> TokenScores:
    """Scores of the tokens of texts after the first under ``scorer``; log_ref under ``ref``."""
    world, before, tokens = np.arange(len(scorer))[:, None, None], texts[..., :-1], texts[..., 1:]
    with np.errstate(divide="ignore"):
        log_law, log_ref = np.log(scorer), np.log(ref)
    return token_scores(log_law[world, before], tokens, log_ref[world, before, tokens], mask)
