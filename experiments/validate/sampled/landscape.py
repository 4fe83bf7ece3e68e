"""The finite world that samples of ref suggest: what predictions and the curves of the Pareto plot are computed from.

Per prompt the responses are put into classes that the theory cannot tell apart: each of the experts' responses, whose
probability under ref is known exactly, and everything else by its reward. The mass of everything else is known
too; how it is shared among rewards is estimated from ref's responses. For self-distilled data d is that law itself.
"""

from __future__ import annotations

import numpy as np

from nondecoupling import bounds
from validate.pareto import Landscape
from validate.sampled.claims import Experts
from validate.sampled.measuring import Measurement

__all__ = ["landscape_of", "predicted", "reward_noise"]

# Rewards of responses off the list are sorted into at most so many classes, each with its mean.
MOST_LEVELS = 16


def landscape_of(experts: Experts, ref: Measurement) -> Landscape:
    """log d, log ref and rewards, [prompts, experts' responses + classes of the others].

    A prompt none of whose responses was off the list shares the little mass there as all prompts do together.
    """
    off = ref.listed < 0
    rewards = _classes(ref.rewards, off)
    levels = np.unique(rewards[off]) if off.any() else np.array([experts.reward.bounds[0]])
    seen = ((rewards[:, :, None] == levels) & off[:, :, None]).sum(axis=1)
    overall = seen.sum(axis=0) / seen.sum() if off.any() else np.ones(1)
    counts = seen.sum(axis=1, keepdims=True)
    share = np.where(counts > 0, seen / np.maximum(counts, 1), overall)
    log_listed = ref.expert_log_p
    listed = np.minimum(np.logaddexp.reduce(log_listed, axis=1, keepdims=True), 0.0)
    with np.errstate(divide="ignore"):  # a class that a prompt never saw has no mass
        log_off = np.log(-np.expm1(listed)) + np.log(share)
    log_ref = np.hstack([log_listed, log_off])
    log_ref -= np.logaddexp.reduce(log_ref, axis=1, keepdims=True)
    reward = np.hstack([ref.expert_rewards, np.broadcast_to(levels, share.shape)])
    nothing = np.full(share.shape, -np.inf)
    log_d = log_ref if experts.self_distilled else np.hstack([experts.log_d, nothing])
    best = np.full((len(reward), 1), experts.reward.bounds[1])
    return Landscape(log_d, log_ref, reward, experts.beta, best)


def _classes(rewards: np.ndarray, off: np.ndarray) -> np.ndarray:
    """The rewards, where there are too many levels replaced by the mean of their class."""
    values = rewards[off]
    if len(np.unique(values)) <= MOST_LEVELS:
        return rewards
    edges = np.quantile(values, np.linspace(0, 1, MOST_LEVELS + 1))[1:-1]
    of = np.searchsorted(edges, rewards)
    means = np.array(
        [values[of[off] == k].mean() if (of[off] == k).any() else 0.0 for k in range(MOST_LEVELS)]
    )
    return means[of]


def reward_noise(land: Landscape, log_p: np.ndarray) -> float:
    """The variance of the reward between responses to one prompt, averaged over prompts."""
    mean = bounds.expected_reward(log_p, land.reward)
    return float((bounds.expected_reward(log_p, land.reward**2) - mean**2).mean())


def predicted(land: Landscape, weight: float) -> dict[str, np.ndarray]:
    """Per prompt, what the theory predicts of the exact RL optimum, of the joint optimum, and of SFT to d."""
    worlds = land.log_d, land.log_ref, land.reward, land.beta
    joint = bounds.joint_optimum(*worlds, weight)
    at_data = bounds.expected_reward(land.log_d, land.reward)
    at_tilt = bounds.expected_reward(land.tilt, land.reward)
    start = bounds.cross_entropy(land.log_d, land.log_ref)
    return {
        "loss_rise": bounds.sft_loss_increase(*worlds),
        "reward_gain": at_tilt - bounds.expected_reward(land.log_ref, land.reward),
        "reward_drop": at_tilt - at_data,
        "regularized_drop": bounds.regularized_reward_drop(
            land.log_d, land.log_ref, land.reward, land.beta
        ),
        "soft_value": land.beta * bounds.log_partition(land.log_ref, land.reward, land.beta),
        "kl": bounds.kl_divergence(land.tilt, land.log_ref),
        "joint_loss_rise": bounds.cross_entropy(land.log_d, joint) - start,
        "joint_reward": bounds.expected_reward(joint, land.reward),
        "joint_saving_bound": bounds.joint_saving_bounds(*worlds, weight)[1],
    }
