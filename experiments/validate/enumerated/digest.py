"""From a run's records to what a reader wants to know: verdicts per statement, and predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nondecoupling.deciding.verdict import Status
from nondecoupling.lm.enumerated_law import CheckedPrecision
from nondecoupling.theory import catalog
from validate.configuration import EnumeratedConfiguration
from validate.disk import Line
from validate.enumerated.checks import (
    CHECKED,
    CONSEQUENCE,
    IDENTITY,
    NEAR_OPTIMAL,
    SELF_TEST,
    Check,
    checks_of,
    mass_checks,
)
from validate.enumerated.ending_checks import ending_checks
from validate.enumerated.endings import Ending, ending_of, recipe_of
from validate.enumerated.episodes import Checkpoint, Episode, episodes_of
from validate.enumerated.head_precision import checked_precision
from validate.enumerated.means import PromptMeans
from validate.enumerated.measures import Measures, measures_of
from validate.enumerated.task import EnumeratedTask
from validate.orders import STAGES, policies_table
from validate.reports import Change

__all__ = [
    "Digest",
    "ExactPrediction",
    "ReportedCheckpoint",
    "StatementSummary",
    "changes",
    "digest",
]


@dataclass(frozen=True)
class ExactPrediction:
    """A number that a statement predicts, and what training gave; ``is_bound`` where it predicts a limit only."""

    quantity: str
    statement: str
    predicted: float
    observed: float
    unit: str
    is_bound: bool = False

    @property
    def difference(self) -> float:
        return self.observed - self.predicted


@dataclass(frozen=True)
class ReportedCheckpoint:
    """A line of the table of checkpoints."""

    stage: str
    step: int
    measures: Measures

    def as_json(self) -> dict[str, str | float | None]:
        return {"stage": self.stage, "step": self.step, **asdict(self.measures)}


@dataclass(frozen=True)
class StatementSummary:
    """All rows of one statement in one line."""

    statement: str
    title: str
    status: Status
    identities: list[Check]
    consequences: list[Check]
    inequalities: list[Check]
    out_of_scope: list[Check]

    @property
    def worst_identity(self) -> Check | None:
        """The identity whose two sides lie farthest apart, in units of its tolerance."""
        return max(
            self.identities, key=lambda row: abs(row.lhs - row.rhs) / row.tolerance, default=None
        )

    @property
    def tightest(self) -> Check | None:
        return min(self.inequalities, key=lambda row: row.margin, default=None)


@dataclass(frozen=True)
class Digest:
    """Everything that report.json, report.html and the plots show; no ``precision`` where the head is in float64."""

    config: EnumeratedConfiguration
    model: str
    layout: str
    enumeration: tuple[float, float]
    precision: CheckedPrecision | None
    experts: PromptMeans
    episodes: list[Episode]
    checkpoints: list[ReportedCheckpoint]
    rows: list[Check]
    statements: list[StatementSummary]
    policies: list[dict[str, str]]
    predictions: list[tuple[str, list[ExactPrediction]]]

    def count(self, status: Status) -> int:
        return sum(row.status is status for row in self.rows)

    @property
    def never_applied(self) -> list[str]:
        return [s.statement for s in self.statements if s.status is Status.OUT_OF_SCOPE]

    @property
    def outcome(self) -> str:
        if self.count(Status.REFUTED):
            return "violated"
        return "undecided" if self.count(Status.UNDECIDED) else "holds"

    @property
    def smallest_p(self) -> float:
        return min(line.measures.smallest_p for line in self.checkpoints)


def digest(
    config: EnumeratedConfiguration, task: EnumeratedTask, records: Sequence[Line]
) -> Digest:
    """``records`` are the lines of metrics.jsonl; the first one is about the untrained model."""
    experts = PromptMeans(task.log_d, task.reward, config.beta, config.weight)
    first = records[0]
    precision = checked_precision(first)
    by_stage: dict[str, list[Checkpoint]] = {}
    for record in records:
        checkpoint = Checkpoint(
            stage=record["stage"],
            step=record["step"],
            log_p=np.array(record["log_p"]),
            mass_before=None if precision is None else record["mass_error"],
        )
        by_stage.setdefault(checkpoint.stage, []).append(checkpoint)
    laws = {name: stage[-1].log_p for name, stage in by_stage.items()}
    episodes = [
        _with_its_ending(config, episode, laws)
        for episode in episodes_of(by_stage, experts, config.self_distilled)
    ]
    checks = mass_checks(
        [checkpoint for stage in by_stage.values() for checkpoint in stage],
        0.0 if precision is None else precision.mass_tolerance,
    )
    checks += checks_of(experts, episodes)
    for episode in episodes:
        if episode.ending is not None:
            checks += ending_checks(config, episode, laws.get("rl", episode.ref.log_p))
    beyond = sorted({row.statement for row in checks} - {*CHECKED, SELF_TEST})
    return Digest(
        config=config,
        model=first["model"],
        layout=first["layout"],
        enumeration=(first["enumeration_difference"], first["enumeration_tolerance"]),
        precision=precision,
        experts=experts,
        episodes=episodes,
        checkpoints=_checkpoints(experts, episodes),
        rows=checks,
        statements=[_summary(name, checks) for name in (*CHECKED, *beyond)],
        policies=_policies(config),
        predictions=[(e.title, list(_predictions(e))) for e in episodes],
    )


def _with_its_ending(
    config: EnumeratedConfiguration, episode: Episode, laws: Mapping[str, NDArray[np.float64]]
) -> Episode:
    """RL that maximises J_b and joint training are what the first chapter is about."""
    stage = STAGES[episode.rl[-1].stage]
    first_chapter = stage.objective == "joint" or (
        stage.objective == "rl" and recipe_of(config) is None
    )
    if first_chapter:
        return episode
    return replace(episode, ending=ending_of(stage, config, episode.mean, laws))


def _policies(config: EnumeratedConfiguration) -> list[dict[str, str]]:
    if recipe_of(config) is None:
        return policies_table(config.order, config.data_law)
    bonus = f", entropy bonus {config.entropy_bonus:g}" if config.entropy_bonus else ""
    rl = f"follows the expected gradient of {config.recipe}, {config.advantage}{bonus}"
    return policies_table(config.order, config.data_law, rl)


def _checkpoints(experts: PromptMeans, episodes: Sequence[Episode]) -> list[ReportedCheckpoint]:
    """Every checkpoint once: with the data that it was trained on, and ref the start of RL in its first episode."""
    found: dict[str, ReportedCheckpoint] = {}
    for episode in episodes:
        after_ref = [*episode.rl, *episode.after]
        for mean, path in ((experts, episode.before), (episode.mean, after_ref)):
            for checkpoint in path:
                if checkpoint.place not in found:
                    measures = measures_of(mean, checkpoint.log_p, episode.ref.log_p)
                    found[checkpoint.place] = ReportedCheckpoint(
                        checkpoint.stage,
                        checkpoint.step,
                        replace(measures, mass_error=checkpoint.mass_error),
                    )
    return list(found.values())


def _summary(name: str, rows: Sequence[Check]) -> StatementSummary:
    mine = [row for row in rows if row.statement == name]
    applied = [row for row in mine if row.status is not Status.OUT_OF_SCOPE]
    found = {row.status for row in applied}
    ranked = (Status.REFUTED, Status.UNDECIDED, Status.HOLDS)
    return StatementSummary(
        statement=name,
        title=catalog.statement(name).title,
        status=next((status for status in ranked if status in found), Status.OUT_OF_SCOPE),
        identities=[row for row in applied if row.kind == IDENTITY],
        consequences=[row for row in applied if row.kind == CONSEQUENCE],
        inequalities=[row for row in applied if row.kind not in (IDENTITY, CONSEQUENCE)],
        out_of_scope=[row for row in mine if row.status is Status.OUT_OF_SCOPE],
    )


def _predictions(episode: Episode) -> Iterator[ExactPrediction]:
    if episode.is_joint:
        yield from _joint_predictions(episode)
    elif episode.ending is not None:
        yield from _ending_predictions(episode, episode.ending)
    else:
        yield from _tilt_predictions(episode)
    if episode.after:
        yield from _after_predictions(episode)


def _tilt_predictions(episode: Episode) -> Iterator[ExactPrediction]:
    mean = episode.mean
    d, log_ref, p1 = mean.log_d, episode.ref.log_p, episode.rl[-1].log_p
    tilt = mean.tilt(log_ref)
    rise = mean.ce(d, p1) - mean.ce(d, log_ref)
    exact = mean.sft_loss_increase(log_ref)
    yield ExactPrediction("SFT loss change by RL, from ref", "S1", exact, rise, "nats")
    if mean.kl(d, log_ref) < NEAR_OPTIMAL:
        yield ExactPrediction(
            "SFT loss change by RL, if ref were d", "S2", mean.gap(d), rise, "nats"
        )
    yield ExactPrediction("reward after RL", "F3", mean.j(tilt), mean.j(p1), "reward")
    value = mean.soft_value(log_ref)
    yield ExactPrediction(
        "regularised reward after RL", "F3", value, mean.jb(p1, log_ref), "reward"
    )
    moved = mean.kl(tilt, log_ref)
    yield ExactPrediction("KL(p||ref) after RL", "F3", moved, mean.kl(p1, log_ref), "nats")


def _ending_predictions(episode: Episode, ending: Ending) -> Iterator[ExactPrediction]:
    """Where the stage ended, against where it leads; what it paid, against the least and the tilt's."""
    mean, p, by = episode.mean, episode.rl[-1].log_p, ending.statement
    start = mean.ce(mean.log_d, episode.ref.log_p)
    rise, exact = (mean.ce(mean.log_d, law) - start for law in (p, ending.log_p))
    yield ExactPrediction("SFT loss change, from ref", by, exact, rise, "nats")
    yield ExactPrediction("reward", by, mean.j(ending.log_p), mean.j(p), "reward")
    yield ExactPrediction("KL(predicted||p)", by, 0.0, mean.kl(ending.log_p, p), "nats")
    if min(mean.j(p), mean.j(ending.log_p)) <= mean.data_reward:
        return  # no reward was bought
    exact, paid = (mean.kl(mean.log_d, law) / mean.average_price(law) for law in (ending.log_p, p))
    yield ExactPrediction("paid over the least for this reward", by, exact, paid, "times")
    tilt = mean.tilt_with_reward(mean.log_d, mean.j(p))
    if tilt is None:
        return
    dear = mean.kl(mean.log_d, tilt) / mean.average_price(p)
    claim = "the same, if it were the tilt with this reward"
    yield ExactPrediction(claim, "S9", dear, paid, "times", is_bound=True)


