"""The statements as margins that can be estimated: for each a function from a level to an interval.

Prompts are the independent units. Everything about one prompt (its responses averaged, the experts' responses
weighted by their known law) is one number of the sample. Where bounds of that number are known the interval
holds at every sample size (betting); losses and divergences have no upper bound, so that end is a bootstrap's.
Which end a verdict rests on is what counts, and ``SampledClaim.exact`` says which ends are exact: a theorem is
confirmed by its lower end, which is exact for all below.

Kinds of rows:
    self-test     sampler and scorer agree; fails through a bug, or by chance as rarely as the level says
    theorem       holds for every policy; a violation would refute code, assumptions or theory
    finding       may come out either way: the paper's claims 1 (RL raises the SFT loss) and 2 (SFT lowers the reward),
                  what the theory predicts of the exact optimum only (S6), what a policy's logs prove of it (S10),
                  and whether training did its job at all
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import (
    Interval,
    Outcome,
    compare_sampler,
    guarded_reward,
    mean_interval,
    mean_lower_bound,
    mean_soft_value,
)
from nondecoupling.formulas.averages import reward_ceiling, transport_limit
from nondecoupling.formulas.joint import data_credit, own_data_ratio, reward_with_joint_optimum
from nondecoupling.formulas.price import frontier_ratio
from nondecoupling.numbers.floats import floats_of
from validate.orders import STAGES
from validate.sampled.measuring import Measurement
from validate.sampled.per_token import token_scores_of
from validate.sampled.resampling import resampled
from validate.sampled.rewards import CheckedReward, strict

__all__ = [
    "FINDING",
    "OPPOSITE",
    "SELF_TEST",
    "THEOREM",
    "Evidence",
    "Experts",
    "SampledClaim",
    "claims_of",
    "finding_at_the_optimum",
    "finding_of_the_logs",
    "findings_of_rl",
    "findings_of_sft",
    "guarded",
    "largest_log_ratio",
]

SELF_TEST, THEOREM, FINDING = "self-test", "theorem", "finding"
OPPOSITE = "no, the opposite"
LEAST_RISE = 0.01
LEAST_MASS = 1e-12  # off the list, where rounding may leave none
Margin = Callable[[float], Interval]
# From a level to why a row that could be confirmed at others cannot be there; nothing where it can.
Silence = Callable[[float], str]


@dataclass(frozen=True)
class SampledClaim:
    """lhs >= rhs (or lhs == rhs), estimated, and as a margin; ``units`` are the margins of the prompts, if any.

    ``weaker`` is what a finding answers that is violated, where that shows less than the opposite of what was asked.
    """

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
    exact: tuple[bool, bool] = (True, False)  # lower end, upper end
    silence: Silence | None = None
    weaker: str = ""

    @property
    def shows_opposite(self) -> bool:
        """Whether a violation shows the opposite of what was asked."""
        return not self.weaker

    @property
    def denial(self) -> str:
        """What a finding answers that is violated."""
        return OPPOSITE if self.shows_opposite else self.weaker

    def rests_on_an_exact_end(self, outcome: Outcome) -> bool:
        """Whether a verdict holds at every sample size; an equality is violated at either end."""
        if self.relation == "==" or outcome is Outcome.INCONCLUSIVE:
            return all(self.exact)
        return self.exact[0 if outcome is Outcome.CONFIRMED else 1]


@dataclass(frozen=True)
class Experts:
    """Their law on their responses, [prompts, responses], the rewards of these, and the constants of a run."""

    log_d: np.ndarray
    listed_reward: np.ndarray
    reward: CheckedReward
    beta: float
    weight: float  # lambda, of the SFT loss in joint training
    self_distilled: bool
    max_tokens: int
    resamples: int = 9999

    def part(self, first: int, last: int | None) -> Experts:
        return replace(
            self, log_d=self.log_d[first:last], listed_reward=self.listed_reward[first:last]
        )


@dataclass(frozen=True)
class Evidence:
    """A policy next to its ref, as numbers per prompt. d is the experts' law, or ref's for self-distilled data."""

    experts: Experts
    ref: Measurement
    policy: Measurement

    def part(self, first: int, last: int | None) -> Evidence:
        return Evidence(
            self.experts.part(first, last),
            self.ref.part(first, last),
            self.policy.part(first, last),
        )

    @cached_property
    def reward(self) -> np.ndarray:
        """J_x(p)"""
        return _mean(self.policy.rewards)

    @cached_property
    def ref_reward(self) -> np.ndarray:
        return _mean(self.ref.rewards)

    @cached_property
    def data_reward(self) -> np.ndarray:
        """J_x(d)"""
        if self.experts.self_distilled:
            return self.ref_reward
        return bounds.expected_reward(self.experts.log_d, self.experts.listed_reward)

    @cached_property
    def last_label(self) -> np.ndarray:
        return _mean(self.policy.robust)

    @cached_property
    def ref_last_label(self) -> np.ndarray:
        return _mean(self.ref.robust)

    @cached_property
    def overrated(self) -> np.ndarray:
        """E_p f of G1, f = 1 + r - g for the last label g: all but what is right and not in the strict format."""
        return 1 - (self.last_label - self.reward)

    @cached_property
    def ref_overrated(self) -> np.ndarray:
        return 1 - (self.ref_last_label - self.ref_reward)

    @cached_property
    def most_overrated(self) -> float:
        """x of G1, as estimated: the largest average of f at this KL(p||ref); at 1 G1 holds by definition."""
        return _largest_share(float(self.kl.mean()), float(self.ref_overrated.mean()))

    @cached_property
    def kl(self) -> np.ndarray:
        """KL(p||ref), Rao-Blackwellised"""
        return self.policy.kl.mean(axis=1)

    @cached_property
    def regularized(self) -> np.ndarray:
        """J_b of the prompt"""
        return self.reward - self.experts.beta * self.kl

    @cached_property
    def excess(self) -> np.ndarray:
        """KL(d||p) = CE(d,p) - H(d) >= 0, exact for the experts' law, Rao-Blackwellised for ref's own."""
        if self.experts.self_distilled:
            return self.policy.back_kl.mean(axis=1)
        return self._excess_of(self.policy)

    @cached_property
    def ref_excess(self) -> np.ndarray:
        """eps = KL(d||ref)"""
        if self.experts.self_distilled:
            return np.zeros(len(self.experts.log_d))
        return self._excess_of(self.ref)

    def _excess_of(self, one: Measurement) -> np.ndarray:
        weights = np.exp(self.experts.log_d)
        divergence = (weights * (self.experts.log_d - one.expert_log_p)).sum(axis=1)
        return np.maximum(divergence, 0.0)  # scores in float32 may round a tiny one below zero

    @cached_property
    def law_of_rewards(self) -> tuple[np.ndarray, np.ndarray]:
        """log d and reward over what the frontier depends on, with an atom of the highest reward and no mass."""
        if self.experts.self_distilled:
            values = self.ref.rewards
            log_d = np.full(values.shape, -np.log(values.shape[1]))
        else:
            values, log_d = self.experts.listed_reward, self.experts.log_d
        top = np.full((len(values), 1), self.experts.reward.bounds[1])
        nothing = np.full((len(values), 1), -np.inf)
        return np.hstack([log_d, nothing]), np.hstack([values, top])

    @cached_property
    def rate(self) -> float | None:
        """The rate at which the frontier passes the reward reached, well inside its ends; None if none can be bought.

        Asked of the pilot prompts: any rate holds for the others.
        """
        log_d, reward = self.law_of_rewards
        free = float(bounds.expected_reward(log_d, reward).mean())
        room = float(reward.max(axis=1).mean()) - free
        if room <= 0:
            return None
        reached = min(max(float(self.reward.mean()), free + 0.05 * room), free + 0.95 * room)
        return float(bounds.frontier_rate(log_d, reward, reached))


def _mean(values: np.ndarray) -> np.ndarray:
    """Of each prompt's responses; rounding alone would take it past the least or the largest of them."""
    return np.clip(values.mean(axis=1), values.min(axis=1), values.max(axis=1))


