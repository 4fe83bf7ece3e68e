"""The statements, evaluated on the recorded policies of a run.

Every row compares a definition (cross-entropies, rewards, divergences summed over the responses) with the closed
form of ``nondecoupling.bounds``, averaged over the prompts, and says what kind of evidence it is:

    identity              holds for every policy; it can fail only through a bug
    consequence           an identity restated under the condition that gives it its sign: again only a bug can break it
    exact optimum         about the tilt of a trained ref: computed, not trained
    trained policy        an inequality about a policy that training produced, with the room that it left

``d := ref`` marks rows in which the model's own law plays the data: there SFT optimality is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from nondecoupling.lm.tolerances import mass_error, mass_tolerance
from validate.enumerated.tolerances import tolerance
from validate.enumerated.world import Checkpoint, Episode, World

__all__ = [
    "CONSEQUENCE",
    "IDENTITY",
    "NEAR_OPTIMAL",
    "STATEMENTS",
    "Row",
    "mass_rows",
    "rows_of",
]

# Distance KL(d || ref) below which a policy may be called near SFT optimality.
NEAR_OPTIMAL = 1e-2
IDENTITY, CONSEQUENCE = "identity", "consequence"
OPTIMUM, TRAINED = "exact optimum", "trained policy"

STATEMENTS = {
    "F2": "The SFT loss is the entropy of the data plus the distance to it",
    "F3": "The best regularised reward is the soft value beta log Z",
    "S1": "Exact change of the SFT loss under RL",
    "S2": "At SFT optimality, RL to the optimum raises the SFT loss by the coupling gap",
    "S3": "Two-sided size of the coupling gap",
    "S5": "Price of reward: any policy with this reward has at least this SFT loss",
    "S6": "Non-decoupling threshold: how near SFT optimality RL must raise the SFT loss",
    "S7": "From an approximate SFT optimum: reward gained against SFT loss paid",
    "R1": "Regularised reward lost against the exact RL optimum",
    "R2": "Raw reward lost against the exact RL optimum, three points",
    "R3": "Raw reward lost inside the KL ball",
    "R6": "Cycle law: what RL gains over the data, SFT takes back",
    "R8": "From an approximate RL optimum: when SFT must lower the reward",
    "J2": "No free order: no policy beats the joint optimum",
    "J3": "What mixing a little SFT into RL saves",
}


@dataclass(frozen=True)
class Row:
    """One claim at one place. ``relation`` is "==" or ">="; ``margin`` is negative where it fails.

    ``attained``: the statement's own equality case is met here, so a margin within rounding is what it says.
    """

    statement: str
    claim: str
    place: str
    kind: str
    relation: str
    lhs: float
    rhs: float
    tolerance: float
    unit: str
    missing: str = ""
    attained: bool = False

    @property
    def margin(self) -> float:
        if self.relation == "==":
            return self.tolerance - abs(self.lhs - self.rhs)
        return self.lhs - self.rhs

    @property
    def relative_margin(self) -> float:
        """The margin in parts of the larger side."""
        return self.margin / max(abs(self.lhs), abs(self.rhs))

    @property
    def status(self) -> Status:
        """OUT_OF_SCOPE where an assumption is missing. An inequality within its tolerance is UNDECIDED."""
        if self.missing:
            return Status.OUT_OF_SCOPE
        if math.isnan(self.margin):
            return Status.UNDECIDED
        if self.relation == "==":
            return Status.HOLDS if self.margin >= 0 else Status.REFUTED
        if abs(self.margin) <= self.tolerance:
            return Status.HOLDS if self.attained else Status.UNDECIDED
        return Status.HOLDS if self.margin > 0 else Status.REFUTED

    def as_dict(self) -> dict[str, Any]:
        return {
            "statement": self.statement,
            "claim": self.claim,
            "place": self.place,
            "kind": self.kind,
            "lhs": self.lhs,
            "relation": self.relation,
            "rhs": self.rhs,
            "margin": self.margin,
            "tolerance": self.tolerance,
            "unit": self.unit,
            "status": self.status.name,
            "missing_assumption": self.missing,
        }


class _RowMaker:
    """Rows of one statement at one place share their laws, hence their tolerance."""

    def __init__(self, world: World, place: str, laws: Sequence[np.ndarray]) -> None:
        self.place = place
        self.nats = tolerance(laws, world.reward, world.beta)
        # Rows in rewards are sums of beta and, for joint training, lambda times nats.
        self.reward = self.nats * max(world.beta, world.weight)

    def __call__(
        self,
        statement: str,
        claim: str,
        kind: str,
        lhs: float,
        relation: str,
        rhs: float,
        unit: str = "nats",
        missing: str = "",
        attained: bool = False,
    ) -> Row:
        allowed = self.reward if unit == "reward" else self.nats
        sides = (lhs, rhs, allowed, unit, missing, attained)
        return Row(statement, claim, self.place, kind, relation, *sides)


def rows_of(experts: World, episodes: Sequence[Episode]) -> list[Row]:
    """All rows of a run: the experts' data law, then each episode; a shared policy is looked at once."""
    rows = list(_about_the_data_law(experts))
    seen: set[str] = set()
    for episode in episodes:
        world, path = episode.world, [*episode.rl, *episode.after]
        before = [c for c in episode.before if c.place not in seen]
        seen |= {c.place for c in before}
        for checkpoint in before:
            rows += _about_the_loss(experts, checkpoint)
            rows.append(_price(experts, checkpoint))
        for checkpoint in path:
            rows += _about_the_loss(world, checkpoint)
        if before:
            rows += _about_the_tilt(world, episode.ref)
            rows += _about_the_joint_optimum(world, episode.ref)
        for checkpoint in path:
            rows += _against_ref(world, episode.ref, checkpoint)
        for earlier, later in pairwise([episode.ref, *path]):
            rows += _between(world, episode.ref, earlier, later)
        for checkpoint in episode.after:
            rows += _after_rl(world, episode, checkpoint)
    return rows


