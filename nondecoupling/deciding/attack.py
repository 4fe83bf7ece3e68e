"""Adversarial search for the world with the smallest margin, and for the smallest witness.

``attack`` descends torch gradients through the same formulas that ``bounds`` computes, many restarts
in one batch. ``smallest_witness`` goes through rational worlds, fewest responses first, then smallest
denominators, and returns the first one that Arb proves to violate the claim. float64 rules most of
them out, many at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from nondecoupling.numbers.exact import the_number

if TYPE_CHECKING:
    from torch import Tensor

from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.decisions import report_verdict
from nondecoupling.deciding.sampling import check_arguments
from nondecoupling.deciding.verdict import Status
from nondecoupling.numbers.arb import arb
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.theory.assurance import Assurance
from nondecoupling.theory.fields import Fractions, free_fields
from nondecoupling.theory.statement import Claim, StatementType, asserted, only
from nondecoupling.theory.worlds import World, WorldValues, sample_worlds, world_values

# For each free field the values that it takes, smallest first, each with its common denominator.
Tables = dict[str, list[tuple[int, Fractions]]]


@dataclass(frozen=True)
class AttackResult:
    """The worst world that the search met for one claim.

    ``tightness`` is 1 - margin/max(|lhs|, |rhs|), for nonnegative sides the smaller one over the
    larger: 1 means attained, above 1 violated. It is rounded against the attack, and NaN where no world
    that was met has one: none is in scope (``in_scope``), or sides vanish or overflow in all that are.
    ``violation`` says that some world's margin is negative beyond the error of its computation.
    """

    statement: str
    claim: str
    margin: float
    error: float
    tightness: float
    violation: bool
    world: dict[str, list[float]]
    in_scope: bool

    @property
    def status(self) -> Status:
        if self.violation:
            return Status.REFUTED
        if math.isnan(self.tightness):
            return Status.UNDECIDED if self.in_scope else Status.OUT_OF_SCOPE
        return Status.HOLDS


# The length of a step of Adam, in units of the free fields' raw values: from the first, by a cosine, to the second.
FIRST_STEP, LAST_STEP = 0.2, 0.02
# Sides below this are too small for a ratio to mean anything in float64.
SMALLEST_SIDE = 1e-6
# In the measure of ``_violation``: far above the errors of float64, far below what a claim moved by 1% gives.
CLEAR_VIOLATION = 1e-5
SUSPECT_BATCH = 16_384
WORLDS_TO_SEE_USE = 256


def _violation(claim: Claim) -> Tensor:
    """By how much the side that should be smaller exceeds the other, in parts of the sum of their sizes.

    Between -1 and 1, positive where the claim is violated, and what the attack ascends.
    """
    small, large = _sides(claim) if claim.relation == "<=" else reversed(_sides(claim))
    return (small - large) / (small.abs() + large.abs() + SMALLEST_SIDE)


def _sides(claim: Claim) -> tuple[Tensor, Tensor]:
    """The sides of a claim that was evaluated in torch."""
    return cast("Tensor", claim.lhs), cast("Tensor", claim.rhs)


def attack(
    statement: StatementType,
    claim: str,
    *,
    responses: int = 3,
    restarts: int = 128,
    steps: int = 75,
    seed: int = 0,
    first_violation: bool = False,
) -> AttackResult:
    """Search for a violation of an inequality, or for how nearly it is attained.

    ``first_violation`` ends the search at the first clear violation instead of going on to the worst.
    Raises ``ValueError`` for an identity, which has no margin that could be made small.
    """
    (result,) = _attacks(statement, [claim], responses, restarts, steps, seed, first_violation)
    return result


def attacks(
    statement: StatementType,
    claims: Sequence[str],
    *,
    responses: int = 3,
    restarts: int = 128,
    steps: int = 75,
    seed: int = 0,
) -> list[AttackResult]:
    """``attack`` for several claims of one statement: the same searches side by side, in less time.

    Each claim descends from the same ``restarts`` worlds. They share the evaluation of the statement,
    which costs hardly more for all of them than for one.
    """
    if not claims:
        return []
    return _attacks(statement, claims, responses, restarts, steps, seed, first_violation=False)


def _attacks(
    statement: StatementType,
    claims: Sequence[str],
    responses: int,
    restarts: int,
    steps: int,
    seed: int,
    first_violation: bool,
) -> list[AttackResult]:
    import torch

    for name, value, least in (
        ("responses", responses, 1),
        ("restarts", restarts, 1),
        ("steps", steps, 0),
    ):
        if value < least:
            raise ValueError(f"{name}={value}: an attack needs at least {least}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the arrays are too small to share out
    try:
        target = only(statement, *claims)
        search = _Search(target, claims, responses, restarts, seed)
        search.descend(steps, first_violation)
        results = search.results()
    finally:
        torch.set_num_threads(threads)
    for result in results:
        report_verdict(Assurance.ATTACKED, statement, result.claim, result.status)
    return results


class _Search:
    """Worlds in one batch ``[claims x restarts, ...]``: a block of them for each claim."""

    def __init__(
        self,
        target: StatementType,
        claims: Sequence[str],
        responses: int,
        restarts: int,
        seed: int,
    ) -> None:
        import torch

        self.target = target
        self.claims = claims
        self.free = free_fields(target.world)
        self.blocks = [slice(k * restarts, (k + 1) * restarts) for k in range(len(claims))]
        generator = torch.Generator().manual_seed(seed)
        self.raw = {
            name: torch.randn(
                restarts, responses if field.per_response else 1, dtype=torch.float64,
                generator=generator,
            ).repeat(len(claims), 1).requires_grad_()
            for name, field in self.free.items()
        }  # fmt: skip
        self.xp = floats_of(next(iter(self.raw.values())))

    def worlds(self) -> WorldValues:
        values = {n: field.from_raw(self.xp, self.raw[n]) for n, field in self.free.items()}
        return world_values(self.target.world, values)

    def sides(self, w: WorldValues) -> list[Claim]:
        """The claims on these worlds, in the order in which they are attacked."""
        found = {claim.name: claim for claim in asserted(self.target, self.xp, w)}
        if identities := [name for name in self.claims if found[name].relation == "=="]:
            raise ValueError(
                f"claim={identities[0]!r}: an identity has no margin to attack; use certify or "
                "check_random_worlds"
            )
        return [found[name] for name in self.claims]

    def descend(self, steps: int, first_violation: bool) -> None:
        """Take every world to the worst one on its way that is in scope."""
        import torch

        leaves = list(self.raw.values())
        optimiser = torch.optim.Adam(leaves, lr=FIRST_STEP, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, eta_min=LAST_STEP)
        best = torch.full((len(leaves[0]),), -torch.inf, dtype=torch.float64)
        kept = {name: value.detach().clone() for name, value in self.raw.items()}
        for step in range(steps + 1):
            w = self.worlds()
            outside = torch.zeros(len(best), 1, dtype=torch.float64)
            for condition in self.target.conditions(self.xp, w):
                outside = outside + torch.relu(_violation(condition) + 1e-6)
            found = zip(self.blocks, self.sides(w), strict=True)
            violations = [_violation(claim)[block] for block, claim in found]
            reached = torch.cat([violation.detach() for violation in violations])
            score = torch.where(outside > 0, -torch.inf, reached)[:, 0]
            improved = score > best
            best = torch.where(improved, score, best)
            for name, value in self.raw.items():
                kept[name] = torch.where(improved[:, None], value.detach(), kept[name])
            if step == steps or (first_violation and float(best.max()) > CLEAR_VIOLATION):
                break
            losses = [
                torch.nan_to_num(10 * outside[block] - violation, 0.0, 0.0, 0.0).sum()
                for block, violation in zip(self.blocks, violations, strict=True)
            ]
            for value, slope in zip(leaves, self._slopes(losses, leaves), strict=True):
                value.grad = slope
            optimiser.step()
            schedule.step()
            with torch.no_grad():
                for value in leaves:
                    value.clamp_(-8.0, 8.0)
        with torch.no_grad():
            for name, value in self.raw.items():
                value.copy_(kept[name])

    def _slopes(self, losses: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
        """The derivative of each world's loss; where it is not finite, zero."""
        import torch

        def slopes(outputs: list[Tensor]) -> list[Tensor]:
            # A claim need not use every field.
            found = torch.autograd.grad(outputs, leaves, retain_graph=True, allow_unused=True)
            return [
                torch.zeros_like(leaf) if slope is None else slope
                for leaf, slope in zip(leaves, found, strict=True)
            ]

        joint = slopes(losses)
        finite = torch.cat(joint, dim=1).isfinite().all(dim=1)
        if len(self.blocks) > 1 and not finite.all():
            for block, loss in zip(self.blocks, losses, strict=True):
                if not finite[block].all():
                    # Perhaps zero times the infinite slope of another claim: this one alone.
                    for slope, alone in zip(joint, slopes([loss]), strict=True):
                        slope[block] = alone[block]
        return [torch.nan_to_num(slope, 0.0, 0.0, 0.0) for slope in joint]

    def results(self) -> list[AttackResult]:
        """The worst world of each claim, judged with the bounds on the errors of float64."""
        import torch

        with torch.no_grad():
            w = self.worlds()
            final = [_sides(claim) for claim in self.sides(w)]
        found = {name: np.asarray(value.detach()) for name, value in w.items()}
        checked = {result.claim: result for result in check_arguments(self.target, found)}
        results = []
        for name, block, (lhs, rhs) in zip(self.claims, self.blocks, final, strict=True):
            result = checked[name]
            size = torch.maximum(lhs.abs(), rhs.abs())[block, 0].numpy()
            margin, error = result.margin[block], result.error[block]
            with np.errstate(all="ignore"):
                # Rounding is held against the attack: only a tightness beyond the error bound counts.
                proven = 1 - (margin + error) / size
            usable = (result.applies & ~result.undecided)[block] & np.isfinite(proven)
            index = int(np.argmax(np.where(usable, proven, -np.inf)))
            results.append(
                AttackResult(
                    self.target.id,
                    name,
                    float(margin[index]),
                    float(error[index]),
                    float(proven[index]) if usable.any() else math.nan,
                    bool(result.violated[block].any()),
                    {field: value[block][index].tolist() for field, value in found.items()},
                    bool(result.applies[block].any()),
                )
            )
        return results