def _joined(lower: Interval, upper: Interval) -> Interval:
    """The lower end of one interval and the upper end of another, both at one level."""
    methods = " / ".join([lower.method, upper.method])
    low, high = float(lower.low), max(float(upper.high), float(lower.low))
    return Interval(low, high, upper.estimate, lower.delta, lower.units, methods, upper.approximate)


def _resampled(experts: Experts, values: np.ndarray) -> Margin:
    return resampled(values, experts.resamples)


def _from_below(experts: Experts, values: np.ndarray, floor: float, cap: float) -> Margin:
    """The mean of what is bounded below: an exact lower end, a bootstrap's upper end."""
    from_above, cap = _resampled(experts, values), max(cap, floor + 1e-9)

    def interval(delta: float) -> Interval:
        return _joined(mean_lower_bound(values, floor, cap, delta), from_above(delta))

    return interval


def claims_of(name: str, pilot: Evidence, test: Evidence) -> Iterator[SampledClaim]:
    """What is said of every policy that has a ref. ``pilot`` fixes constants that the data must not choose."""
    yield from _self_tests(name, test)
    yield _below_the_soft_value(name, pilot, test)
    yield _below_the_joint_ceiling(name, pilot, test)
    yield from _price(name, pilot, test)
    yield from _paid_off_the_data(name, pilot, test)
    yield _price_by_pinsker(name, pilot, test)
    yield _transport(name, pilot, test)
    if test.experts.reward.__name__ == strict.__name__:
        yield _gold_by_proxy(name, pilot, test)


