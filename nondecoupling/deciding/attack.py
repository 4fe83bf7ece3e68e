"""Adversarial search for the world with the smallest margin, and for the smallest witness.

``attack`` descends torch gradients through the same formulas that ``bounds`` computes, many restarts
in one batch. ``smallest_witness`` goes through rational worlds, fewest responses first, then smallest
denominators, and returns the first one that Arb proves to violate the claim. float64 rules most of
them out, many at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
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
from nondecoupling.theory.statement import Claim, StatementType, only
from nondecoupling.theory.worlds import World, WorldValues, sample_worlds, world_values

# For each free field the values that it takes, smallest first, each with its common denominator.
Tables = dict[str, list[tuple[int, Fractions]]]


@dataclass(frozen=True)
class AttackResult:
    """The worst world that the search met for one claim.

    ``tightness`` is 1 - margin/max(|lhs|, |rhs|), for nonnegative sides the smaller one over the
    larger: 1 means attained, above 1 violated. It is rounded against the attack. ``violation``
    says that some world's margin is negative beyond the error of its computation.
    """

    statement: str
    claim: str
    margin: float
    error: float
    tightness: float
    violation: bool
    world: dict[str, list[float]]


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
    steps: int = 150,
    seed: int = 0,
    first_violation: bool = False,
) -> AttackResult:
    """Search for a violation of an inequality, or for how nearly it is attained.

    ``first_violation`` ends the search at the first clear violation instead of going on to the worst.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the arrays are too small to share out
    try:
        return _attack(statement, claim, responses, restarts, steps, seed, first_violation)
    finally:
        torch.set_num_threads(threads)


def _attack(
    statement: StatementType,
    claim: str,
    responses: int,
    restarts: int,
    steps: int,
    seed: int,
    first_violation: bool,
) -> AttackResult:
    import torch

    target = only(statement, claim)
    free = free_fields(statement.world)
    generator = torch.Generator().manual_seed(seed)
    raw = {
        name: torch.randn(
            restarts, responses if field.per_response else 1, dtype=torch.float64,
            generator=generator,
        ).requires_grad_()
        for name, field in free.items()
    }  # fmt: skip
    xp = floats_of(next(iter(raw.values())))

    def arguments() -> WorldValues:
        values = {name: field.from_raw(xp, raw[name]) for name, field in free.items()}
        return world_values(statement.world, values)

    optimiser = torch.optim.Adam(list(raw.values()), lr=0.1, fused=True)
    best = torch.full((restarts,), -torch.inf, dtype=torch.float64)
    kept = {name: value.detach().clone() for name, value in raw.items()}
    for step in range(steps + 1):
        w = arguments()
        outside = torch.zeros(restarts, 1, dtype=torch.float64)
        for condition in target.conditions(xp, w):
            outside = outside + torch.relu(_violation(condition) + 1e-6)
        (worst,) = target.claims(xp, w)
        violation = _violation(worst)
        score = torch.where(outside > 0, -torch.inf, violation.detach())[:, 0]
        improved = score > best
        best = torch.where(improved, score, best)
        for name, value in raw.items():
            kept[name] = torch.where(improved[:, None], value.detach(), kept[name])
        if step == steps or (first_violation and float(best.max()) > CLEAR_VIOLATION):
            break
        loss = torch.nan_to_num(10 * outside - violation, nan=0.0, posinf=0.0, neginf=0.0).sum()
        optimiser.zero_grad()
        loss.backward()
        for value in raw.values():
            if value.grad is not None:  # a claim need not use every field
                value.grad.nan_to_num_(0.0, 0.0, 0.0)
        optimiser.step()
        with torch.no_grad():
            for value in raw.values():
                value.clamp_(-8.0, 8.0)
    with torch.no_grad():
        for name, value in raw.items():
            value.copy_(kept[name])
        w = arguments()
        found = {name: np.asarray(value) for name, value in w.items()}
    (result,) = check_arguments(target, found)
    with torch.no_grad():
        (final,) = target.claims(xp, w)
    lhs, rhs = _sides(final)
    size = torch.maximum(lhs.abs(), rhs.abs())[:, 0].numpy()
    with np.errstate(all="ignore"):
        # Rounding is held against the attack: only a tightness beyond the error bound counts.
        proven = 1 - (result.margin + result.error) / size
    usable = result.applies & ~result.undecided & np.isfinite(proven)
    if usable.any():  # a search that met no world in scope decides nothing
        status = Status.REFUTED if result.violated.any() else Status.HOLDS
        report_verdict(Assurance.ATTACKED, statement, claim, status)
    index = int(np.argmax(np.where(usable, proven, -np.inf)))
    return AttackResult(
        statement.id,
        claim,
        float(result.margin[index]),
        float(result.error[index]),
        float(proven[index]),
        bool(result.violated.any()),
        {name: value[index].tolist() for name, value in found.items()},
    )


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
