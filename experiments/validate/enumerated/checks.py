"""The statements, evaluated on the recorded policies of a run.

Every check compares a definition (cross-entropies, rewards, divergences summed over the responses) with the closed
form of ``nondecoupling.bounds``, averaged over the prompts, and says what kind of evidence it is:

    identity              holds for every policy; it can fail only through a bug
    consequence           an identity restated under the condition that gives it its sign: again only a bug can break it
    exact optimum         about the tilt of a trained ref: computed, not trained
    trained policy        an inequality about a policy that training produced, with the room that it left

``d := ref`` marks checks in which the model's own law plays the data: there SFT optimality is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nondecoupling import bounds
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.averages import near_optimal_loss_increase, reward_ceiling
from nondecoupling.lm.tolerances import mass_tolerance
from validate.enumerated.episodes import Checkpoint, Episode
from validate.enumerated.means import PromptMeans
from validate.enumerated.tolerances import tolerance

__all__ = [
    "CHECKED",
    "CONSEQUENCE",
    "IDENTITY",
    "NEAR_OPTIMAL",
    "OPTIMUM",
    "REWARD",
    "SELF_TEST",
    "TRAINED",
    "Check",
    "Place",
    "checks_of",
    "mass_checks",
]

# Distance KL(d || ref) below which a policy may be called near SFT optimality.
NEAR_OPTIMAL = 1e-2
IDENTITY, CONSEQUENCE = "identity", "consequence"
OPTIMUM, TRAINED = "exact optimum", "trained policy"
NATS, REWARD = "nats", "reward"
SELF_TEST = "self-test"
# The statements that a run can check, in the order of the report.
CHECKED = (
    "F2", "F3", "S1", "S2", "S3", "S5", "S6", "S7", "R1", "R2", "R3", "R6", "R8", "J2", "J3",
)  # fmt: skip
Law = NDArray[np.floating[Any]]


def checks_of(experts: PromptMeans, episodes: Sequence[Episode]) -> list[Check]:
    """All checks of a run: the experts' data law, then each episode; a shared policy is looked at once."""
    found = list(_about_the_data_law(experts))
    seen: set[str] = set()
    for episode in episodes:
        mean, path = episode.mean, [*episode.rl, *episode.after]
        before = [c for c in episode.before if c.place not in seen]
        seen |= {c.place for c in before}
        for checkpoint in before:
            found += _about_the_loss(experts, checkpoint)
            found.append(_price(experts, checkpoint))
        for checkpoint in path:
            found += _about_the_loss(mean, checkpoint)
        if before:
            found += _about_the_tilt(mean, episode.ref)
            found += _about_the_joint_optimum(mean, episode.ref)
        for checkpoint in path:
            found += _against_ref(mean, episode.ref, checkpoint)
        for earlier, later in pairwise([episode.ref, *path]):
            found += _between(mean, episode.ref, earlier, later)
        for checkpoint in episode.after:
            found += _after_rl(mean, episode, checkpoint)
    return found


@dataclass(frozen=True)
class Check:
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

    def only_if(self, holds: bool, missing: str) -> Check:
        """The same check, out of scope unless the assumption holds."""
        return self if holds else replace(self, missing=missing)

    def attained_if(self, attained: bool) -> Check:
        return replace(self, attained=attained)

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

    def as_json(self) -> dict[str, str | float]:
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


class Place:
    """Checks at one place share their laws, hence their tolerance."""

    def __init__(self, mean: PromptMeans, name: str, laws: Sequence[Law]) -> None:
        self.name = name
        nats = tolerance(laws, mean.reward, mean.beta)
        # Sides in rewards are sums of beta and, for joint training, lambda times nats.
        self.allowed = {NATS: nats, REWARD: nats * max(mean.beta, mean.weight)}

    def equal(self, statement: str, claim: str, lhs: float, rhs: float, unit: str = NATS) -> Check:
        """lhs == rhs for every policy."""
        sides = lhs, rhs, self.allowed[unit], unit
        return Check(statement, claim, self.name, IDENTITY, "==", *sides)

    def at_least(
        self, kind: str, statement: str, claim: str, lhs: float, rhs: float, unit: str = NATS
    ) -> Check:
        """lhs >= rhs, as evidence of a kind."""
        sides = lhs, rhs, self.allowed[unit], unit
        return Check(statement, claim, self.name, kind, ">=", *sides)


