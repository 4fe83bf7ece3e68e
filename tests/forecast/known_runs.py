"""Runs whose truth is known: prompts of a few kinds, each an enumerated law of the start policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nondecoupling import bounds
from nondecoupling.forecast import Samples

DELTA = 0.2
LEVEL = 1e-3  # of the exact binomial test on the misses


@dataclass
class Run:
    """Kinds of prompts, equally likely: laws of the start policy and of experts over the same responses."""

    log_ref: np.ndarray  # [kinds, responses]
    log_expert: np.ndarray
    reward: np.ndarray
    high: float = 1.0

    def draw(self, rng, prompts: int, responses: int, experts: int = 2) -> Samples:
        kind = rng.integers(len(self.reward), size=prompts)

        def rewards(log_law, count):
            below = np.cumsum(np.exp(log_law), axis=1)[kind, None, :-1]
            picked = (rng.random((prompts, count, 1)) > below).sum(axis=-1)
            return np.take_along_axis(self.reward[kind], picked, axis=1)

        return Samples(
            rewards(self.log_ref, responses),
            reward_bounds=(0, self.high),
            expert_rewards=rewards(self.log_expert, experts),
        )

    def price(self, target: float) -> float:
        return float(bounds.price_of_average_reward(self.log_ref, self.reward, target))

    def truth(self, beta: float) -> dict[str, float]:
        tilt = bounds.gibbs_tilt(self.log_ref, self.reward, beta)
        reward, kl = (
            bounds.expected_reward(tilt, self.reward),
            bounds.kl_divergence(tilt, self.log_ref),
        )
        experts = bounds.sft_loss_increase(self.log_expert, self.log_ref, self.reward, beta)
        each = {
            "reward": reward,
            "kl": kl,
            "own_loss_change": bounds.coupling_gap(self.log_ref, self.reward, beta),
            "expert_loss_change": experts,
            "soft_value": reward - beta * kl,
        }
        return {name: float(np.mean(value)) for name, value in each.items()}


def of_success(chances: list[float], experts: list[float]) -> Run:
    """Binary rewards: the chance of success at each kind of prompt."""
    log_ref, log_expert = (
        np.log(np.stack([1 - np.array(p), p], axis=1)) for p in (chances, experts)
    )
    return Run(log_ref, log_expert, np.tile([0.0, 1.0], (len(chances), 1)))


def of_grades(laws: list[list[float]], experts: list[list[float]]) -> Run:
    """Five grades, of which the best is below what the bounds allow."""
    return Run(np.log(laws), np.log(experts), np.tile([0.0, 0.2, 0.5, 0.8, 0.95], (len(laws), 1)))


RUNS = {
    # Success between 5 % and 70 %, so that some prompts show none among eight responses.
    "binary": of_success([0.05, 0.2, 0.4, 0.7], [0.6, 0.7, 0.9, 0.8]),
    "graded": of_grades(
        [[0.5, 0.3, 0.1, 0.08, 0.02], [0.1, 0.2, 0.3, 0.3, 0.1], [0.05, 0.05, 0.8, 0.05, 0.05]],
        [[0.1, 0.1, 0.2, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2], [0.6, 0.1, 0.1, 0.1, 0.1]],
    ),
    # Light: every prompt has successes. Heavy: at some prompts what RL seeks is one response in hundreds.
    "binary, light": of_success([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.6, 0.7, 0.7, 0.8, 0.9, 0.9]),
    "binary, heavy": of_success(
        [0.002, 0.01, 0.05, 0.2, 0.6, 0.95], [0.3, 0.4, 0.5, 0.7, 0.8, 0.99]
    ),
    "graded, light": of_grades(
        [[0.1, 0.2, 0.2, 0.2, 0.3], [0.3, 0.2, 0.1, 0.2, 0.2], [0.05, 0.1, 0.3, 0.35, 0.2]],
        [[0.1, 0.1, 0.2, 0.3, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2], [0.1, 0.1, 0.1, 0.3, 0.4]],
    ),
    "graded, heavy": of_grades(
        [
            [0.9, 0.06, 0.03, 0.009, 0.001],
            [0.2, 0.6, 0.15, 0.047, 0.003],
            [0.01, 0.09, 0.7, 0.19, 0.01],
            [0.4, 0.001, 0.299, 0.2, 0.1],
        ],
        [
            [0.3, 0.2, 0.2, 0.2, 0.1],
            [0.1, 0.3, 0.3, 0.2, 0.1],
            [0.05, 0.05, 0.3, 0.4, 0.2],
            [0.1, 0.1, 0.1, 0.3, 0.4],
        ],
    ),
}


def p_value(misses: int, worlds: int, delta: float) -> float:
    """Of so many misses or more, if each has chance delta."""
    return float(stats.binomtest(misses, worlds, delta, alternative="greater").pvalue)


def held(missed: Iterable[bool], delta: float) -> bool:
    """Whether chance explains what was missed, one entry for each world, where missing all would be refuted."""
    each = list(missed)
    least = p_value(len(each), len(each), delta)
    assert least < LEVEL, f"{len(each)} worlds: had all missed, a p-value of {least:.2g} would pass"
    return p_value(sum(each), len(each), delta) >= LEVEL
