"""What the report shows next to the verdicts: averages, predictions, optimality gaps, places on the Pareto plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nondecoupling import bounds
from nondecoupling.estimate import (
    Interval,
    SoftValue,
    mean_interval,
    mean_soft_value,
    optimality_gap,
)
from validate.configuration import OWN_RESPONSES
from validate.orders import STAGES
from validate.pareto import Landing
from validate.reports import Change
from validate.sampled.claims import Evidence, guarded
from validate.sampled.digest import Result
from validate.sampled.ends import HAVE_AN_END, end_of
from validate.sampled.landscape import loss_rise
from validate.sampled.resampling import resampled

__all__ = [
    "Averages",
    "EstimatedPrediction",
    "averages",
    "changes",
    "landings",
    "optimality_gaps",
    "predictions",
    "soft_values",
]

# Intervals here are for display, one at a time.
DISPLAY = 0.05


@dataclass(frozen=True)
class EstimatedPrediction:
    quantity: str
    statement: str
    predicted: float
    observed: Interval
    unit: str


def predictions(result: Result, ref: str) -> Iterator[tuple[str, list[EstimatedPrediction]]]:
    """Per policy of a ref, what the theory predicts at the exact optimum and what was measured."""
    found, before = result.predicted[ref], None
    for name in result.policies_of(ref):
        stage, e = STAGES[name], result.evidence(name)
        if stage.objective == "rl":
            before = e
            yield stage.title, list(_of_rl(found, e))
        elif stage.objective == "joint":
            yield stage.title, list(_of_joint(found, e))
        elif name in HAVE_AN_END:
            yield stage.title, list(_of_its_end(result, ref, e))
        elif before is not None:
            yield stage.title, list(_of_sft(found, before, e))


def _of_rl(found: dict[str, float], e: Evidence) -> Iterator[EstimatedPrediction]:
    yield EstimatedPrediction(
        "SFT loss change", "S1", found["loss_rise"], _mean(e.excess - e.ref_excess), "nats"
    )
    gained = _mean_difference(e.reward, e.ref_reward, e)
    yield EstimatedPrediction("reward change", "F3", found["reward_gain"], gained, "reward")
    yield EstimatedPrediction(
        "regularised reward", "F3", found["soft_value"], _mean(e.regularized), "reward"
    )
    yield EstimatedPrediction("KL(p||ref)", "F3", found["kl"], _mean(e.kl), "nats")


def _of_joint(found: dict[str, float], e: Evidence) -> Iterator[EstimatedPrediction]:
    rise = _mean(e.excess - e.ref_excess)
    yield EstimatedPrediction("SFT loss change", "J1", found["joint_loss_rise"], rise, "nats")
    yield EstimatedPrediction("reward", "J1", found["joint_reward"], _mean_reward(e), "reward")
    saved = found["loss_rise"] - rise
    claim = "SFT loss saved against the RL optimum, at most (first order in lambda)"
    yield EstimatedPrediction(claim, "J3", found["joint_saving_bound"], saved, "nats")


def _of_its_end(result: Result, ref: str, e: Evidence) -> Iterator[EstimatedPrediction]:
    config, end = result.config, _at_the_end(result, ref)
    by = end.statement
    rise = _mean(e.excess - e.ref_excess)
    yield EstimatedPrediction("SFT loss change", by, end.loss_rise, rise, "nats")
    yield EstimatedPrediction("reward", by, end.reward, _mean_reward(e), "reward")
    if config.order not in OWN_RESPONSES:
        return
    back = _mean(e.policy.back_kl.mean(axis=1))
    yield EstimatedPrediction("KL(ref||p)", by, end.back_kl, back, "nats")
    if config.order == "best-of-n":
        most = float(bounds.best_of_n_bounds(config.best_of)[1])
        yield EstimatedPrediction("KL(ref||p), at most n - 1 - log n", by, most, back, "nats")


class _End(NamedTuple):
    """Averages over prompts at the end that the theory says, in the world that ref's responses suggest."""

    statement: str
    loss_rise: float
    reward: float
    back_kl: float


def _at_the_end(result: Result, ref: str) -> _End:
    land = result.landscapes[ref]
    _, _, statement, log_p = end_of(result.config, land)
    return _End(
        statement=statement,
        loss_rise=float(loss_rise(land, log_p).mean()),
        reward=float(bounds.expected_reward(log_p, land.reward).mean()),
        back_kl=float(bounds.kl_divergence(land.log_ref, log_p).mean()),
    )


def _of_sft(
    found: dict[str, float], before: Evidence, e: Evidence
) -> Iterator[EstimatedPrediction]:
    drop = _mean_difference(before.reward, e.reward, e)
    yield EstimatedPrediction("reward lost", "R2", found["reward_drop"], drop, "reward")
    lost = _mean(before.regularized - e.regularized)
    yield EstimatedPrediction(
        "regularised reward lost", "R1", found["regularized_drop"], lost, "reward"
    )


