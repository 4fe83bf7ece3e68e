"""From a run's records to what a reader wants to know: verdicts, predictions, sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.verdict import Status
from validate.enumerated.checks import (
    IDENTITY,
    NEAR_OPTIMAL,
    STATEMENTS,
    Checkpoint,
    Episode,
    Row,
    World,
    mass_rows,
    measures,
    rows_of,
)
from validate.enumerated.facts import embedded_task
from validate.orders import EPISODES, STAGES, policies_table

__all__ = ["Digest", "Prediction", "StatementSummary", "digest"]


@dataclass(frozen=True)
class Prediction:
    """A number that a statement predicts, and what training gave."""

    quantity: str
    statement: str
    predicted: float
    observed: float
    unit: str

    @property
    def difference(self) -> float:
        return self.observed - self.predicted


@dataclass(frozen=True)
class StatementSummary:
    """All rows of one statement in one line."""

    statement: str
    title: str
    status: Status
    identities: list[Row]
    inequalities: list[Row]
    out_of_scope: list[Row]

    @property
    def worst_identity(self) -> Row | None:
        """The identity whose two sides lie farthest apart, in units of its tolerance."""
        return max(
            self.identities, key=lambda row: abs(row.lhs - row.rhs) / row.tolerance, default=None
        )

    @property
    def tightest(self) -> Row | None:
        return min(self.inequalities, key=lambda row: row.margin, default=None)


@dataclass(frozen=True)
class Digest:
    """Everything that report.json, report.html and the plots show."""

    config: dict[str, Any]
    model: str
    layout: str
    enumeration: tuple[float, float]
    experts: World
    episodes: list[Episode]
    checkpoints: list[dict[str, Any]]
    rows: list[Row]
    statements: list[StatementSummary]
    policies: list[dict[str, str]]
    predictions: list[tuple[str, list[Prediction]]]

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
        return min(line["smallest_p"] for line in self.checkpoints)


def digest(config: dict[str, Any], records: Sequence[dict[str, Any]]) -> Digest:
    task = embedded_task(config["prompts"], config["reward"])
    experts = World(task.log_d, task.reward, config["beta"], config["weight"])
    by_stage: dict[str, list[Checkpoint]] = {}
    for record in records:
        checkpoint = Checkpoint(record["stage"], record["step"], np.array(record["log_p"]))
        by_stage.setdefault(record["stage"], []).append(checkpoint)
    episodes = _episodes(by_stage, experts, config["data_law"])
    rows = mass_rows([checkpoint for stage in by_stage.values() for checkpoint in stage])
    rows += rows_of(experts, episodes)
    return Digest(
        config=config,
        model=records[0]["model"],
        layout=records[0]["layout"],
        enumeration=(records[0]["enumeration_difference"], records[0]["enumeration_tolerance"]),
        experts=experts,
        episodes=episodes,
        checkpoints=_checkpoints(episodes),
        rows=rows,
        statements=[_summary(name, title, rows) for name, title in STATEMENTS.items()],
        policies=policies_table(config["order"], config["data_law"]),
        predictions=[(_title(e), list(_predictions(e))) for e in episodes],
    )


def _episodes(
    by_stage: dict[str, list[Checkpoint]], experts: World, data_law: str
) -> list[Episode]:
    base = by_stage["base"]
    episodes = []
    for before, rl, after in EPISODES:
        if rl in by_stage:
            ref = by_stage[before][-1].log_p
            own = World(ref, experts.reward, experts.beta, experts.weight)
            world = own if data_law == "self" else experts
            path = by_stage[rl], by_stage.get(after, []) if after else []
            episodes.append(Episode(world, [*base, *by_stage[before]], *path))
    return episodes


def _title(episode: Episode) -> str:
    names = [episode.before[-1].stage, episode.rl[-1].stage]
    names += [episode.after[-1].stage] if episode.after else []
    return " -> ".join(STAGES[name].title for name in names)


def _checkpoints(episodes: Sequence[Episode]) -> list[dict[str, Any]]:
    """The measures of every checkpoint, with ref the policy at the start of the episode's RL."""
    lines = {
        checkpoint.place: {
            "stage": checkpoint.stage,
            "step": checkpoint.step,
            **measures(episode.world, checkpoint.log_p, episode.ref.log_p),
        }
        for episode in episodes
        for checkpoint in [*episode.before, *episode.rl, *episode.after]
    }
    return list(lines.values())