def mass_checks(checkpoints: Sequence[Checkpoint], sums: float = 0.0) -> list[Check]:
    """The self-test of the enumeration: candidates and `other` add up to one.

    ``sums`` is what the precision of the head adds to its tolerance.
    """
    return [
        Check(
            SELF_TEST,
            "candidates + other have mass 1: |sum p - 1| = 0",
            checkpoint.place,
            IDENTITY,
            "==",
            checkpoint.mass_error,
            0.0,
            mass_tolerance(checkpoint.log_p, sums),
            "probability",
        )
        for checkpoint in checkpoints
    ]


def _about_the_data_law(mean: PromptMeans) -> Iterator[Check]:
    d = mean.log_d
    tilt = mean.tilt(d)
    yield from _at_exact_optimality(mean, Place(mean, "data law", [d, tilt]), d, tilt, "ref = d")


def _at_exact_optimality(
    mean: PromptMeans, at: Place, d: Law, tilt: Law, case: str
) -> Iterator[Check]:
    """S2, S3, R6 for a data law d that RL starts from."""
    rise = mean.ce(d, tilt) - mean.entropy(d)
    gap = mean.gap(d)
    lower, upper = mean.gap_bounds(d)
    yield at.equal("S2", f"{case}: DeltaL(tilt) = coupling gap", rise, gap)
    claim = f"{case}: RL to its optimum raises the SFT loss"
    levels = mean.levels(d)
    yield at.at_least(OPTIMUM, "S2", claim, rise, 0.0).attained_if(levels == 1)
    attained = levels <= 2  # both are attained by two-point laws
    claim = f"{case}: DeltaL(tilt) >= lower bound"
    yield at.at_least(OPTIMUM, "S3", claim, rise, lower).attained_if(attained)
    claim = f"{case}: upper bound >= DeltaL(tilt)"
    yield at.at_least(OPTIMUM, "S3", claim, upper, rise).attained_if(attained)
    gained = mean.j(tilt) - mean.j(d)
    claim = f"{case}: J(tilt) - J(d) = beta (KL(d||tilt) + KL(tilt||d))"
    yield at.equal("R6", claim, gained, mean.cycle_loss(d), REWARD)


def _about_the_loss(mean: PromptMeans, checkpoint: Checkpoint) -> Iterator[Check]:
    p, d = checkpoint.log_p, mean.log_d
    at = Place(mean, checkpoint.place, [p, d])
    distance = mean.data_entropy + mean.kl(d, p)
    yield at.equal("F2", "CE(d,p) = H(d) + KL(d||p)", mean.ce(d, p), distance)


def _price(mean: PromptMeans, checkpoint: Checkpoint) -> Check:
    """S5 before RL. It is attained by policies that keep the data's proportions within each of two levels."""
    p, d = checkpoint.log_p, mean.log_d
    at = Place(mean, checkpoint.place, [p, d])
    excess, price = mean.ce(d, p) - mean.data_entropy, mean.price(d, p)
    check = at.at_least(TRAINED, "S5", "CE(d,p) - H(d) >= K_inf(d, J(p))", excess, price)
    return check.attained_if(mean.two_levels(d))