def _self_tests(name: str, e: Evidence) -> Iterator[SampledClaim]:
    """Both exact tests that every token was drawn from the law that scored it, as the claim p-value >= 0.

    A p-value is small by chance as often as it says, so it says nothing in favour: the margin p - delta/2 reaches down
    to -delta/2, its least value, and is below zero only where the tests together reject at delta/2.
    """
    p = e.policy
    for claim, table in (
        ("own responses: drawn from the p that scores them", p.own_tokens),
        ("responses of ref: drawn from the ref that scores them again", p.back_tokens),
    ):
        found = compare_sampler(token_scores_of(table), max_tokens=e.experts.max_tokens)
        margin = partial(_above_its_level, float(found.p_value), found.tokens)
        sides = float(found.p_value), 0.0
        yield SampledClaim(
            "F4", claim, name, SELF_TEST, "p-value", *sides, margin, exact=(True, True)
        )


def _above_its_level(p_value: float, tokens: int, delta: float) -> Interval:
    room = p_value - delta / 2
    return Interval(-delta / 2, room, room, delta, tokens, "e-value and randomised PIT")


def largest_log_ratio(pilot: Evidence) -> float:
    """Where the guarded policy falls back to ref, from the pilot prompts: few of the others' responses lie beyond."""
    ratios = pilot.policy.log_p - pilot.policy.log_ref
    return max(1.0, 1.5 * float(ratios.max()))


def guarded(pilot: Evidence, e: Evidence, delta: float) -> Interval:
    """J_b of the policy that gives a response of ref's where log p/ref is above ``largest_log_ratio``: exact ends."""
    p = e.policy
    prompts = np.repeat(np.arange(len(p.rewards)), p.rewards.shape[1])
    return guarded_reward(
        p.rewards.ravel(),
        (p.log_p - p.log_ref).ravel(),
        e.experts.beta,
        e.experts.reward.bounds,
        largest_log_ratio(pilot),
        delta,
        prompts=prompts,
    )