def _summary(name: str, title: str, rows: Sequence[Row]) -> StatementSummary:
    mine = [row for row in rows if row.statement == name]
    applied = [row for row in mine if row.status is not Status.OUT_OF_SCOPE]
    found = {row.status for row in applied}
    ranked = (Status.REFUTED, Status.UNDECIDED, Status.HOLDS)
    return StatementSummary(
        statement=name,
        title=title,
        status=next((status for status in ranked if status in found), Status.OUT_OF_SCOPE),
        identities=[row for row in applied if row.kind == IDENTITY],
        inequalities=[row for row in applied if row.kind != IDENTITY],
        out_of_scope=[row for row in mine if row.status is Status.OUT_OF_SCOPE],
    )


def _predictions(episode: Episode) -> Iterator[Prediction]:
    if episode.is_joint:
        yield from _joint_predictions(episode)
        return
    world = episode.world
    d, log_ref, p1 = world.log_d, episode.ref.log_p, episode.rl[-1].log_p
    tilt = world.tilt(log_ref)
    rise = world.ce(d, p1) - world.ce(d, log_ref)
    exact = world.of_tilt(bounds.sft_loss_increase, d, log_ref)
    near = world.kl(d, log_ref) < NEAR_OPTIMAL
    yield Prediction("SFT loss change by RL, from ref", "S1", exact, rise, "nats")
    if near:
        yield Prediction("SFT loss change by RL, if ref were d", "S2", world.gap(d), rise, "nats")
    yield Prediction("reward after RL", "F3", world.j(tilt), world.j(p1), "reward")
    value = world.soft_value(log_ref)
    yield Prediction("regularised reward after RL", "F3", value, world.jb(p1, log_ref), "reward")
    moved = world.kl(tilt, log_ref)
    yield Prediction("KL(p||ref) after RL", "F3", moved, world.kl(p1, log_ref), "nats")
    if episode.after:
        p2 = episode.after[-1].log_p
        yield Prediction("reward after SFT", "F2", world.data_reward, world.j(p2), "reward")
        drop = world.j(p1) - world.j(p2)
        back = world.of_tilt(bounds.reward_drop, d, log_ref)
        yield Prediction("reward lost by SFT, from ref", "R2", back, drop, "reward")
        if near:
            cycle = world.of_tilt(bounds.cycle_loss, d)
            claim = "reward lost by SFT, if ref were d"
            yield Prediction(claim, "R6", cycle, drop, "reward")
        drop = world.jb(p1, log_ref) - world.jb(p2, log_ref)
        back = world.of_tilt(bounds.regularized_reward_drop, d, log_ref)
        yield Prediction("regularised reward lost by SFT", "R1", back, drop, "reward")


def _joint_predictions(episode: Episode) -> Iterator[Prediction]:
    world, log_ref, p = episode.world, episode.ref.log_p, episode.rl[-1].log_p
    joint, tilt = world.joint_optimum(log_ref), world.tilt(log_ref)
    start = world.ce(world.log_d, log_ref)
    predicted, observed = (world.ce(world.log_d, law) - start for law in (joint, p))
    yield Prediction("SFT loss change by joint training", "J1", predicted, observed, "nats")
    yield Prediction("reward after it", "J1", world.j(joint), world.j(p), "reward")
    best = world.jb(joint, log_ref), world.jb(p, log_ref)
    yield Prediction("regularised reward after it", "J1", *best, "reward")
    saved = [world.ce(world.log_d, tilt) - world.ce(world.log_d, law) for law in (joint, p)]
    yield Prediction("SFT loss saved against the RL optimum", "J1", *saved, "nats")
    first_order = float(world.joint_saving(log_ref)[1].mean())
    claim = "the same to first order in lambda, never less than the saving"
    yield Prediction(claim, "J3", first_order, saved[1], "nats")


def changes(result: Digest) -> Iterator[dict[str, Any]]:
    """What RL or joint training did in each episode, next to what the theory predicts of the exact optimum."""
    for episode in result.episodes:
        world, log_ref, p = episode.world, episode.ref.log_p, episode.rl[-1].log_p
        best = world.joint_optimum(log_ref) if episode.is_joint else world.tilt(log_ref)
        start = world.ce(world.log_d, log_ref)
        yield {
            "stage": episode.rl[-1].stage,
            "statement": "J1" if episode.is_joint else "S1",
            "loss_change": world.ce(world.log_d, p) - start,
            "predicted_loss_change": world.ce(world.log_d, best) - start,
            "J": world.j(p),
            "predicted_J": world.j(best),
        }