def mass_rows(checkpoints: Sequence[Checkpoint]) -> list[Row]:
    """The self-test of the enumeration: candidates and `other` add up to one."""
    return [
        Row(
            "self-test",
            "candidates + other have mass 1: |sum p - 1| = 0",
            checkpoint.place,
            IDENTITY,
            "==",
            mass_error(checkpoint.log_p),
            0.0,
            mass_tolerance(checkpoint.log_p),
            "probability",
        )
        for checkpoint in checkpoints
    ]


def _about_the_data_law(world: World) -> Iterator[Row]:
    d = world.log_d
    tilt = world.tilt(d)
    row = _RowMaker(world, "data law", [d, tilt])
    yield from _at_exact_optimality(world, row, d, tilt, "ref = d")


def _at_exact_optimality(
    world: World, row: _RowMaker, d: np.ndarray, tilt: np.ndarray, case: str
) -> Iterator[Row]:
    """S2, S3, R6 for a data law d that RL starts from."""
    rise = world.ce(d, tilt) - world.entropy(d)
    gap = world.gap(d)
    lower, upper = bounds.coupling_gap_bounds(d, world.reward, world.beta)
    yield row("S2", f"{case}: DeltaL(tilt) = coupling gap", IDENTITY, rise, "==", gap)
    yield row("S2", f"{case}: RL to its optimum raises the SFT loss", OPTIMUM, rise, ">=", 0.0)
    case_of_equality = {"attained": world.two_levels}  # both are attained by two-point laws
    claim = f"{case}: DeltaL(tilt) >= lower bound"
    yield row("S3", claim, OPTIMUM, rise, ">=", lower.mean(), **case_of_equality)
    claim = f"{case}: upper bound >= DeltaL(tilt)"
    yield row("S3", claim, OPTIMUM, upper.mean(), ">=", rise, **case_of_equality)
    gained = world.j(tilt) - world.j(d)
    cycle = world.of_tilt(bounds.cycle_loss, d)
    claim = f"{case}: J(tilt) - J(d) = beta (KL(d||tilt) + KL(tilt||d))"
    yield row("R6", claim, IDENTITY, gained, "==", cycle, "reward")


def _about_the_loss(world: World, checkpoint: Checkpoint) -> Iterator[Row]:
    p, d = checkpoint.log_p, world.log_d
    row = _RowMaker(world, checkpoint.place, [p, d])
    distance = world.data_entropy + world.kl(d, p)
    yield row("F2", "CE(d,p) = H(d) + KL(d||p)", IDENTITY, world.ce(d, p), "==", distance)


def _price(world: World, checkpoint: Checkpoint) -> Row:
    """S5 before RL. It is attained by policies that keep the data's proportions within each of two levels."""
    p, d = checkpoint.log_p, world.log_d
    row = _RowMaker(world, checkpoint.place, [p, d])
    excess, price = world.ce(d, p) - world.data_entropy, world.price(d, p)
    claim = "CE(d,p) - H(d) >= K_inf(d, J(p))"
    return row("S5", claim, TRAINED, excess, ">=", price, attained=world.two_levels)


