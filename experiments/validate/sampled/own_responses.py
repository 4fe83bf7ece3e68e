"""SFT on ref's own responses, beside RL: which of them, with what weights, and the law at which that ends.

A group is ``generations`` responses of ref to one prompt, as many as RL draws. Each is trained on once, so that samples
and gradient steps are those of RL; of best of n one in n is.

    weighted-sft   all of a group, with the weights beta/(mu - r), mu such that they average one over the group, or
                   e^(r/beta) over its average: it ends at S5's frontier policy beta ref/(mu - r) or at the tilt (T9)
    best-of-n      the best of each n responses, of ties the first: it ends at the law of the best of n (T7)

The ends of weighted-sft are those of large groups. The weights of n responses are what the end has to ref where ref is
their empirical law, so SFT is trained in expectation on the average of these ends over groups. With exponential weights
that has less reward than the end of ref at every n, by Chebyshev's association inequality: with S' the sum of the other
weights, the factor n/(w + S') that turns w = e^(r/beta) into a response's weight falls as its reward rises. With
frontier weights it has less reward at every n if rewards have two levels, by Jensen's inequality, as the reward of the
end is concave in the share of the higher level; at any rewards to first order in 1/n, by Cauchy and Schwarz. A group
with one reward has the weights one. Best of n has no such bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from validate.configuration import SampledConfiguration
from validate.sampled.ends import WEIGHTED

__all__ = ["TrainedOn", "minimised", "objective_of", "trained_on"]


class TrainedOn(NamedTuple):
    """Places within each group, [groups, responses], and the weights of the responses there, which average one."""

    places: np.ndarray
    weights: np.ndarray


def objective_of(config: SampledConfiguration) -> str:
    """What is trained, in a sentence of the report."""
    groups = f"groups of {config.generations} responses of ref to each prompt, as many samples and steps as RL has"
    if config.order == "best-of-n":
        return f"SFT on the best of each {config.best_of} of {groups}"
    weights = {"frontier": "beta/(mu - r)", "exponential": "e^(r/beta)"}[config.weights]
    return (
        f"SFT on {groups}, with the weights {weights}, which average one over a group. What they end at is predicted "
        "for large groups; in small ones the reward is less"
    )


def minimised(config: SampledConfiguration) -> str:
    """What SFT does in expectation, in the table of policies."""
    if config.order == "best-of-n":
        return "minimises CE(its predicted end, p), from samples of that"
    return (
        f"minimises CE(q, p), q the average over groups of {config.generations} responses of ref of its predicted end "
        "from their empirical law"
    )


def trained_on(config: SampledConfiguration, rewards: np.ndarray) -> TrainedOn:
    """Of groups with these rewards, [groups, generations]; n of best of n divides ``generations``."""
    if config.order == "best-of-n":
        blocks = rewards.reshape(len(rewards), -1, config.best_of)
        places = blocks.argmax(axis=2) + config.best_of * np.arange(blocks.shape[1])
        return TrainedOn(places, np.ones(places.shape))
    empirical = np.full(rewards.shape, -np.log(rewards.shape[1]))
    weights = np.exp(WEIGHTED[config.weights](empirical, rewards, config.beta) - empirical)
    places = np.broadcast_to(np.arange(rewards.shape[1]), rewards.shape)
    return TrainedOn(places, weights)