def what_held(result: Digest) -> list[str]:
    """The summary that opens the report."""
    verdicts = {status: result.count(status) for status in Status}
    applied = sum(verdicts.values()) - verdicts[Status.OUT_OF_SCOPE]
    identities = sum(s.kind == IDENTITY for s in result.rows)
    lines = [
        f"{verdicts[Status.HOLDS]} of {applied} applicable checks hold, {verdicts[Status.REFUTED]} are "
        f"violated and {verdicts[Status.UNDECIDED]} undecided; {verdicts[Status.OUT_OF_SCOPE]} did not "
        f"apply because an assumption was not met. {identities} of the checks are identities, which "
        "only a bug could break; the others could have failed."
    ]
    for episode in result.episodes:
        lines += _joint_story(episode) if episode.is_joint else _story(episode)
    findings = [row for s in result.statements for row in s.inequalities]
    sized = [row for row in findings if row.rhs > 0]
    if sized:
        row = min(sized, key=lambda r: r.relative_margin)
        lines.append(
            f"The inequality with the smallest margin for its size is {row.statement} at {row.place} ({row.claim}): "
            f"{row.lhs:.4g} against {row.rhs:.4g} {row.unit}, a margin of {row.margin:.3g}. The smallest "
            f"margin of all is {min(r.margin for r in findings):.2g}, the largest rounding allowance "
            f"{max(r.tolerance for r in findings):.0e}."
        )
    if result.never_applied:
        names = ", ".join(result.never_applied)
        lines.append(f"Never applied in this run, so neither confirmed nor violated: {names}.")
    else:
        lines.append("Every statement on the list applied somewhere in this run.")
    return lines


def _joint_story(episode: Episode) -> Iterator[str]:
    world, log_ref, p = episode.world, episode.ref.log_p, episode.rl[-1].log_p
    d, joint, tilt = world.log_d, world.joint_optimum(log_ref), world.tilt(log_ref)
    loss, start = world.ce(d, p), world.ce(d, log_ref)
    yield (
        f"{_title(episode)}, lambda = {world.weight:g}: it moved the reward from {world.j(log_ref):.3f} to "
        f"{world.j(p):.3f} and the SFT loss from {start:.3f} to {loss:.3f}. At the exact joint optimum "
        f"they are {world.j(joint):.3f} and {world.ce(d, joint):.3f} (J1), at the exact RL optimum "
        f"{world.j(tilt):.3f} and {world.ce(d, tilt):.3f}. The trained policy is "
        f"{world.joint_gap(p, log_ref):.2g} below the best J_b - lambda CE that any schedule of SFT and RL can "
        "reach (J2)."
    )


def _story(episode: Episode) -> Iterator[str]:
    world = episode.world
    d, log_ref, p1 = world.log_d, episode.ref.log_p, episode.rl[-1].log_p
    eps = world.kl(d, log_ref)
    near = eps < NEAR_OPTIMAL
    kind = "near the optimum of SFT" if near else "away from the optimum of SFT"
    start, end = world.ce(d, log_ref), world.ce(d, p1)
    exact = world.of_tilt(bounds.sft_loss_increase, d, log_ref)
    price = world.price(d, p1) - eps
    listed = 1 - float(np.exp(log_ref[:, -1]).mean())
    words = f"RL {_moved(world.j(p1) - world.j(log_ref))} the reward and {_moved(end - start)} the SFT loss"
    if episode.after:
        p2 = episode.after[-1].log_p
        words += (
            f"; SFT afterwards {_moved(world.ce(d, p2) - end)} the SFT loss and "
            f"{_moved(world.j(p2) - world.j(p1))} the reward"
        )
    yield f"{_title(episode)}: {words}."
    yield (
        f"RL started {kind} ({eps:.2g} nats from the data law, "
        f"{listed:.4g} of the mass on the listed responses). It moved the reward from "
        f"{world.j(log_ref):.3f} to {world.j(p1):.3f} and the SFT loss from {start:.3f} to {end:.3f}, a "
        f"change of {end - start:+.3f} nats per response. For the exact RL optimum the theorem "
        f"predicts {exact:+.3f} (S1); a policy with this reward cannot have less than {price:+.3f} (S7). "
        f"The trained policy is {world.kl(p1, world.tilt(log_ref)):.2g} nats from that optimum. RL to the "
        f"optimum has to raise the SFT loss from any ref within {world.threshold(log_ref):.2g} nats of the "
        f"data (S6); this ref is {'within' if eps < world.threshold(log_ref) else 'not within'}."
    )
    if episode.after:
        p2 = episode.after[-1].log_p
        lost, kept = world.j(p1) - world.j(p2), world.jb(p1, log_ref) - world.jb(p2, log_ref)
        target = world.of_tilt(bounds.reward_drop, d, log_ref)
        yield (
            f"SFT after that RL brought the SFT loss to {world.ce(d, p2):.3f} (floor "
            f"{world.data_entropy:.3f}), changed the reward by {-lost:+.3f} (predicted for SFT from the exact "
            f"RL optimum to the data law: {-target:+.3f}, R2) and the regularised reward by {-kept:+.3f} (R8)."
        )