def _after_predictions(episode: Episode) -> Iterator[ExactPrediction]:
    mean = episode.mean
    d, log_ref = mean.log_d, episode.ref.log_p
    p1, p2 = episode.rl[-1].log_p, episode.after[-1].log_p
    yield ExactPrediction("reward after SFT", "F2", mean.data_reward, mean.j(p2), "reward")
    drop = mean.j(p1) - mean.j(p2)
    if (ending := episode.ending) is not None:
        back = mean.j(ending.log_p) - mean.data_reward
        yield ExactPrediction("reward lost by SFT", ending.statement, back, drop, "reward")
        return
    back = mean.reward_drop(d, log_ref)
    yield ExactPrediction("reward lost by SFT, from ref", "R2", back, drop, "reward")
    if mean.kl(d, log_ref) < NEAR_OPTIMAL:
        cycle = mean.cycle_loss(d)
        claim = "reward lost by SFT, if ref were d"
        yield ExactPrediction(claim, "R6", cycle, drop, "reward")
    drop = mean.jb(p1, log_ref) - mean.jb(p2, log_ref)
    back = mean.regularized_reward_drop(d, log_ref)
    yield ExactPrediction("regularised reward lost by SFT", "R1", back, drop, "reward")


def _joint_predictions(episode: Episode) -> Iterator[ExactPrediction]:
    mean, log_ref, p = episode.mean, episode.ref.log_p, episode.rl[-1].log_p
    joint, tilt = mean.joint_optimum(log_ref), mean.tilt(log_ref)
    start = mean.ce(mean.log_d, log_ref)
    predicted, observed = (mean.ce(mean.log_d, law) - start for law in (joint, p))
    yield ExactPrediction("SFT loss change by joint training", "J1", predicted, observed, "nats")
    yield ExactPrediction("reward after it", "J1", mean.j(joint), mean.j(p), "reward")
    best, reached = mean.jb(joint, log_ref), mean.jb(p, log_ref)
    yield ExactPrediction("regularised reward after it", "J1", best, reached, "reward")
    most, saved = (mean.ce(mean.log_d, tilt) - mean.ce(mean.log_d, law) for law in (joint, p))
    yield ExactPrediction("SFT loss saved against the RL optimum", "J1", most, saved, "nats")
    first_order = mean.joint_saving(log_ref)[1]
    claim = "the same, at most (first order in lambda; of the exact joint optimum)"
    yield ExactPrediction(claim, "J3", first_order, most, "nats", is_bound=True)


def changes(result: Digest) -> Iterator[Change]:
    """What RL, or the stage in its place, did in each episode, next to what the theory predicts of its end."""
    for episode in result.episodes:
        mean, log_ref, p = episode.mean, episode.ref.log_p, episode.rl[-1].log_p
        best = episode.best
        start = mean.ce(mean.log_d, log_ref)
        yield Change(
            stage=episode.rl[-1].stage,
            statement=best.statement,
            loss_change=mean.ce(mean.log_d, p) - start,
            predicted_loss_change=mean.ce(mean.log_d, best.log_p) - start,
            reward=mean.j(p),
            predicted_reward=mean.j(best.log_p),
        )
