"""The finite world that samples of ref suggest: what predictions and the curves of the Pareto plot are computed from.

Per prompt the responses are put into classes that the theory cannot tell apart: each of the experts' responses, whose
probability under ref is known exactly, and everything else by its reward. The mass of everything else is known
too; how it is shared among rewards is estimated from ref's responses. For self-distilled data d is that law itself.
"""

from __future__ import annotations

import numpy as np

from nondecoupling import bounds
from validate.pareto import Landscape
from validate.sampled.claims import World
from validate.sampled.measuring import Measurement

__all__ = ["landscape_of", "predicted"]

# Keeps every class in the support of ref where no response fell into it.
SMALLEST_SHARE = 1e-6


def landscape_of(world: World, ref: Measurement) -> Landscape:
    """log d, log ref and rewards, [prompts, experts' responses + reward levels]."""
    listed = ref.listed >= 0
    levels = (
        np.unique(ref.rewards[~listed]) if (~listed).any() else np.array([world.reward.bounds[0]])
    )
    seen = ((ref.rewards[:, :, None] == levels) & ~listed[:, :, None]).sum(axis=1)
    overall = (seen.sum(axis=0) + SMALLEST_SHARE) / (seen + SMALLEST_SHARE).sum()
    counts = seen.sum(axis=1, keepdims=True)
    share = np.where(counts > 0, seen / np.maximum(counts, 1), overall)
    share = np.maximum(share, SMALLEST_SHARE)
    share /= share.sum(axis=1, keepdims=True)
    log_listed = ref.expert_log_p
    rest = np.log(np.maximum(-np.expm1(np.logaddexp.reduce(log_listed, axis=1)), SMALLEST_SHARE))
    log_ref = np.hstack([log_listed, rest[:, None] + np.log(share)])
    log_ref -= np.logaddexp.reduce(log_ref, axis=1, keepdims=True)
    reward = np.hstack([world.listed_reward, np.broadcast_to(levels, share.shape)])
    nothing = np.full(share.shape, -np.inf)
    log_d = log_ref if world.self_distilled else np.hstack([world.log_d, nothing])
    return Landscape(log_d, log_ref, reward, world.beta)


def predicted(land: Landscape, weight: float) -> dict[str, np.ndarray]:
    """Per prompt, what the theory predicts of the exact RL optimum, of the joint optimum, and of SFT to d."""
    worlds = land.log_d, land.log_ref, land.reward, land.beta
    tilt = bounds.gibbs_tilt(land.log_ref, land.reward, land.beta)
    joint = bounds.joint_optimum(*worlds, weight)
    at_data = bounds.expected_reward(land.log_d, land.reward)
    at_tilt = bounds.expected_reward(tilt, land.reward)
    start = bounds.cross_entropy(land.log_d, land.log_ref)
    return {
        "loss_rise": bounds.sft_loss_increase(*worlds),
        "reward_gain": at_tilt - bounds.expected_reward(land.log_ref, land.reward),
        "reward_drop": at_tilt - at_data,
        "regularized_drop": bounds.regularized_reward_drop(
            land.log_d, land.log_ref, land.reward, land.beta
        ),
        "soft_value": land.beta * bounds.log_partition(land.log_ref, land.reward, land.beta),
        "kl": bounds.kl_divergence(tilt, land.log_ref),
        "joint_loss_rise": bounds.cross_entropy(land.log_d, joint) - start,
        "joint_reward": bounds.expected_reward(joint, land.reward),
        "joint_saving_bound": bounds.joint_saving_bounds(*worlds, weight)[1],
    }
