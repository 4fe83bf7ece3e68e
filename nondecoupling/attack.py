"""Adversarial search for the world with the smallest margin, and for the smallest witness.

``attack`` descends torch gradients through the same formulas that ``bounds`` computes, many restarts
in one batch. ``smallest_witness`` enumerates rational worlds, fewest responses first, then smallest
denominators, and returns the first one that Arb proves to violate the claim.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nondecoupling.certify import certify
from nondecoupling.namespaces import arb, floats_of, sympy_numbers
from nondecoupling.sampling import check_arguments
from nondecoupling.statement import Arguments, Claim, StatementType, only
from nondecoupling.verdict import Status
from nondecoupling.worlds import Same, World, rational_worlds


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
SUSPECT_BATCH = 2048


def _ratio(claim: Claim) -> Any:
    """The side that should be smaller over the other one; above 1 the claim is violated."""
    small, large = (claim.lhs, claim.rhs) if claim.relation == "<=" else (claim.rhs, claim.lhs)
    return (small - large) / (small.abs() + large.abs() + SMALLEST_SIDE)


def attack(
    statement: StatementType,
    claim: str,
    *,
    responses: int = 3,
    restarts: int = 128,
    steps: int = 150,
    seed: int = 0,
) -> AttackResult:
    """Search for a violation of an inequality, or for how nearly it is attained."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the arrays are too small to share out
    try:
        return _attack(statement, claim, responses, restarts, steps, seed)
    finally:
        torch.set_num_threads(threads)


def _attack(
    statement: StatementType, claim: str, responses: int, restarts: int, steps: int, seed: int
) -> AttackResult:
    import torch

    target = only(statement, claim)
    free = {k: f for k, f in statement.world.items() if not isinstance(f, Same)}
    generator = torch.Generator().manual_seed(seed)
    raw = {
        name: torch.randn(
            restarts, responses if field.per_response else 1, dtype=torch.float64,
            generator=generator,
        ).requires_grad_()
        for name, field in free.items()
    }  # fmt: skip
    xp = floats_of(next(iter(raw.values())))

    def arguments() -> Arguments:
        out = Arguments()
        for name, field in statement.world.items():
            if isinstance(field, Same):
                out[name] = out[field.other]
            else:
                out[name] = field.from_raw(xp, raw[name])
        return out

    optimiser = torch.optim.Adam(list(raw.values()), lr=0.1)
    best = torch.full((restarts,), -torch.inf, dtype=torch.float64)
    kept = {name: value.detach().clone() for name, value in raw.items()}
    for step in range(steps + 1):
        w = arguments()
        outside = torch.zeros(restarts, 1, dtype=torch.float64)
        for condition in target.conditions(xp, w):
            outside = outside + torch.relu(_ratio(condition) + 1e-6)
        (worst,) = target.claims(xp, w)
        ratio = _ratio(worst)
        score = torch.where(outside > 0, -torch.inf, ratio.detach())[:, 0]
        improved = score > best
        best = torch.where(improved, score, best)
        for name, value in raw.items():
            kept[name] = torch.where(improved[:, None], value.detach(), kept[name])
        if step == steps:
            break
        loss = torch.nan_to_num(10 * outside - ratio, nan=0.0, posinf=0.0, neginf=0.0).sum()
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
        found = {k: v.numpy() for k, v in w.items()}
    (result,) = check_arguments(target, found)
    with torch.no_grad():
        (final,) = target.claims(xp, w)
    size = torch.maximum(final.lhs.abs(), final.rhs.abs())[:, 0].numpy()
    with np.errstate(all="ignore"):
        # Rounding is held against the attack: only a tightness beyond the error bound counts.
        proven = 1 - (result.margin + result.error) / size
    usable = result.applies & ~result.undecided & np.isfinite(proven)
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
    statement: StatementType, claim: str, *, max_responses: int = 3, max_denominator: int = 4
) -> World | None:
    """The smallest rational world that provably violates a claim, or None within the budget.

    A strict inequality may fail by equality, which balls cannot decide: there sympy proves the two
    sides equal.
    """
    target = only(statement, claim)
    for responses in range(2, max_responses + 1):
        for denominator in range(1, max_denominator + 1):
            for world in _suspects(
                target, rational_worlds(statement.world, responses, denominator)
            ):
                (verdict,) = certify(target, world, precisions=(256,))
                equal = verdict.status is Status.UNDECIDED and sides_are_equal(target, world)
                if verdict.status is Status.REFUTED or equal:
                    return world
    return None


def sides_are_equal(target: StatementType, world: World) -> bool:
    """Whether sympy proves that the sides of a strict claim agree on a rational world."""
    import sympy

    xp = arb()
    (found,) = target.claims(xp, Arguments(world.arguments(target.world, xp)))
    if found.relation != ">":
        return False
    xp = sympy_numbers()
    (found,) = target.claims(xp, Arguments(world.arguments(target.world, xp)))
    return bool(sympy.simplify(found.lhs.flat[0] - found.rhs.flat[0]) == 0)


def _suspects(target: StatementType, worlds: Iterable[World]) -> Iterator[World]:
    """The worlds that float64 cannot rule out, in order, evaluated a batch at a time."""
    stream = iter(worlds)
    while chunk := list(itertools.islice(stream, SUSPECT_BATCH)):
        rows = [world.floats(target.world) for world in chunk]
        batch = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
        (result,) = check_arguments(target, batch)
        doubtful = result.applies & (result.margin <= result.error)
        yield from (world for world, doubt in zip(chunk, doubtful, strict=True) if doubt)