def _about_the_tilt(mean: PromptMeans, ref: Checkpoint) -> Iterator[Check]:
    d, log_ref, beta = mean.log_d, ref.log_p, mean.beta
    tilt = mean.tilt(log_ref)
    at = Place(mean, f"tilt of {ref.place}", [d, log_ref, tilt])
    best, value = mean.jb(tilt, log_ref), mean.soft_value(log_ref)
    yield at.equal("F3", "J_b(tilt) = beta log Z", best, value, REWARD)

    rise = mean.ce(d, tilt) - mean.ce(d, log_ref)
    closed = mean.sft_loss_increase(log_ref)
    yield at.equal("S1", "DeltaL(tilt) = log Z - E_d r/beta", rise, closed)

    eps = mean.kl(d, log_ref)
    gap, shift = mean.gap(log_ref), (mean.data_reward - mean.j(log_ref)) / beta
    claim = "DeltaL(tilt) = coupling gap of ref - (E_d r - E_ref r)/beta"
    yield at.equal("S2", claim, rise, gap - shift)
    if eps > 0:  # with d = ref it is the identity above
        claim = "near SFT optimality: DeltaL(tilt) >= coupling gap of ref - (R/beta) sqrt(eps/2)"
        least = float(near_optimal_loss_increase(gap, eps, mean.range, beta))
        far = f"ref is not near SFT optimality: eps = {eps:.3g}, required < {NEAR_OPTIMAL:g}"
        yield at.at_least(OPTIMUM, "S2", claim, rise, least).only_if(eps < NEAR_OPTIMAL, far)

    forward = mean.kl(log_ref, tilt)
    claim = "DeltaL(tilt) = KL(ref||tilt) - (E_d r - E_ref r)/beta"
    yield at.equal("S6", claim, rise, forward - shift)
    radius = mean.radius(log_ref)
    claim = f"eps = {eps:.3g} below the threshold {radius:.3g}: DeltaL(tilt) > 0"
    above = f"ref is too far from the data: eps = {eps:.3g} >= threshold {radius:.3g}"
    yield at.at_least(OPTIMUM, "S6", claim, rise, 0.0).only_if(eps < radius, above)
    yield from _at_exact_optimality(mean, at, log_ref, tilt, "d := ref")


def _about_the_joint_optimum(mean: PromptMeans, ref: Checkpoint) -> Iterator[Check]:
    """J3 at the exact optimum for the run's lambda."""
    tilt, joint = mean.tilt(ref.log_p), mean.joint_optimum(ref.log_p)
    at = Place(mean, f"joint optimum of {ref.place}", [mean.log_d, ref.log_p, tilt, joint])
    saved = mean.ce(mean.log_d, tilt) - mean.ce(mean.log_d, joint)
    cost = mean.jb(tilt, ref.log_p) - mean.jb(joint, ref.log_p)
    least, most = mean.joint_saving(ref.log_p)
    claim = "CE(d,tilt) - CE(d,joint) >= lower bound"
    yield at.at_least(OPTIMUM, "J3", claim, saved, least)
    claim = "(lambda/beta) chi2(d||tilt) >= CE(d,tilt) - CE(d,joint)"
    yield at.at_least(OPTIMUM, "J3", claim, most, saved)
    half = mean.weight / 2
    claim = "J_b(tilt) - J_b(joint) >= lambda/2 times the lower bound"
    yield at.at_least(OPTIMUM, "J3", claim, cost, half * least, REWARD)
    claim = "lambda/2 (lambda/beta) chi2(d||tilt) >= J_b(tilt) - J_b(joint)"
    yield at.at_least(OPTIMUM, "J3", claim, half * most, cost, REWARD)