def _mean(values: np.ndarray) -> Interval:
    return resampled(values)(DISPLAY)


def _mean_reward(e: Evidence) -> Interval:
    """Exact: a reward has limits."""
    return mean_interval(e.reward, e.experts.reward.bounds, DISPLAY)


def _mean_difference(reward: np.ndarray, other: np.ndarray, e: Evidence) -> Interval:
    """Exact, of two rewards per prompt."""
    width = e.experts.reward.range
    return mean_interval(reward - other, (-width, width), DISPLAY)


def changes(result: Result) -> Iterator[Change]:
    """What a stage that raises the reward did, next to what the theory predicts of its exact end."""
    for ref, found in result.predicted.items():
        start = float(result.on_ref(ref).reward.mean())
        for name in result.policies_of(ref):
            objective = STAGES[name].objective
            if objective == "sft":
                continue
            if name in HAVE_AN_END:
                by, rise, reward, _ = _at_the_end(result, ref)
            elif objective == "joint":
                by, rise, reward = "J1", found["joint_loss_rise"], found["joint_reward"]
            else:
                by, rise, reward = "S1", found["loss_rise"], start + found["reward_gain"]
            e = result.evidence(name)
            yield Change(
                stage=name,
                statement=by,
                loss_change=float((e.excess - e.ref_excess).mean()),
                predicted_loss_change=rise,
                reward=float(e.reward.mean()),
                predicted_reward=reward,
            )


def soft_values(result: Result) -> Iterator[tuple[str, SoftValue]]:
    """beta log Z of each ref from its responses, with the bias of the estimate and the effective sample size."""
    for ref in result.refs:
        rewards, limits = result.on_ref(ref).policy.rewards, result.experts.reward.bounds
        yield STAGES[ref].title, mean_soft_value(rewards, result.experts.beta, limits, DISPLAY)


def optimality_gaps(result: Result) -> Iterator[tuple[str, str, Interval]]:
    """J* - J_b of each policy, each at level 95 %: how far it may be from the exact RL optimum.

    Of the policy itself, approximate, as the KL in J_b has no bound from above; then of the guarded policy, which gives
    a response of ref's where log p/ref is large, exact at both ends.
    """
    reward, beta = result.experts.reward, result.experts.beta
    for name in result.measurements:
        if STAGES[name].ref is None:
            continue
        e, title = result.evidence(name), STAGES[name].title
        own = mean_interval(e.reward, reward.bounds, 0.01) - beta * resampled(e.kl)(0.01)
        best = mean_soft_value(e.ref.rewards, beta, reward.bounds, 0.03).value
        for policy, reached in (
            (title, own),
            (f"{title}, guarded", guarded(result.pilot_evidence(name), e, 0.02)),
        ):
            yield policy, "beta log Z averaged over prompts", best - reached
            if reward.binary and reward.bounds == (0.0, 1.0):
                first = e.ref.rewards[:, 0]  # one response per prompt: independent trials
                gap = optimality_gap(first.sum(), len(first), reached, beta, 0.03, averaged=True)
                yield policy, "beta log(1 + P_ref(r = 1)(e^(1/beta) - 1))", gap


def landings(result: Result, ref: str) -> list[Landing]:
    """The trained policies of a ref on the Pareto plot, with 95 % intervals."""
    some = []
    for name in (ref, *result.policies_of(ref)):
        e = result.on_ref(ref) if name == ref else result.evidence(name)
        loss = e.ref_excess if name == ref else e.excess
        ends = _mean(loss)
        height = _mean_reward(e)
        some.append(
            Landing(
                STAGES[name].title,
                float(loss.mean()),
                float(e.reward.mean()),
                float(e.regularized.mean()),
                (float(ends.low), float(ends.high)) if np.isfinite(ends.width) else None,
                (float(height.low), float(height.high)),
            )
        )
    return some


@dataclass(frozen=True)
class Averages:
    """What a policy does, on the prompts that the verdicts rest on."""

    policy: str
    excess_loss: float
    reward: float
    last_label: float
    kl_to_ref: float
    regularized_reward: float
    length: float
    off_list: float


def averages(result: Result) -> list[Averages]:
    """One line per policy."""
    table = []
    for name in result.measurements:
        is_ref = STAGES[name].ref is None
        e = result.on_ref(name) if is_ref else result.evidence(name)
        excess, own = e.ref_excess if is_ref else e.excess, e.policy
        table.append(
            Averages(
                policy=STAGES[name].title,
                excess_loss=float(excess.mean()),
                reward=float(e.reward.mean()),
                last_label=float(own.robust.mean()),
                kl_to_ref=float(e.kl.mean()),
                regularized_reward=float(e.regularized.mean()),
                length=float(own.lengths.mean()),
                off_list=float((own.listed < 0).mean()),
            )
        )
    return table
