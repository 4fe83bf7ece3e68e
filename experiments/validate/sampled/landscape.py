"""The finite world that samples of ref suggest: what predictions and the curves of the Pareto plot are computed from.

Per prompt the responses are put into classes that the theory cannot tell apart: each of the experts' responses, whose
probability under ref is known exactly, and everything else by its reward. The mass of everything else is known
too; how it is shared among rewards is estimated from ref's responses. For self-distilled data d is that law itself.

What such a world says of an optimum is an estimate, and no limit. On average over the draws of few responses beta log Z
and the rise of the SFT loss by RL come out too low (Jensen), and so does the reward at the tilt; the price of reward
comes out too high, where d is estimated too. ``highest_value`` and ``least_loss`` are limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import mean_interval, mean_soft_value
from nondecoupling.estimate.arguments import PerWorld
from nondecoupling.forecast import NoSpread, Samples, TooFewPrompts
from nondecoupling.forecast.floors import price_floor
from nondecoupling.formulas.price import frontier_ratio
from nondecoupling.numbers.floats import floats_of
from validate.orders import Stage
from validate.pareto import Landscape
from validate.sampled.claims import Evidence, Experts
from validate.sampled.measuring import Measurement

__all__ = [
    "ExpectedEnd",
    "ExpectedMargin",
    "estimated_by",
    "expected_changes",
    "expected_margins",
    "highest_value",
    "landscape_of",
    "least_loss",
    "loss_rise",
    "mass_off_the_list",
    "predicted",
    "reward_noise",
]

# Rewards of responses off the list are sorted into at most so many classes, each with its mean.
MOST_LEVELS = 16
# Of the highest reward, from the lowest: a lower end for the price of more is that for so much, as prices rise.
NEARLY_ALL = 0.999


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


def mass_off_the_list(ref: Measurement) -> np.ndarray:
    """Of each prompt, ref's mass on all but the experts' responses, exactly."""
    return -np.expm1(np.minimum(np.logaddexp.reduce(ref.expert_log_p, axis=1), 0.0))


def estimated_by(e: Evidence, statement: str) -> str:
    """What to add to an end that rests on ref's law off the list: from how many responses, and how much mass is there.

    Empty for T6 under the experts' law, whose end that law decides.
    """
    if statement == "T6" and not e.experts.self_distilled:
        return ""
    mass, responses = float(mass_off_the_list(e.ref).mean()), e.ref.rewards.shape[1]
    return f", estimated: {responses} responses of ref a prompt, {100 * mass:.1f} % of its mass off the list"


def least_loss(e: Evidence, reward: PerWorld, delta: float) -> np.ndarray:
    """S5: the SFT loss above H(d) of any policy with this average reward, at least; nats, [...] -> [...].

    Under the experts' law exact, on these prompts. Self-distilled data are known by ref's responses only: then a lower
    end for all rewards at once, which fails with probability at most delta/2; zero where there are too few prompts, or
    no spread, for one.
    """
    if not e.experts.self_distilled:
        return np.asarray(bounds.price_of_average_reward(*e.law_of_rewards, reward))
    low, high = within = e.experts.reward.bounds
    try:
        samples = Samples(e.ref.rewards, reward_bounds=within)
    except (NoSpread, TooFewPrompts):
        return np.zeros(np.shape(reward))
    target = np.minimum(reward, low + NEARLY_ALL * (high - low))
    return np.asarray(price_floor(samples, target, delta).low)


def highest_value(e: Evidence, delta: float) -> float:
    """F3: an upper end for beta log Z averaged over prompts, hence for every policy's J_b, in units of the reward.

    The lower of two: that of ``mean_soft_value``, from the rewards of ref's responses; and that of what it were if each
    response off the list had the highest reward, beta log(sum_listed ref e^{r/beta} + m e^{max r/beta}), m the mass off
    the list. The first needs many responses, the second little mass. It fails with probability at most delta/2.
    """
    experts, within = e.experts, e.experts.reward.bounds
    with np.errstate(divide="ignore"):  # nothing off the list
        log_off = np.log(mass_off_the_list(e.ref))[:, None]
    log_ref = np.hstack([e.ref.expert_log_p, log_off])
    log_ref -= np.logaddexp.reduce(log_ref, axis=1, keepdims=True)
    reward = np.hstack([experts.listed_reward, np.full(log_off.shape, within[1])])
    most = experts.beta * bounds.log_partition(log_ref, reward, experts.beta)
    ends = (
        mean_interval(np.clip(most, *within), within, delta / 2).high,
        mean_soft_value(e.ref.rewards, experts.beta, within, delta / 2).value.high,
    )
    return float(min(ends))


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
    return _noise(log_p, land.reward)


def _noise(log_p: np.ndarray, values: np.ndarray) -> float:
    mean = bounds.expected_reward(log_p, values)
    return float(np.maximum(bounds.expected_reward(log_p, values**2) - mean**2, 0.0).mean())


def _weights(land: Landscape, log_q: np.ndarray) -> np.ndarray:
    """q / ref of every response; 0 of those that neither gives mass."""
    seen = ~np.isneginf(land.log_ref)
    return np.exp(np.subtract(log_q, land.log_ref, out=np.full_like(log_q, -np.inf), where=seen))


def _log_ratio(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """log p/q of every response; 0 where one has no mass."""
    seen = ~(np.isneginf(log_p) | np.isneginf(log_q))
    return np.subtract(log_p, log_q, out=np.zeros_like(log_p), where=seen)


class ExpectedEnd(NamedTuple):
    """Where a stage that raises the reward ends, exactly, and what says so of its SFT loss and of its reward."""

    stage: Stage
    log_p: np.ndarray
    of_loss: str
    of_reward: str


class ExpectedMargin(NamedTuple):
    """A change or a row's margin at that end, per prompt, and the variance that one response adds to it."""

    statement: str
    quantity: str
    per_prompt: np.ndarray
    noise: float


