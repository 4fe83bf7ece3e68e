"""The statements as margins that can be estimated: for each a function from a level to an interval.

Prompts are the independent units. Everything about one prompt (its responses averaged, the experts' responses
weighted by their known law) is one number of the sample. Where bounds of that number are known the interval
holds at every sample size (betting); losses and divergences have no upper bound, so that end is a bootstrap's,
and the interval says "approximate". Which end a verdict rests on is what counts: statements are confirmed by
their lower end, which is exact for every theorem below.

Kinds of rows:
    self-test     sampler and scorer agree; fails only through a bug
    theorem       holds for every policy; a violation would refute code, assumptions or theory
    finding       what the paper claims of training, or what the theory predicts only of the exact optimum: it may
                  come out either way
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import (
    Interval,
    bootstrap_intervals,
    mean_interval,
    mean_lower_bound,
    mean_soft_value,
)
from validate.orders import STAGES
from validate.sampled.measuring import Measurement
from validate.sampled.rewards import Reward

__all__ = [
    "FINDING",
    "SELF_TEST",
    "THEOREM",
    "Claim",
    "Evidence",
    "World",
    "claims_of",
    "finding_at_the_optimum",
    "findings_of_rl",
    "findings_of_sft",
]

SELF_TEST, THEOREM, FINDING = "self-test", "theorem", "finding"
LEAST_RISE = 0.01
Margin = Callable[[float], Interval]


@dataclass(frozen=True)
class Claim:
    """lhs >= rhs (or lhs == rhs), estimated, and as a margin; ``units`` are the margins of the prompts, if any."""

    statement: str
    claim: str
    policy: str
    kind: str
    unit: str
    lhs: float
    rhs: float
    margin: Margin
    relation: str = ">="
    units: np.ndarray | None = None


@dataclass(frozen=True)
class World:
    """The experts' law on their responses, [prompts, responses], their rewards, and the constants of a run."""

    log_d: np.ndarray
    listed_reward: np.ndarray
    reward: Reward
    beta: float
    self_distilled: bool

    def part(self, first: int, last: int | None) -> World:
        return replace(
            self, log_d=self.log_d[first:last], listed_reward=self.listed_reward[first:last]
        )


@dataclass(frozen=True)
class Evidence:
    """A policy next to its ref, as numbers per prompt. d is the experts' law, or ref's for self-distilled data."""

    world: World
    ref: Measurement
    policy: Measurement

    def part(self, first: int, last: int | None) -> Evidence:
        pieces = (whole.part(first, last) for whole in (self.world, self.ref, self.policy))
        return Evidence(*pieces)

    @cached_property
    def reward(self) -> np.ndarray:
        """J_x(p)"""
        return self.policy.rewards.mean(axis=1)

    @cached_property
    def ref_reward(self) -> np.ndarray:
        return self.ref.rewards.mean(axis=1)

    @cached_property
    def data_reward(self) -> np.ndarray:
        """J_x(d)"""
        if self.world.self_distilled:
            return self.ref_reward
        return bounds.expected_reward(self.world.log_d, self.world.listed_reward)

    @cached_property
    def kl(self) -> np.ndarray:
        """KL(p||ref), Rao-Blackwellised"""
        return self.policy.kl.mean(axis=1)

    @cached_property
    def regularized(self) -> np.ndarray:
        """J_b of the prompt"""
        return self.reward - self.world.beta * self.kl

    @cached_property
    def excess(self) -> np.ndarray:
        """KL(d||p) = CE(d,p) - H(d) >= 0, exact for the experts' law, Rao-Blackwellised for ref's own."""
        if self.world.self_distilled:
            return self.policy.back_kl.mean(axis=1)
        return self._excess_of(self.policy)

    @cached_property
    def ref_excess(self) -> np.ndarray:
        """eps = KL(d||ref)"""
        if self.world.self_distilled:
            return np.zeros(len(self.world.log_d))
        return self._excess_of(self.ref)

    def _excess_of(self, one: Measurement) -> np.ndarray:
        weights = np.exp(self.world.log_d)
        divergence = (weights * (self.world.log_d - one.expert_log_p)).sum(axis=1)
        return np.maximum(divergence, 0.0)  # scores in float32 may round a tiny one below zero

    @cached_property
    def law_of_rewards(self) -> tuple[np.ndarray, np.ndarray]:
        """log d and reward over what the frontier depends on, with an atom of the highest reward and no mass."""
        if self.world.self_distilled:
            values = self.ref.rewards
            log_d = np.full(values.shape, -np.log(values.shape[1]))
        else:
            values, log_d = self.world.listed_reward, self.world.log_d
        top = np.full((len(values), 1), self.world.reward.bounds[1])
        nothing = np.full((len(values), 1), -np.inf)
        return np.hstack([log_d, nothing]), np.hstack([values, top])


def _joined(lower: Interval, upper: Interval) -> Interval:
    """The lower end of one interval and the upper end of another, both at one level."""
    methods = " / ".join([lower.method, upper.method])
    low, high = float(lower.low), max(float(upper.high), float(lower.low))
    return Interval(low, high, upper.estimate, lower.delta, lower.units, methods, upper.approximate)