def _about_the_tilt(world: World, ref: Checkpoint) -> Iterator[Row]:
    d, log_ref, beta = world.log_d, ref.log_p, world.beta
    tilt = world.tilt(log_ref)
    row = _RowMaker(world, f"tilt of {ref.place}", [d, log_ref, tilt])
    best = world.jb(tilt, log_ref)
    value = world.soft_value(log_ref)
    yield row("F3", "J_b(tilt) = beta log Z", IDENTITY, best, "==", value, "reward")

    rise = world.ce(d, tilt) - world.ce(d, log_ref)
    closed = world.of_tilt(bounds.sft_loss_increase, d, log_ref)
    yield row("S1", "DeltaL(tilt) = log Z - E_d r/beta", IDENTITY, rise, "==", closed)

    eps = world.kl(d, log_ref)
    gap, shift = world.gap(log_ref), (world.data_reward - world.j(log_ref)) / beta
    claim = "DeltaL(tilt) = coupling gap of ref - (E_d r - E_ref r)/beta"
    yield row("S2", claim, IDENTITY, rise, "==", gap - shift)
    if eps > 0:  # with d = ref it is the identity above
        near = gap - world.range / beta * math.sqrt(eps / 2)
        far = f"ref is not near SFT optimality: eps = {eps:.3g}, required < {NEAR_OPTIMAL:g}"
        yield row(
            "S2",
            "near SFT optimality: DeltaL(tilt) >= coupling gap of ref - (R/beta) sqrt(eps/2)",
            OPTIMUM,
            rise,
            ">=",
            near,
            missing="" if eps < NEAR_OPTIMAL else far,
        )

    forward = world.kl(log_ref, tilt)
    claim = "DeltaL(tilt) = KL(ref||tilt) - (E_d r - E_ref r)/beta"
    yield row("S6", claim, IDENTITY, rise, "==", forward - shift)
    threshold = world.threshold(log_ref)
    above = f"ref is too far from the data: eps = {eps:.3g} >= threshold {threshold:.3g}"
    yield row(
        "S6",
        f"eps = {eps:.3g} below the threshold {threshold:.3g}: DeltaL(tilt) > 0",
        OPTIMUM,
        rise,
        ">=",
        0.0,
        missing="" if eps < threshold else above,
    )
    yield from _at_exact_optimality(world, row, log_ref, tilt, "d := ref")


def _about_the_joint_optimum(world: World, ref: Checkpoint) -> Iterator[Row]:
    """J3 at the exact optimum for the run's lambda."""
    tilt, joint = world.tilt(ref.log_p), world.joint_optimum(ref.log_p)
    row = _RowMaker(world, f"joint optimum of {ref.place}", [world.log_d, ref.log_p, tilt, joint])
    saved = world.ce(world.log_d, tilt) - world.ce(world.log_d, joint)
    cost = world.jb(tilt, ref.log_p) - world.jb(joint, ref.log_p)
    least, most = (float(side.mean()) for side in world.joint_saving(ref.log_p))
    yield row("J3", "CE(d,tilt) - CE(d,joint) >= lower bound", OPTIMUM, saved, ">=", least)
    yield row(
        "J3", "(lambda/beta) chi2(d||tilt) >= CE(d,tilt) - CE(d,joint)", OPTIMUM, most, ">=", saved
    )
    half = world.weight / 2
    claim = "J_b(tilt) - J_b(joint) >= lambda/2 times the lower bound"
    yield row("J3", claim, OPTIMUM, cost, ">=", half * least, "reward")
    claim = "lambda/2 (lambda/beta) chi2(d||tilt) >= J_b(tilt) - J_b(joint)"
    yield row("J3", claim, OPTIMUM, half * most, ">=", cost, "reward")