def loss_rise(land: Landscape, log_p: np.ndarray) -> np.ndarray:
    """CE(d,p) - CE(d,ref) of each prompt."""
    before = bounds.cross_entropy(land.log_d, land.log_ref)
    return bounds.cross_entropy(land.log_d, log_p) - before


def expected_changes(land: Landscape, end: ExpectedEnd) -> Iterator[ExpectedMargin]:
    """From ref to the end."""
    what, log_p = end.stage.action, end.log_p
    rise = loss_rise(land, log_p)
    yield ExpectedMargin(end.of_loss, f"rise of the SFT loss by {what}", rise, 0.0)
    at_ref, at_end = (bounds.expected_reward(law, land.reward) for law in (land.log_ref, log_p))
    noise = reward_noise(land, land.log_ref) + reward_noise(land, log_p)
    yield ExpectedMargin(end.of_reward, f"rise of the reward by {what}", at_end - at_ref, noise)


def expected_margins(
    land: Landscape, weight: float, self_distilled: bool, end: ExpectedEnd
) -> Iterator[ExpectedMargin]:
    """Of the inequalities about the policy at that end; S6 is about RL, and J2 leaves the joint optimum no margin."""
    worlds = land.log_d, land.log_ref, land.reward, land.beta
    at_data = bounds.expected_reward(land.log_d, land.reward)
    yield from _margins_of_the_price(land, self_distilled, end.log_p)
    # At the tilt it is the same for every response.
    regularized = land.reward - land.beta * _log_ratio(end.log_p, land.log_ref)
    if not self_distilled:  # there both are Jensen's inequality
        if end.stage.objective == "rl":
            log_z = bounds.log_partition(land.log_ref, land.reward, land.beta)
            spread = _noise(land.log_ref, _weights(land, land.tilt))
            rise = log_z - at_data / land.beta
            yield ExpectedMargin("S6", "log Z above E_d r/beta", rise, spread)
        proved = (bounds.expected_reward(end.log_p, regularized) - at_data) / land.beta
        spread = _noise(end.log_p, regularized) / land.beta**2
        yield ExpectedMargin("S10", "rise of the SFT loss proved by the logs", proved, spread)
    if end.stage.objective == "joint":
        return
    joint = bounds.joint_optimum(*worlds, weight)
    gap = bounds.joint_gap(end.log_p, *worlds, weight)
    # A response moves the soft value of the charged reward by beta p_joint/ref, and E_d log d/p_joint if it is data.
    moved = land.beta * _weights(land, joint)
    if self_distilled:
        moved += weight * _log_ratio(joint, land.log_ref)
    noise = _noise(land.log_ref, moved) + _noise(end.log_p, regularized)
    quantity = f"joint ceiling above the value of {end.stage.action} alone"
    yield ExpectedMargin("J2", quantity, gap, noise)


def _margins_of_the_price(
    land: Landscape, self_distilled: bool, log_p: np.ndarray
) -> Iterator[ExpectedMargin]:
    """S5/S7 and S9, at the rate where the frontier passes the reward of p; none where no reward can be bought."""
    log_d, reward = land.with_best
    log_p = np.hstack([log_p, np.full((len(log_d), 1), -np.inf)])
    free = float(bounds.expected_reward(log_d, reward).mean())
    room = float(land.best.mean()) - free
    if room <= 0:
        return
    reached = min(float(bounds.expected_reward(log_p, reward).mean()), free + 0.95 * room)
    if reached <= free:
        return
    rate = float(bounds.frontier_rate(log_d, reward, reached))
    line, offset = bounds.frontier_policy(log_d, reward, rate)[1:]
    paid = bounds.kl_divergence(log_d, log_p)
    beyond = paid - rate * bounds.expected_reward(log_p, reward) - line
    name = "S5" if self_distilled else "S7"
    yield ExpectedMargin(
        name, "SFT loss above the price of reward", beyond, rate**2 * _noise(log_p, reward)
    )
    if not self_distilled:
        ratio = np.asarray(
            frontier_ratio(floats_of(reward), reward, np.array(rate), offset[:, None])
        )
        off = np.where(np.isneginf(log_d), ratio, 0.0)
        yield ExpectedMargin(
            "S9",
            "the same less the mass off the data",
            beyond - bounds.expected_reward(log_p, off),
            _noise(log_p, rate * reward + off),
        )


def predicted(land: Landscape, weight: float) -> dict[str, np.ndarray]:
    """Per prompt, what the theory predicts of the exact RL optimum, of the joint optimum, and of SFT to d."""
    worlds = land.log_d, land.log_ref, land.reward, land.beta
    joint = bounds.joint_optimum(*worlds, weight)
    at_data = bounds.expected_reward(land.log_d, land.reward)
    at_tilt = bounds.expected_reward(land.tilt, land.reward)
    return {
        "loss_rise": bounds.sft_loss_increase(*worlds),
        "reward_gain": at_tilt - bounds.expected_reward(land.log_ref, land.reward),
        "reward_drop": at_tilt - at_data,
        "regularized_drop": bounds.regularized_reward_drop(
            land.log_d, land.log_ref, land.reward, land.beta
        ),
        "soft_value": land.beta * bounds.log_partition(land.log_ref, land.reward, land.beta),
        "kl": bounds.kl_divergence(land.tilt, land.log_ref),
        "joint_loss_rise": loss_rise(land, joint),
        "joint_reward": bounds.expected_reward(joint, land.reward),
        "joint_saving_bound": bounds.joint_saving_bounds(*worlds, weight)[1],
    }