def _against_ref(mean: PromptMeans, ref: Checkpoint, checkpoint: Checkpoint) -> Iterator[Check]:
    d, log_ref, p = mean.log_d, ref.log_p, checkpoint.log_p
    tilt = mean.tilt(log_ref)
    at = Place(mean, checkpoint.place, [d, log_ref, p, tilt])

    rise = mean.ce(d, p) - mean.ce(d, log_ref)
    closed = float(bounds.sft_loss_change(d, log_ref, p).mean())
    yield at.equal("S1", "DeltaL(p) = KL(ref||p) - (E_d - E_ref) log(p/ref)", rise, closed)

    eps = mean.kl(d, log_ref)
    paid = mean.price(d, p) - eps
    statement, claim = "S7" if eps > 0 else "S5", "DeltaL(p) >= K_inf(d, J(p)) - eps"
    yield at.at_least(TRAINED, statement, claim, rise, paid).attained_if(mean.two_levels(d))
    # eps + DeltaL(p) = KL(d||p), which does not cancel.
    most = float(reward_ceiling(mean.data_reward, mean.kl(d, p), mean.range))
    claim = "J(d) + R sqrt((eps + DeltaL(p))/2) >= J(p)"
    yield at.at_least(TRAINED, "S7", claim, most, mean.j(p), REWARD)

    if eps > 0:
        excess, price = mean.ce(log_ref, p) - mean.entropy(log_ref), mean.price(log_ref, p)
        claim = "d := ref: CE(ref,p) - H(ref) >= K_inf(ref, J(p))"
        check = at.at_least(TRAINED, "S5", claim, excess, price)
        yield check.attained_if(mean.two_levels(log_ref))

    drop = mean.jb(tilt, log_ref) - mean.jb(p, log_ref)
    closed = mean.regularized_reward_drop(p, log_ref)
    yield at.equal("R1", "J_b(tilt) - J_b(p) = beta KL(p||tilt)", drop, closed, REWARD)

    raw_drop = mean.j(tilt) - mean.j(p)
    claim = "J(tilt) - J(p) = beta (KL(p||tilt) + KL(tilt||ref) - KL(p||ref))"
    yield at.equal("R2", claim, raw_drop, mean.reward_drop(p, log_ref), REWARD)

    joint = mean.joint_optimum(log_ref)
    worse = mean.weight * (mean.ce(d, p) - mean.ce(d, joint))
    better = mean.jb(p, log_ref) - mean.jb(joint, log_ref)
    claim = "lambda (CE(d,p) - CE(d,joint)) >= J_b(p) - J_b(joint)"
    yield at.at_least(TRAINED, "J2", claim, worse, better, REWARD)
    claim = "F(joint) - F(p) = beta KL(p||joint) + lambda E_d[z - 1 - log z]"
    yield at.equal("J2", claim, worse - better, mean.joint_gap(p, log_ref), REWARD)

    moved, radius = mean.kl(p, log_ref), mean.kl(tilt, log_ref)
    claim = "inside the KL ball: J(tilt) - J(p) >= beta KL(p||tilt)"
    outside = f"p is outside the ball: KL(p||ref) = {moved:.3g} > KL(tilt||ref) = {radius:.3g}"
    check = at.at_least(CONSEQUENCE, "R3", claim, raw_drop, closed, REWARD)
    yield check.only_if(moved <= radius, outside)


def _between(
    mean: PromptMeans, ref: Checkpoint, earlier: Checkpoint, later: Checkpoint
) -> Iterator[Check]:
    """R8 and its raw-reward analogue between consecutive checkpoints."""
    log_ref, a, b = ref.log_p, earlier.log_p, later.log_p
    tilt = mean.tilt(log_ref)
    at = Place(mean, f"{earlier.place} -> {later.place}", [log_ref, a, b, tilt])
    farther = mean.kl(b, tilt) - mean.kl(a, tilt)
    drop = mean.jb(a, log_ref) - mean.jb(b, log_ref)
    claim = "J_b(p1) - J_b(p2) = beta (KL(p2||tilt) - KL(p1||tilt))"
    yield at.equal("R8", claim, drop, mean.beta * farther, REWARD)
    outward = mean.kl(b, log_ref) - mean.kl(a, log_ref)
    raw_drop = mean.j(a) - mean.j(b)
    claim = "J(p1) - J(p2) = beta (rise of KL(.||tilt) - rise of KL(.||ref))"
    yield at.equal("R8", claim, raw_drop, mean.beta * (farther - outward), REWARD)


def _after_rl(mean: PromptMeans, episode: Episode, checkpoint: Checkpoint) -> Iterator[Check]:
    """R8 from the trained result of RL to a checkpoint of the SFT that follows."""
    log_ref, p1, p2 = episode.ref.log_p, episode.rl[-1].log_p, checkpoint.log_p
    tilt = mean.tilt(log_ref)
    at = Place(mean, checkpoint.place, [log_ref, p1, p2, tilt])
    near, far = mean.kl(p1, tilt), mean.kl(p2, tilt)
    claim = "SFT ended farther from the tilt than RL did, so it lowered J_b"
    drop = mean.jb(p1, log_ref) - mean.jb(p2, log_ref)
    missing = f"SFT ended nearer to the tilt: KL {far:.3g} against {near:.3g} after RL"
    yield at.at_least(CONSEQUENCE, "R8", claim, drop, 0.0, REWARD).only_if(far > near, missing)
    outward = mean.kl(p2, log_ref) - mean.kl(p1, log_ref)
    claim = "KL to the tilt rose by more than KL to ref, so SFT lowered the raw reward"
    drop = mean.j(p1) - mean.j(p2)
    missing = f"KL to the tilt rose by {far - near:.3g}, KL to ref by {outward:.3g}"
    check = at.at_least(CONSEQUENCE, "R8", claim, drop, 0.0, REWARD)
    yield check.only_if(far - near > outward, missing)