def smallest_witness(
    statement: StatementType,
    claim: str,
    *,
    max_responses: int = 3,
    max_denominator: int = 12,
    max_worlds: int = 1_000_000,
) -> World | None:
    """The smallest rational world that provably violates a claim, or None within the budget.

    For each number of responses the denominators grow to ``max_denominator``, or until there are more
    than ``max_worlds`` worlds. A field that the claim does not use keeps its smallest value. A strict
    inequality may fail by equality, which balls cannot decide: there sympy proves the two sides equal.
    """
    target = only(statement, claim)
    used = _fields_in_use(target)
    for responses in range(2, max_responses + 1):
        for denominator in range(1, max_denominator + 1):
            tables = _tables(target, used, responses, denominator)
            if math.prod(map(len, tables.values())) > max_worlds:
                break
            for world in _suspects(target, tables, denominator):
                (verdict,) = certify(target, world, precisions=(256,))
                equal = verdict.status is Status.UNDECIDED and sides_are_equal(target, world)
                if verdict.status is Status.REFUTED or equal:
                    return world
    return None


def sides_are_equal(target: StatementType, world: World) -> bool:
    """Whether sympy proves that the sides of a strict claim agree on a rational world."""
    import sympy

    xp = arb()
    (found,) = target.claims(xp, world.exact(target.world, xp))
    if found.relation != ">":
        return False
    xp = sympy_numbers()
    (found,) = target.claims(xp, world.exact(target.world, xp))
    return bool(sympy.simplify(the_number(found.lhs) - the_number(found.rhs)) == 0)