def _below_the_soft_value(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """F3: J* - J_b(p) >= 0; J_b has an upper bound only, max r."""
    low, high = e.experts.reward.bounds
    worst = max(float((-pilot.regularized).max()), -low)

    def best(delta: float) -> Interval:
        return mean_soft_value(e.ref.rewards, e.experts.beta, (low, high), delta).value

    reached = _from_below(e.experts, -e.regularized, -high, worst)

    def margin(delta: float) -> Interval:
        return best(delta / 2) + reached(delta / 2)

    sides = float(best(0.5).estimate), float(e.regularized.mean())
    return SampledClaim("F3", "beta log Z >= J_b(p)", name, THEOREM, "reward", *sides, margin)


def _below_the_joint_ceiling(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """J2: no schedule has more of J_b - lambda KL(d||p) than the joint optimum, hence than its ceiling.

    The joint optimum is not known: ref's law off the list is not. Its dual ceiling holds for every ratio a; the ratio
    here is that of the joint optimum if all that is off the list earned what it did on the pilot prompts. So no
    response that decides has chosen it, and all of them do decide, also where ref's own law is d.
    """
    experts, beta, weight = e.experts, e.experts.beta, e.experts.weight
    low, high = experts.reward.bounds
    of_pilot = _data_ratio(pilot, pilot)
    # Chosen before looking; any ratio between them is as valid. Then log a is bounded, and so is the charge, which is
    # not negative. The pilot's own ratios are positive: each is at least ref's mass on rewards as high.
    least = min(1.0, float(of_pilot.min())) if experts.self_distilled else 0.0
    most = max(1.0, float(of_pilot.max()))
    ratio, of_pilot = (np.clip(a, least, most) for a in (_data_ratio(pilot, e), of_pilot))
    charged = e.ref.rewards + weight * _on_responses_of_ref(e, ratio)
    reached = _joint_value(e, ratio)
    # J_b <= max r as KL >= 0, and E_d log a <= log most, for the experts' law as for the mean over ref's responses; a
    # hair more, as the sum behind E_d may round up.
    credit = weight * (1 + float(np.log(most)))
    ceiling = high + credit + 1e-9 * (abs(high) + credit)
    worst = max(float(-_joint_value(pilot, of_pilot).min()), -ceiling)
    missed = _from_below(experts, -reached, -ceiling, worst)

    def best(delta: float) -> Interval:
        return mean_soft_value(charged, beta, (low, high + weight * most), delta).value

    def margin(delta: float) -> Interval:
        return best(delta / 2) + missed(delta / 2)

    own = float((e.regularized - weight * e.excess).mean())
    sides = float(best(0.5).estimate) - float(reached.mean()) + own, own
    claim = "ceiling of J_b - lambda KL(d||.) >= its value at p, no free order"
    return SampledClaim("J2", claim, name, THEOREM, "reward", *sides, margin)


def _joint_value(e: Evidence, ratio: np.ndarray) -> np.ndarray:
    """J_b - lambda KL(d||p) of each prompt, and what its ceiling leaves out of the soft value of the charged reward."""
    weight = e.experts.weight
    drawn = np.full(ratio.shape, -np.log(ratio.shape[1]))
    log_d = drawn if e.experts.self_distilled else e.experts.log_d
    credit = data_credit(floats_of(log_d), log_d, np.full((len(log_d), 1), weight), ratio)
    return np.asarray(e.regularized - weight * e.excess + np.asarray(credit)[:, 0])


def _on_responses_of_ref(e: Evidence, ratio: np.ndarray) -> np.ndarray:
    """The ratio at each response of ref: that of the experts' response that it is, if it is one."""
    if e.experts.self_distilled:
        return ratio
    listed = e.ref.listed.astype(int)
    return np.where(listed >= 0, np.take_along_axis(ratio, np.maximum(listed, 0), axis=1), 0.0)


def _data_ratio(pilot: Evidence, e: Evidence) -> np.ndarray:
    """d/p_joint on the experts' responses, or on ref's own where these are the data.

    The world of a prompt: ref's law and the rewards on the list are known; off it are those of the pilot prompts, or,
    where the experts' law is d and has no mass there, one response with their mean. With self-distilled data half of
    ref's responses could choose for the other half, as for ``_line``: on the list that brings nothing, and off it about
    what it costs, as half as many leave the soft value about twice the bias.
    """
    off = pilot.ref.listed < 0
    found = pilot.ref.rewards[off] if off.any() else np.array(e.experts.reward.bounds[:1])
    if not e.experts.self_distilled:
        found = found.mean(keepdims=True)  # no data there: one response is enough
    levels, counts = np.unique(found, return_counts=True)
    listed = np.logaddexp.reduce(e.ref.expert_log_p, axis=1, keepdims=True)
    log_off = np.log(np.maximum(-np.expm1(np.minimum(listed, 0.0)), LEAST_MASS))
    log_off = log_off + np.log(counts / counts.sum())
    log_ref = np.hstack([e.ref.expert_log_p, log_off])
    log_ref -= np.logaddexp.reduce(log_ref, axis=1, keepdims=True)
    reward = np.hstack([e.experts.listed_reward, np.broadcast_to(levels, log_off.shape)])
    beta, weight = e.experts.beta, e.experts.weight
    if not e.experts.self_distilled:
        log_d = np.hstack([e.experts.log_d, np.full_like(log_off, -np.inf)])
        joint = bounds.joint_optimum(log_d, log_ref, reward, beta, weight)
        return np.exp(log_d - joint)[:, : e.experts.log_d.shape[1]]
    joint = bounds.joint_optimum(log_ref, log_ref, reward, beta, weight)
    xp, constants = floats_of(joint), (np.array(beta), np.array(weight))
    # Each response of the world gives the same multiplier.
    multiplier = reward - reward_with_joint_optimum(xp, joint, log_ref, log_ref, *constants)
    ratio = own_data_ratio(xp, e.ref.rewards, *constants, multiplier[:, -1:])
    return np.asarray(ratio)


def _price(name: str, pilot: Evidence, e: Evidence) -> Iterator[SampledClaim]:
    """S5, S7: the supporting line whose rate the pilot prompts suggest; nothing where no reward can be bought."""
    rate = pilot.rate
    if rate is None:
        return
    line = _line(e, rate)
    margins = e.excess - rate * e.reward - line
    cap = float(3 * np.abs(_beyond_the_line(pilot, rate)).max())
    floor = -rate * e.experts.reward.range  # h <= -rate min r
    yield SampledClaim(
        "S5" if e.experts.self_distilled else "S7",
        f"KL(d||p) >= {rate:.3g} J(p) + h, the price of reward",
        name,
        THEOREM,
        "nats",
        float(e.excess.mean()),
        float((rate * e.reward + line).mean()),
        _from_below(e.experts, margins, floor, cap),
        units=margins,
    )


def _paid_off_the_data(name: str, pilot: Evidence, e: Evidence) -> Iterator[SampledClaim]:
    """S9: on top of the price of its reward a policy pays for its mass off the data; overpayment leaves that out.

    By S9's identity for averages KL(d||p) - rate J(p) - h = E_d[z - 1 - log z] + E_p[1_{d=0} b], b the frontier's
    ratio, and the first term is not negative. Nothing where the data are ref's own: they have mass everywhere.
    """
    rate = None if e.experts.self_distilled else pilot.rate
    if rate is None:
        return
    margins = _beyond_the_line(e, rate) - _off_the_data(e, rate)
    cap = float(3 * np.abs(_beyond_the_line(pilot, rate) - _off_the_data(pilot, rate)).max())
    # It is KL(d||p) - 1 - E_d log b + E_p[1_{d>0} b], and b <= 1 + rate R as the offset is at most 1.
    floor = -1 - float(np.log1p(rate * e.experts.reward.range))
    yield SampledClaim(
        "S9",
        f"KL(d||p) >= {rate:.3g} J(p) + h + E_p[1_(d=0) b], mass off the data is paid for as well",
        name,
        THEOREM,
        "nats",
        float(e.excess.mean()),
        float((e.excess - margins).mean()),
        _from_below(e.experts, margins, floor, cap),
        units=margins,
    )


def _beyond_the_line(e: Evidence, rate: float) -> np.ndarray:
    """KL(d||p) - rate J(p) - h: what the policy paid above the supporting line."""
    return e.excess - rate * e.reward - _line(e, rate)


def _off_the_data(e: Evidence, rate: float) -> np.ndarray:
    """E_p[1_{d=0} b] of each prompt, b = offset + rate (M - r) the ratio of the frontier policy, from p's responses."""
    log_d, reward = e.law_of_rewards
    offset = bounds.frontier_policy(log_d, reward, rate)[2]
    p, top = e.policy, np.full((len(reward), 1), e.experts.reward.bounds[1])
    rewards = np.hstack([p.rewards, top])  # M is that of the world, whatever was drawn
    ratio = frontier_ratio(floats_of(rewards), rewards, np.array(rate), offset[:, None])
    return np.where(p.listed < 0, np.asarray(ratio)[:, :-1], 0.0).mean(axis=1)


def _price_by_pinsker(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """S7: J(p) - J(d) <= R sqrt(KL(d||p)/2); no verdict where, as estimated, that allows the best reward."""
    gained, width = e.reward - e.data_reward, e.experts.reward.range
    distance = _from_below(e.experts, e.excess, 0.0, float(3 * pilot.excess.max()))

    def margin(delta: float) -> Interval:
        allowed = distance(delta / 2).map(lambda kl: transport_limit(kl, width))
        return allowed - mean_interval(gained, (-width, width), delta / 2)

    most = reward_ceiling(float(e.data_reward.mean()), float(e.excess.mean()), width)
    sides = float(most), float(e.reward.mean())
    claim = "J(d) + R sqrt(KL(d||p)/2) >= J(p)"
    row = SampledClaim("S7", claim, name, THEOREM, "reward", *sides, margin)
    return _silenced(row, width, "KL(d||p)") if most >= e.experts.reward.bounds[1] else row


def _transport(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """R4 for p and ref in place of the tilt: |J(p) - J(ref)| <= R sqrt(KL(p||ref)/2); no verdict where that is R."""
    moved, width = e.reward - e.ref_reward, e.experts.reward.range
    distance = _from_below(e.experts, e.kl, 0.0, float(3 * pilot.kl.max()))

    def margin(delta: float) -> Interval:
        allowed = distance(delta / 2).map(lambda kl: transport_limit(kl, width))
        return allowed - _absolute(mean_interval(moved, (-width, width), delta / 4))

    most = float(transport_limit(float(e.kl.mean()), width))
    sides = most, float(abs(moved.mean()))
    claim = "R sqrt(KL(p||ref)/2) >= |J(p) - J(ref)|"
    row = SampledClaim("R4", claim, name, THEOREM, "reward", *sides, margin)
    return _silenced(row, width, "KL(p||ref)") if most >= width else row


def _silenced(row: SampledClaim, width: float, divergence: str) -> SampledClaim:
    """A row that holds by definition: its margin may be any down to the least that rewards allow, -``width``.

    Decided by the estimates, as they are the same at every level at which Holm asks.
    """

    def margin(delta: float) -> Interval:
        return replace(row.margin(delta), low=-width)

    why = f"says nothing, as {divergence} is so large that any rewards satisfy it"
    return replace(row, margin=margin, silence=lambda delta: why)


def _gold_by_proxy(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """G1: the gain in last labels is at least that in strict answers less x - E_ref f, f = 1 + r - g.

    r - g is -1 or 0, as the last label of a strict answer is right, and x is the largest number with kl(x, E_ref f) <=
    KL(p||ref); also for averages over prompts, as kl is convex. So the margin is x - E_p f. At x = 1, from KL(p||ref) =
    -log E_ref f on, it is not negative by definition: no verdict unless x is known to be less, and why it is not.
    """
    gained, gold_gained = e.reward - e.ref_reward, e.last_label - e.ref_last_label
    distance = _from_below(e.experts, e.kl, 0.0, float(3 * pilot.kl.max()))

    def known(delta: float) -> tuple[Interval, Interval]:
        return distance(delta / 3), mean_interval(e.ref_overrated, (0.0, 1.0), delta / 3)

    def margin(delta: float) -> Interval:
        kl, start = known(delta)
        low = _largest_share(float(kl.low), float(start.low))
        high = _largest_share(float(kl.high), float(start.high))
        estimate = _largest_share(float(kl.estimate), float(start.estimate))
        most = replace(kl + start, low=low, high=high, estimate=estimate)
        room = most - mean_interval(e.overrated, (0.0, 1.0), delta / 3)
        return room if high < 1 else replace(room, low=-1.0)

    def silence(delta: float) -> str:
        kl, start = known(delta)
        if _largest_share(float(kl.high), float(start.high)) < 1:
            return ""
        if e.most_overrated == 1:
            return "says nothing, as KL(p||ref) is too large for an x < 1"
        if np.isinf(kl.high):
            return "says nothing, as these prompts give KL(p||ref) no upper end, and x none below 1"
        return "says nothing, as the upper end of KL(p||ref) is too large for an x < 1"

    claim = (
        "gain in last labels g >= gain in strict answers r - (x - E_ref f), f = 1 + r - g, "
        "kl(x, E_ref f) = KL(p||ref)"
    )
    taken_off = e.most_overrated - float(e.ref_overrated.mean())
    sides = float(gold_gained.mean()), float(gained.mean()) - taken_off
    return SampledClaim("G1", claim, name, THEOREM, "last label", *sides, margin, silence=silence)


def _largest_share(kl: float, share: float) -> float:
    """The largest x with kl(x, share) <= kl: the most that an event of this probability has so far from the law."""
    if share == 0:
        return 0.0
    if kl >= -np.log(share):
        return 1.0
    two_outcomes = np.log([1 - share, share])
    return share + float(bounds.reward_change_extremes(two_outcomes, np.array([0.0, 1.0]), kl)[1])


def _absolute(interval: Interval) -> Interval:
    """The interval of the absolute value: its upper end fails where either end did, so delta doubles."""
    ends = abs(float(interval.low)), abs(float(interval.high))
    low, estimate = 0.0 if interval.contains(0.0) else min(ends), abs(float(interval.estimate))
    return replace(interval, low=low, high=max(ends), estimate=estimate, delta=2 * interval.delta)


def _line(e: Evidence, rate: float) -> np.ndarray:
    """h of each prompt. With ref's law as d, the first half of its responses chooses the offset for the second.

    Any offset is valid. One imagined response with the best reward keeps it away from zero, where a best response
    that only the second half has would cost too much.
    """
    log_d, reward = e.law_of_rewards
    if not e.experts.self_distilled:
        return bounds.frontier_policy(log_d, reward, rate)[1]
    half = (reward.shape[1] - 1) // 2
    first, second = (
        np.hstack([part, reward[:, -1:]]) for part in (reward[:, :half], reward[:, half:-1])
    )
    imagined = np.full(first.shape, -np.log(half + 1))
    _, _, offset = bounds.frontier_policy(imagined, first, rate)
    law = np.full(second.shape, -np.log(second.shape[1] - 1))
    law[:, -1] = -np.inf
    return bounds.supporting_line(law, second, rate, offset)


def findings_of_rl(name: str, pilot: Evidence, e: Evidence) -> Iterator[SampledClaim]:
    """What the paper claims of RL after SFT, also asked of joint training."""
    width, what, weaker = e.experts.reward.range, STAGES[name].action, ""
    rise = e.excess - e.ref_excess
    if e.experts.self_distilled:  # a divergence: that it is not negative needs no experiment
        claim, least = (
            f"{what} raised the SFT loss, by at least {LEAST_RISE} nats",
            e.ref_excess + LEAST_RISE,
        )
        weaker = f"no, by less than {LEAST_RISE} nats"
        cap, exact = float(3 * pilot.excess.max()), (True, False)
        loss_rose = _from_below(e.experts, rise - LEAST_RISE, -LEAST_RISE, cap)
    else:
        claim, least, exact = f"{what} raised the SFT loss", e.ref_excess, (False, False)
        loss_rose = _resampled(e.experts, rise)
    rose = _change("claim 1", claim, name, "nats", e.excess, least, loss_rose, exact)
    yield replace(rose, weaker=weaker)
    gained = e.reward - e.ref_reward
    within = partial(mean_interval, gained, (-width, width))
    claim = f"{what} raised the reward"
    yield _change("training", claim, name, "reward", e.reward, e.ref_reward, within, (True, True))


def finding_at_the_optimum(name: str, e: Evidence) -> SampledClaim:
    """The sign that S6 predicts of the exact RL optimum from the ref of ``name``."""
    beta, limits = e.experts.beta, e.experts.reward.bounds

    def margin(delta: float) -> Interval:
        value = mean_soft_value(e.ref.rewards, beta, limits, delta / 2).value
        return (value - mean_interval(e.data_reward, limits, delta / 2)) * (1 / beta)

    claim = "RL to its exact optimum raises the SFT loss: log Z >= E_d r/beta"
    log_z = mean_soft_value(e.ref.rewards, beta, limits, 0.5).value.estimate / beta
    sides = float(log_z), float(e.data_reward.mean() / beta)
    place = f"optimum of {name}"
    return SampledClaim("S6", claim, place, FINDING, "nats", *sides, margin, exact=(True, True))


def finding_of_the_logs(name: str, pilot: Evidence, e: Evidence) -> SampledClaim:
    """S10: what this checkpoint proves about the exact optimum; its margin is the proved rise of the SFT loss.

    S10 holds for every policy. It is asked of the guarded one, whose KL to ref has an upper end without a bootstrap.
    """
    beta, limits = e.experts.beta, e.experts.reward.bounds

    def margin(delta: float) -> Interval:
        gain = guarded(pilot, e, delta / 2) - mean_interval(e.data_reward, limits, delta / 2)
        return gain.map(lambda value: float(bounds.coupling_from_run(value, 0.0, beta)))

    claim = "its logs prove that RL to the exact optimum raises the SFT loss: J_b(guarded p)/beta >= J(d)/beta"
    sides = float(guarded(pilot, e, 0.5).estimate / beta), float(e.data_reward.mean() / beta)
    weaker = "no, they prove nothing"
    return SampledClaim(
        "S10", claim, name, FINDING, "nats", *sides, margin, exact=(True, True), weaker=weaker
    )


def findings_of_sft(name: str, before: Evidence, after: Evidence) -> Iterator[SampledClaim]:
    """What the paper claims of SFT after RL: ``before`` is the RL result, ``after`` the SFT result."""
    experts, width = after.experts, after.experts.reward.range
    sides = before.reward, after.reward
    within = partial(mean_interval, sides[0] - sides[1], (-width, width))
    claim = "SFT after RL lowered the raw reward"
    yield _change("claim 2", claim, name, "reward", *sides, within, (True, True))
    sides = before.regularized, after.regularized
    claim = "SFT after RL lowered the regularised reward"
    yield _change(
        "claim 2", claim, name, "reward", *sides, _resampled(experts, sides[0] - sides[1])
    )
    sides = before.excess, after.excess
    claim = "SFT after RL lowered the SFT loss"
    yield _change("training", claim, name, "nats", *sides, _resampled(experts, sides[0] - sides[1]))


def _change(
    statement: str,
    claim: str,
    policy: str,
    unit: str,
    larger: np.ndarray,
    smaller: np.ndarray,
    margin: Margin,
    exact: tuple[bool, bool] = (False, False),
) -> SampledClaim:
    """That one mean over prompts is larger than another, on the same prompts."""
    sides = float(larger.mean()), float(smaller.mean())
    units = larger - smaller
    return SampledClaim(
        statement, claim, policy, FINDING, unit, *sides, margin, units=units, exact=exact
    )