def _from_below(values: np.ndarray, floor: float, cap: float) -> Margin:
    """The mean of what is bounded below: an exact lower end, a bootstrap's upper end."""
    resampled, cap = bootstrap_intervals(values), max(cap, floor + 1e-9)

    def interval(delta: float) -> Interval:
        return _joined(mean_lower_bound(values, floor, cap, delta), resampled(delta))

    return interval


def claims_of(name: str, pilot: Evidence, test: Evidence) -> Iterator[Claim]:
    """What is said of every policy that has a ref. ``pilot`` fixes constants that the data must not choose."""
    yield from _self_tests(name, test)
    yield _below_the_soft_value(name, pilot, test)
    yield _price(name, pilot, test)
    yield _price_by_pinsker(name, pilot, test)
    yield _transport(name, pilot, test)


def _self_tests(name: str, e: Evidence) -> Iterator[Claim]:
    """The log-ratio less the Rao-Blackwellised KL has mean zero if the sampler draws from what the scorer scores."""
    p = e.policy
    for claim, kl, log_ratio in (
        ("own responses: mean log p/ref = KL(p||ref)", p.kl, p.log_p - p.log_ref),
        ("responses of ref: mean log ref/p = KL(ref||p)", p.back_kl, p.back_log_ref - p.back_log_p),
    ):
        units = (log_ratio - kl).mean(axis=1)
        sides = float(log_ratio.mean()), float(kl.mean())
        margin = bootstrap_intervals(units)
        yield Claim("F4", claim, name, SELF_TEST, "nats", *sides, margin, "==", units)


def _below_the_soft_value(name: str, pilot: Evidence, e: Evidence) -> Claim:
    """F3: J* - J_b(p) >= 0; J_b has an upper bound only, max r."""
    low, high = e.world.reward.bounds
    worst = max(float((-pilot.regularized).max()), -low)

    def best(delta: float) -> Interval:
        return mean_soft_value(e.ref.rewards, e.world.beta, (low, high), delta).value

    reached = _from_below(-e.regularized, -high, worst)

    def margin(delta: float) -> Interval:
        return best(delta / 2) + reached(delta / 2)

    sides = float(best(0.5).estimate), float(e.regularized.mean())
    return Claim("F3", "beta log Z >= J_b(p)", name, THEOREM, "reward", *sides, margin)


def _price(name: str, pilot: Evidence, e: Evidence) -> Claim:
    """S5, S7: the supporting line whose rate the pilot prompts suggest."""
    rate = _rate(pilot)
    line = _line(e, rate)
    margins = e.excess - rate * e.reward - line
    cap = float(3 * np.abs(pilot.excess - rate * pilot.reward - _line(pilot, rate)).max())
    floor = -rate * e.world.reward.range  # h <= -rate min r
    return Claim(
        "S5" if e.world.self_distilled else "S7",
        f"KL(d||p) >= {rate:.3g} J(p) + h, the price of reward",
        name,
        THEOREM,
        "nats",
        float(e.excess.mean()),
        float((rate * e.reward + line).mean()),
        _from_below(margins, floor, cap),
        units=margins,
    )


def _price_by_pinsker(name: str, pilot: Evidence, e: Evidence) -> Claim:
    """S7: J(p) - J(d) <= R sqrt(KL(d||p)/2)."""
    gained, width = e.reward - e.data_reward, e.world.reward.range
    distance = _from_below(e.excess, 0.0, float(3 * pilot.excess.max()))

    def margin(delta: float) -> Interval:
        allowed = _by_pinsker(distance(delta / 2), width)
        return allowed - mean_interval(gained, (-width, width), delta / 2)

    most = e.data_reward.mean() + width * np.sqrt(e.excess.mean() / 2)
    sides = float(most), float(e.reward.mean())
    claim = "J(d) + R sqrt(KL(d||p)/2) >= J(p)"
    return Claim("S7", claim, name, THEOREM, "reward", *sides, margin)


def _transport(name: str, pilot: Evidence, e: Evidence) -> Claim:
    """R4 for p and ref in place of the tilt: |J(p) - J(ref)| <= R sqrt(KL(p||ref)/2)."""
    moved, width = e.reward - e.ref_reward, e.world.reward.range
    distance = _from_below(e.kl, 0.0, float(3 * pilot.kl.max()))

    def margin(delta: float) -> Interval:
        allowed = _by_pinsker(distance(delta / 2), width)
        return allowed - _absolute(mean_interval(moved, (-width, width), delta / 2))

    sides = float(width * np.sqrt(e.kl.mean() / 2)), float(abs(moved.mean()))
    claim = "R sqrt(KL(p||ref)/2) >= |J(p) - J(ref)|"
    return Claim("R4", claim, name, THEOREM, "reward", *sides, margin)


def _by_pinsker(divergence: Interval, width: float) -> Interval:
    return divergence.map(lambda kl: width * np.sqrt(np.maximum(kl, 0.0) / 2))