def _fields_in_use(target: StatementType) -> set[str]:
    """The free fields that move a margin, of the claim or of a condition, in some random world.

    A field that matters only where no random world lies would be missed: a witness is still proved,
    but a smaller one may exist.
    """
    rng = np.random.default_rng(0)
    drawn, redrawn = (sample_worlds(target.world, rng, WORLDS_TO_SEE_USE, 3) for _ in range(2))

    def margins(free: Mapping[str, np.ndarray]) -> np.ndarray:
        w = world_values(target.world, free)
        xp = floats_of(*w.values())
        with np.errstate(all="ignore"):
            found = [
                np.asarray(c.margin()) for c in (*target.conditions(xp, w), *target.claims(xp, w))
            ]
            return np.concatenate(np.broadcast_arrays(*found))

    before = margins(drawn)
    return {
        name
        for name in free_fields(target.world)
        if not np.array_equal(margins({**drawn, name: redrawn[name]}), before, equal_nan=True)
    }


def _tables(target: StatementType, used: set[str], responses: int, denominator: int) -> Tables:
    """The values of each free field with denominators up to this one; if not in use, the first."""
    tables = {
        name: [(size, v) for size in range(1, denominator + 1) for v in field.grid(responses, size)]
        for name, field in free_fields(target.world).items()
    }
    return {name: table if name in used else table[:1] for name, table in tables.items()}


def _suspects(target: StatementType, tables: Tables, denominator: int) -> Iterator[World]:
    """The worlds with this largest denominator that float64 cannot rule out, in order."""
    shape = tuple(map(len, tables.values()))
    sizes = [np.array([size for size, _ in table]) for table in tables.values()]
    columns = {
        name: [World({name: value}).floats({name: target.world[name]})[name] for _, value in table]
        for name, table in tables.items()
    }
    floats = {name: np.concatenate(column) for name, column in columns.items() if column}
    for start in range(0, math.prod(shape), SUSPECT_BATCH):
        stop = min(start + SUSPECT_BATCH, math.prod(shape))
        rows = np.array(np.unravel_index(np.arange(start, stop), shape))
        largest = np.max([size[row] for size, row in zip(sizes, rows, strict=True)], axis=0)
        rows = rows[:, largest == denominator]
        if not rows.size:
            continue
        free = {name: floats[name][row] for name, row in zip(tables, rows, strict=True)}
        (result,) = check_arguments(target, world_values(target.world, free))
        doubtful = result.applies & (result.margin <= result.error)
        for k in np.flatnonzero(result.violated if result.is_identity else doubtful):
            chosen = zip(tables.items(), rows[:, k], strict=True)
            yield World({name: table[i][1] for (name, table), i in chosen})