def _against_ref(world: World, ref: Checkpoint, checkpoint: Checkpoint) -> Iterator[Row]:
    d, log_ref, p = world.log_d, ref.log_p, checkpoint.log_p
    tilt = world.tilt(log_ref)
    row = _RowMaker(world, checkpoint.place, [d, log_ref, p, tilt])

    rise = world.ce(d, p) - world.ce(d, log_ref)
    closed = float(bounds.sft_loss_change(d, log_ref, p).mean())
    claim = "DeltaL(p) = KL(ref||p) - (E_d - E_ref) log(p/ref)"
    yield row("S1", claim, IDENTITY, rise, "==", closed)

    eps = world.kl(d, log_ref)
    paid = world.price(d, p) - eps
    case_of_equality = {"attained": world.two_levels}
    claim, statement = "DeltaL(p) >= K_inf(d, J(p)) - eps", "S7" if eps > 0 else "S5"
    yield row(statement, claim, TRAINED, rise, ">=", paid, **case_of_equality)
    # eps + DeltaL(p) = KL(d||p), which does not cancel.
    most = world.data_reward + world.range * math.sqrt(world.kl(d, p) / 2)
    claim = "J(d) + R sqrt((eps + DeltaL(p))/2) >= J(p)"
    yield row("S7", claim, TRAINED, most, ">=", world.j(p), "reward")

    if eps > 0:
        excess = world.ce(log_ref, p) - world.entropy(log_ref)
        claim, price = "d := ref: CE(ref,p) - H(ref) >= K_inf(ref, J(p))", world.price(log_ref, p)
        yield row("S5", claim, TRAINED, excess, ">=", price, **case_of_equality)

    drop = world.jb(tilt, log_ref) - world.jb(p, log_ref)
    closed = world.of_tilt(bounds.regularized_reward_drop, p, log_ref)
    claim = "J_b(tilt) - J_b(p) = beta KL(p||tilt)"
    yield row("R1", claim, IDENTITY, drop, "==", closed, "reward")

    raw_drop = world.j(tilt) - world.j(p)
    three = world.of_tilt(bounds.reward_drop, p, log_ref)
    claim = "J(tilt) - J(p) = beta (KL(p||tilt) + KL(tilt||ref) - KL(p||ref))"
    yield row("R2", claim, IDENTITY, raw_drop, "==", three, "reward")

    joint = world.joint_optimum(log_ref)
    worse = world.weight * (world.ce(d, p) - world.ce(d, joint))
    better = world.jb(p, log_ref) - world.jb(joint, log_ref)
    claim = "lambda (CE(d,p) - CE(d,joint)) >= J_b(p) - J_b(joint)"
    yield row("J2", claim, TRAINED, worse, ">=", better, "reward")
    gap = world.joint_gap(p, log_ref)
    claim = "F(joint) - F(p) = beta KL(p||joint) + lambda E_d[z - 1 - log z]"
    yield row("J2", claim, IDENTITY, worse - better, "==", gap, "reward")

    moved, radius = world.kl(p, log_ref), world.kl(tilt, log_ref)
    outside = f"p is outside the ball: KL(p||ref) = {moved:.3g} > KL(tilt||ref) = {radius:.3g}"
    yield row(
        "R3",
        "inside the KL ball: J(tilt) - J(p) >= beta KL(p||tilt)",
        CONSEQUENCE,
        raw_drop,
        ">=",
        closed,
        "reward",
        missing="" if moved <= radius else outside,
    )


def _between(
    world: World, ref: Checkpoint, earlier: Checkpoint, later: Checkpoint
) -> Iterator[Row]:
    """R8 and its raw-reward analogue between consecutive checkpoints."""
    log_ref, a, b = ref.log_p, earlier.log_p, later.log_p
    tilt = world.tilt(log_ref)
    row = _RowMaker(world, f"{earlier.place} -> {later.place}", [log_ref, a, b, tilt])
    farther = world.kl(b, tilt) - world.kl(a, tilt)
    drop = world.jb(a, log_ref) - world.jb(b, log_ref)
    claim = "J_b(p1) - J_b(p2) = beta (KL(p2||tilt) - KL(p1||tilt))"
    yield row("R8", claim, IDENTITY, drop, "==", world.beta * farther, "reward")
    outward = world.kl(b, log_ref) - world.kl(a, log_ref)
    raw_drop = world.j(a) - world.j(b)
    claim = "J(p1) - J(p2) = beta (rise of KL(.||tilt) - rise of KL(.||ref))"
    yield row("R8", claim, IDENTITY, raw_drop, "==", world.beta * (farther - outward), "reward")


def _after_rl(world: World, episode: Episode, checkpoint: Checkpoint) -> Iterator[Row]:
    """R8 from the trained result of RL to a checkpoint of the SFT that follows."""
    log_ref, p1, p2 = episode.ref.log_p, episode.rl[-1].log_p, checkpoint.log_p
    tilt = world.tilt(log_ref)
    row = _RowMaker(world, checkpoint.place, [log_ref, p1, p2, tilt])
    near, far = world.kl(p1, tilt), world.kl(p2, tilt)
    yield row(
        "R8",
        "SFT ended farther from the tilt than RL did, so it lowered J_b",
        CONSEQUENCE,
        world.jb(p1, log_ref) - world.jb(p2, log_ref),
        ">=",
        0.0,
        "reward",
        missing=""
        if far > near
        else f"SFT ended nearer to the tilt: KL {far:.3g} against {near:.3g} after RL",
    )
    outward = world.kl(p2, log_ref) - world.kl(p1, log_ref)
    yield row(
        "R8",
        "KL to the tilt rose by more than KL to ref, so SFT lowered the raw reward",
        CONSEQUENCE,
        world.j(p1) - world.j(p2),
        ">=",
        0.0,
        "reward",
        missing=""
        if far - near > outward
        else f"KL to the tilt rose by {far - near:.3g}, KL to ref by {outward:.3g}",
    )
