"""The quantities of the theory, averaged over the prompts of a run: what the checks are made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nondecoupling import bounds
from nondecoupling.formulas.averages import pinsker_radius
from validate.same_reward import law_at_reward

__all__ = ["PromptMeans"]

Law = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PromptMeans:
    """Data law and reward, [prompts, responses], and the means over prompts of what they give with other laws.

    ``weight`` is lambda, the weight of the SFT loss in joint training.
    """

    log_d: Law
    reward: Law
    beta: float
    weight: float

    @cached_property
    def range(self) -> float:
        """R, the largest range of the reward at any prompt."""
        return float((self.reward.max(axis=1) - self.reward.min(axis=1)).max())

    def levels(self, log_d: Law) -> int:
        """The most rewards that a prompt has among a law's responses: 1 is the equality case of S2, 2 that of S3."""
        return _most_levels(self.reward, np.isfinite(log_d))

    def two_levels(self, log_d: Law) -> bool:
        """Whether each prompt has two rewards at most among a law's responses and the best ones: S5's equality case.

        Policies that keep the proportions within both, and have no mass elsewhere, pay the price of their own reward.
        """
        best = self.reward == self.reward.max(axis=1, keepdims=True)
        return _most_levels(self.reward, np.isfinite(log_d) | best) <= 2

    def one_rate(self, log_d: Law) -> bool:
        """Sufficient for the equality case of the average reward too: a single prompt has one rate, of two levels."""
        return len(self.reward) == 1 and self.two_levels(log_d)

    # --- of any laws -------------------------------------------------------------------------------

    def ce(self, log_d: Law, log_p: Law) -> float:
        return float(bounds.cross_entropy(log_d, log_p).mean())

    def entropy(self, log_p: Law) -> float:
        return float(bounds.entropy(log_p).mean())

    def kl(self, log_p: Law, log_q: Law) -> float:
        return float(bounds.kl_divergence(log_p, log_q).mean())

    # --- with the reward ---------------------------------------------------------------------------

    def j(self, log_p: Law) -> float:
        """J(p), the expected reward."""
        return float(bounds.expected_reward(log_p, self.reward).mean())

    def price(self, log_d: Law, log_p: Law) -> float:
        """E_q K_inf(d_x, J_x(p)): each prompt pays for its own reward."""
        return float(bounds.price_of_policy(log_d, log_p, self.reward).mean())

    def average_price(self, log_p: Law) -> float:
        """S5: the least KL(d||p) of any policy with the average reward of p, bought at one rate for all prompts."""
        return float(bounds.price_of_average_reward(self.log_d, self.reward, self.j(log_p)))

    def overpaid(self, log_p: Law) -> float:
        """S9: what each prompt paid beyond the price of its own reward."""
        return float(bounds.overpayment(self.log_d, log_p, self.reward).mean())

    def tilt_with_reward(self, log_d: Law, target: float) -> Law | None:
        """The tilt of a law with an average reward above its own, at one beta for all prompts; None beyond its best."""
        return law_at_reward(bounds.gibbs_tilt, log_d, self.reward, target)

    def best_of_tilts(self, log_d: Law) -> float:
        """What the average reward of a law's tilts stays below: a tilt has no response that the law lacks."""
        return float(np.where(np.isfinite(log_d), self.reward, -np.inf).max(axis=1).mean())

    # --- with the reward and beta ------------------------------------------------------------------

    def tilt(self, log_ref: Law) -> Law:
        """log of the exact RL optimum, per prompt."""
        return bounds.gibbs_tilt(log_ref, self.reward, self.beta)

    def jb(self, log_p: Law, log_ref: Law) -> float:
        """J_b(p) = J(p) - beta KL(p||ref)."""
        return float(bounds.regularized_reward(log_p, log_ref, self.reward, self.beta).mean())

    def soft_value(self, log_ref: Law) -> float:
        """F3: beta log Z."""
        return self.beta * float(bounds.log_partition(log_ref, self.reward, self.beta).mean())

    def sft_loss_increase(self, log_ref: Law) -> float:
        """S1, on the data law."""
        return float(bounds.sft_loss_increase(self.log_d, log_ref, self.reward, self.beta).mean())

    def gap(self, log_d: Law) -> float:
        """S2."""
        return float(bounds.coupling_gap(log_d, self.reward, self.beta).mean())

    def gap_bounds(self, log_d: Law) -> tuple[float, float]:
        """S3."""
        lower, upper = bounds.coupling_gap_bounds(log_d, self.reward, self.beta)
        return float(lower.mean()), float(upper.mean())

    def radius(self, log_ref: Law) -> float:
        """S6: an eps below this makes RL to the tilt raise the SFT loss (Pinsker form)."""
        return float(pinsker_radius(self.kl(log_ref, self.tilt(log_ref)), self.range, self.beta))

    def regularized_reward_drop(self, log_p: Law, log_ref: Law) -> float:
        """R1."""
        return float(bounds.regularized_reward_drop(log_p, log_ref, self.reward, self.beta).mean())

    def reward_drop(self, log_p: Law, log_ref: Law) -> float:
        """R2."""
        return float(bounds.reward_drop(log_p, log_ref, self.reward, self.beta).mean())

    def cycle_loss(self, log_d: Law) -> float:
        """R6."""
        return float(bounds.cycle_loss(log_d, self.reward, self.beta).mean())

    # --- with lambda -------------------------------------------------------------------------------

    def joint_optimum(self, log_ref: Law) -> Law:
        """J1: log of the optimum of joint training, per prompt."""
        return bounds.joint_optimum(self.log_d, log_ref, self.reward, self.beta, self.weight)

    def joint_gap(self, log_p: Law, log_ref: Law) -> float:
        """J2: F(p_joint) - F(p) with F(p) = J_b(p) - lambda CE(d, p)."""
        laws = log_p, self.log_d, log_ref
        return float(bounds.joint_gap(*laws, self.reward, self.beta, self.weight).mean())

    def joint_saving(self, log_ref: Law) -> tuple[float, float]:
        """J3."""
        laws = self.log_d, log_ref
        least, most = bounds.joint_saving_bounds(*laws, self.reward, self.beta, self.weight)
        return float(least.mean()), float(most.mean())

    # --- of the data law itself --------------------------------------------------------------------

    @cached_property
    def data_entropy(self) -> float:
        """H(d), the smallest SFT loss."""
        return self.entropy(self.log_d)

    @cached_property
    def data_reward(self) -> float:
        """J(d)."""
        return self.j(self.log_d)


def _most_levels(reward: Law, counted: NDArray[np.bool_]) -> int:
    rows = zip(reward, counted, strict=True)
    return max(len(np.unique(rewards[here])) for rewards, here in rows)