def _absolute(interval: Interval) -> Interval:
    ends = abs(float(interval.low)), abs(float(interval.high))
    low = 0.0 if interval.contains(0.0) else min(ends)
    return replace(interval, low=low, high=max(ends), estimate=abs(float(interval.estimate)))


def _rate(pilot: Evidence) -> float:
    """The rate at which the frontier of the pilot prompts passes the pilot's reward."""
    log_d, reward = pilot.law_of_rewards
    free = float(bounds.expected_reward(log_d, reward).mean())
    top = float(reward.max(axis=1).mean())
    target = min(
        max(float(pilot.reward.mean()), free + 0.05 * (top - free)), free + 0.95 * (top - free)
    )
    step = 1e-3 * (top - free)
    above, below = bounds.price_of_average_reward(
        log_d, reward, np.array([target + step, target - step])
    )
    return float((above - below) / (2 * step))


def _line(e: Evidence, rate: float) -> np.ndarray:
    """h of each prompt. With ref's law as d, the first half of its responses chooses the offset for the second."""
    log_d, reward = e.law_of_rewards
    if not e.world.self_distilled:
        return bounds.frontier_policy(log_d, reward, rate)[1]
    half = (reward.shape[1] - 1) // 2
    parts = []
    for columns in (slice(0, half), slice(half, -1)):
        values = np.hstack([reward[:, columns], reward[:, -1:]])
        law = np.full(values.shape, -np.log(values.shape[1] - 1))
        law[:, -1] = -np.inf
        parts.append((law, values))
    policy, _ = bounds.frontier_policy(*parts[0], rate)
    # p = d/(offset + rate (M - r)) at any response that d has.
    (law, values), top = parts[0], reward[:, -1]
    offset = np.exp(law[:, 0] - policy[:, 0]) - rate * (top - values[:, 0])
    return bounds.supporting_line(*parts[1], rate, np.maximum(offset, 1e-9))


def findings_of_rl(name: str, pilot: Evidence, e: Evidence) -> Iterator[Claim]:
    """What the paper claims of RL after SFT, also asked of joint training."""
    width, what = e.world.reward.range, STAGES[name].action
    rise = e.excess - e.ref_excess
    if e.world.self_distilled:  # a divergence: that it is not negative needs no experiment
        claim, least = (
            f"{what} raised the SFT loss, by at least {LEAST_RISE} nats",
            e.ref_excess + LEAST_RISE,
        )
        cap = float(3 * pilot.excess.max())
        loss_rose = _from_below(rise - LEAST_RISE, -LEAST_RISE, cap)
    else:
        claim, least = f"{what} raised the SFT loss", e.ref_excess
        loss_rose = bootstrap_intervals(rise)
    yield _change("S2", claim, name, "nats", e.excess, least, loss_rose)
    gained = e.reward - e.ref_reward
    within = partial(mean_interval, gained, (-width, width))
    claim = f"{what} raised the reward"
    yield _change("S4", claim, name, "reward", e.reward, e.ref_reward, within)


def finding_at_the_optimum(name: str, e: Evidence) -> Claim:
    """The sign that S6 predicts of the exact RL optimum from the ref of ``name``."""
    beta, limits = e.world.beta, e.world.reward.bounds

    def margin(delta: float) -> Interval:
        value = mean_soft_value(e.ref.rewards, beta, limits, delta / 2).value
        return (value - mean_interval(e.data_reward, limits, delta / 2)) * (1 / beta)

    claim = "RL to its exact optimum raises the SFT loss: log Z >= E_d r/beta"
    log_z = mean_soft_value(e.ref.rewards, beta, limits, 0.5).value.estimate / beta
    sides = float(log_z), float(e.data_reward.mean() / beta)
    place = f"optimum of {name}"
    return Claim("S6", claim, place, FINDING, "nats", *sides, margin)


def findings_of_sft(name: str, before: Evidence, after: Evidence) -> Iterator[Claim]:
    """What the paper claims of SFT after RL: ``before`` is the RL result, ``after`` the SFT result."""
    width = after.world.reward.range
    drop = before.reward - after.reward
    within = partial(mean_interval, drop, (-width, width))
    sides = before.reward, after.reward
    yield _change("R6", "SFT after RL lowered the raw reward", name, "reward", *sides, within)
    sides = before.regularized, after.regularized
    claim = "SFT after RL lowered the regularised reward"
    yield _change("R8", claim, name, "reward", *sides, bootstrap_intervals(sides[0] - sides[1]))
    sides = before.excess, after.excess
    claim = "SFT after RL lowered the SFT loss"
    yield _change("F2", claim, name, "nats", *sides, bootstrap_intervals(sides[0] - sides[1]))


def _change(
    statement: str,
    claim: str,
    policy: str,
    unit: str,
    larger: np.ndarray,
    smaller: np.ndarray,
    margin: Margin,
) -> Claim:
    """That one mean over prompts is larger than another, on the same prompts."""
    sides = float(larger.mean()), float(smaller.mean())
    units = larger - smaller
    return Claim(statement, claim, policy, FINDING, unit, *sides, margin, units=units)