def _moved(change: float) -> str:
    return "raised" if change > 0 else "lowered"


def what_it_does_not_show(result: Digest) -> list[str]:
    """The limits of the run, in the report next to its findings."""
    return [
        f"One model, one seed, {result.config['prompts']} prompts, one value of beta: a check of the "
        "statements on a language model's own probabilities, not a survey of post-training.",
        "Responses are six candidates per prompt and the atom 'other', which has constant reward. The "
        "statements are exact for that law; they say nothing about what happens inside 'other'.",
        "SFT used the data law itself and RL the exact gradient. Noise of sampled data and of sampled "
        "rollouts is absent; the sampled protocol has it.",
        "A trained policy is not the exact RL optimum. Rows marked 'exact optimum' are about the "
        "optimum computed from a trained ref; rows marked 'trained policy' are about training results.",
        "An identity that holds shows that the computation is right. It is no evidence about training.",
        "A comparison of predicted and observed numbers has no verdict: the predictions are for the "
        "exact optimum or the exact data law, and training stops short of both.",
        f"The landscape statements P1-P3 are vacuous here: their constants are the smallest "
        f"probability of a response, down to {result.smallest_p:.1e} in this run. They are not "
        "reported as confirmed.",
        "Not tested here: F1 (divergences are computed as sums of nonnegative terms), the claims that the "
        "library refutes (R5, R7), and statements not listed above.",
        f"Near SFT optimality means KL(d||ref) < {NEAR_OPTIMAL:g}; rows that need it are out of scope "
        "otherwise.",
    ]


def as_json(result: Digest) -> dict[str, Any]:
    """report.json, without infinities, which JSON lacks."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return float(value) if isinstance(value, float) else value

    return clean(
        {
            "outcome": result.outcome,
            "summary": what_held(result),
            "not_shown": what_it_does_not_show(result),
            "config": result.config,
            "model": result.model,
            "layout": result.layout,
            "enumeration_difference": result.enumeration[0],
            "enumeration_tolerance": result.enumeration[1],
            "data_entropy": result.experts.data_entropy,
            "data_reward": result.experts.data_reward,
            "reward_range": result.experts.range,
            "counts": {status.name: result.count(status) for status in Status},
            "never_applied": result.never_applied,
            "policies": result.policies,
            "statements": [
                {
                    "statement": s.statement,
                    "title": s.title,
                    "status": s.status.name,
                    "identities": len(s.identities),
                    "inequalities": len(s.inequalities),
                    "out_of_scope": len(s.out_of_scope),
                    "worst_identity": s.worst_identity and s.worst_identity.as_dict(),
                    "tightest_inequality": s.tightest and s.tightest.as_dict(),
                }
                for s in result.statements
            ],
            "predictions": [
                {
                    "episode": title,
                    "quantity": p.quantity,
                    "statement": p.statement,
                    "predicted": p.predicted,
                    "observed": p.observed,
                    "unit": p.unit,
                }
                for title, predictions in result.predictions
                for p in predictions
            ],
            "changes": list(changes(result)),
            "checkpoints": result.checkpoints,
            "rows": [row.as_dict() for row in result.rows],
        }
    )
