"""Box certificates: inequalities proved for every world in a box of parameters.

Each box stays away from the equality cases of its claim, where no enclosure can decide; what is
left out is part of the evidence. Next to an equality case convexity takes over.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction as F
from typing import Any

import pytest
import sympy as sp

from nondecoupling.deciding.boxes import (
    Box,
    certify_box,
    certify_convex,
    symbolic_margin,
    vanishes_with_its_slope,
)
from nondecoupling.deciding.verdict import Status
from nondecoupling.theory import catalog
from nondecoupling.theory.statement import only, tightened
from proofs.symbolic import assert_zero

HALF, QUARTER = F(1, 2), F(1, 4)


@dataclass(frozen=True)
class Case:
    """A claim on a box, what the box leaves out, and by how much tightening refutes the claim there."""

    statement: str
    claim: str
    box: Box
    left_out: str
    factor: float = 1.01
    inside: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)

    def certificate(self, tighter: float = 1.0) -> Any:
        statement = catalog.statement(self.statement)
        if tighter != 1:
            statement = tightened(statement, self.claim, tighter)
        options = {"inside": self.inside, **self.options}
        return certify_box(statement, self.claim, self.box, **options)


def cases(listed: list[Case], *more: pytest.MarkDecorator) -> list[Any]:
    return [
        pytest.param(
            case,
            marks=[pytest.mark.statement(case.statement), *more],
            id=f"{case.statement}-{case.claim.replace(' ', '-')}",
        )
        for case in listed
    ]


def two_levels(t: Any, g: Any) -> dict[str, Any]:
    return dict(log_d=[t, 1 - t], reward=[0, g], beta=[1])


def three_levels(s: Any, t: Any, g: Any) -> dict[str, Any]:
    return dict(log_d=[s, t, 1 - s - t], reward=[0, g / 2, g], beta=[1])


A_LINE = dict(rate=[1], offset=[1])  # of S5, for boxes about its other claims


def frontier(s: Any, w: Any) -> dict[str, Any]:
    third = F(1, 3)
    laws = dict(log_d=[s, 1 - third - s, third], log_p=[third] * 3)
    return dict(**laws, reward=[0, 1, 2], slack=[w], **A_LINE)


def dual(t: Any, p: Any, k: Any) -> dict[str, Any]:
    """The slack, or the rate of the line, is k times the optimal one."""
    slack = (1 - t) / (1 - p)
    line = dict(rate=[k * (t / p - slack)], offset=[slack])
    return dict(log_d=[t, 1 - t], log_p=[p, 1 - p], reward=[0, 1], slack=[k * slack], **line)


def ball(a: Any, p: Any, g: Any = 1) -> dict[str, Any]:
    return dict(log_ref=[a, 1 - a], log_p=[p, 1 - p], reward=[0, g], beta=[1])


def changed(p: Any, t: Any, u: Any = 1) -> dict[str, Any]:
    return dict(log_p=[p, 1 - p], log_tilt=[t, 1 - t], reward=[0, 1], time=[u])


def sft_gradient(d: Any, p: Any) -> dict[str, Any]:
    return dict(
        log_d=[d, 1 - d],
        log_p=[p, 1 - p],
        log_d_two=[HALF, HALF],
        log_p_two=[QUARTER, 1 - QUARTER],
        share=[HALF],
    )


def two_prompts(d: Any, e: Any) -> dict[str, Any]:
    uniform = [F(1, 3)] * 3
    return dict(
        log_d=[d, HALF - d, HALF],
        log_p=uniform,
        log_d_two=[e, HALF - e, HALF],
        log_p_two=uniform,
        share=[HALF],
    )


def logits(x: Any, y: Any) -> dict[str, Any]:
    return dict(theta=[0, x], theta_prime=[0, y], reward=[0, 1], beta=[1])


def tilted_logits(x: Any, g: Any) -> dict[str, Any]:
    return dict(theta=[0, x], theta_prime=[0, 0], reward=[0, g], beta=[1])


def rl_gradient(p: Any, g: Any) -> dict[str, Any]:
    return dict(
        log_p=[p, 1 - p],
        log_ref=[HALF, HALF],
        reward=[0, g],
        beta=[1],
        log_p_two=[QUARTER, 1 - QUARTER],
        reward_two=[0, 1],
        share=[HALF],
    )


SMALL_REWARDS = "beta -> inf (g -> 0)"
TWO_ATOMS = "two atoms"
EQUAL_LAWS = "p near the tilt"

QUICK = [
    Case(
        "S3",
        "Hoeffding upper bound",
        Box({"t": (F(1, 100), F(99, 100)), "g": (HALF, F(8))}, two_levels),
        f"{SMALL_REWARDS}, settled by its curvature",
        factor=1.02,
    ),
    *(
        Case(
            "S3",
            f"Bennett {side} bound",
            Box(
                {"s": (F(1, 5), F(2, 5)), "t": (F(1, 5), F(2, 5))},
                lambda s, t: three_levels(s, t, F(2)),
            ),
            TWO_ATOMS,
            factor=1.2,
        )
        for side in ("lower", "upper")
    ),
    *(
        Case(
            "S5",
            claim,
            Box({"t": (t, F(9, 10)), "p": (F(1, 20), QUARTER), "k": k}, dual),
            "k = 1, the optimum (slack or rate = k times the optimal one)",
            factor=1.1,
        )
        for claim in ("weak duality", "supporting line")
        for t, k in ((F(3, 10), (F(1, 10), F(4, 5))), (HALF, (F(6, 5), F(7, 5))))
    ),
    Case(
        "S5",
        "Bernoulli bound",
        Box({"s": (F(1, 10), HALF), "w": (F(1, 10), HALF)}, frontier),
        "two reward levels, c -> J(d)",
        factor=1.2,
    ),
    Case(
        "S5",
        "Pinsker bound",
        Box(
            {"t": (F(1, 10), F(9, 10)), "w": (F(1, 10), HALF)},
            lambda t, w: dict(
                log_d=[t, 1 - t], log_p=[HALF, HALF], reward=[0, 1], slack=[w], **A_LINE
            ),
        ),
        "c -> J(d)",
        factor=1.1,
    ),
    Case(
        "R3",
        "the drop inside the ball",
        Box({"a": (F(1, 10), F(9, 10)), "p": (F(1, 10), F(9, 10))}, ball),
        "KL(tilt||ref) - KL(p||ref) < 0.001, next to the surface of the ball",
        inside=0.001,
        factor=2.0,
    ),
    *(
        Case(
            "R4",
            claim,
            Box({"p": (HALF, F(9, 10)), "t": (F(1, 10), F(2, 5))}, changed),
            EQUAL_LAWS,
            factor=1.2,
        )
        for claim in ("Pinsker", "Bretagnolle-Huber", "Bernstein, drops")
    ),
    Case(
        "R4",
        "Bernstein, rises",
        Box({"p": (F(1, 10), F(2, 5)), "t": (HALF, F(9, 10))}, changed),
        EQUAL_LAWS,
        factor=1.2,
    ),
    Case(
        "R4",
        "exact rise",
        Box(
            {"t": (F(1, 10), F(9, 10)), "u": (F(5, 2), F(4))},
            lambda t, u: changed(HALF, t, u),
        ),
        "p = tilt_u",
        factor=1.1,
    ),
    *(
        Case(
            "P1",
            claim,
            Box({"d": (F(1, 20), F(2, 5)), "p": (HALF, F(9, 10))}, sft_gradient),
            "d near p" if claim == "sharper form" else "d near p, settled by convexity",
            factor=2.0,
        )
        for claim in ("PL inequality", "sharper form")
    ),
    Case(
        "P1",
        "two prompts",
        Box({"d": (F(1, 20), F(2, 5)), "e": (F(1, 20), F(2, 5))}, two_prompts),
        "d near p on both prompts",
        factor=2.0,
    ),
    *(
        Case(
            "P2",
            claim,
            Box({"x": (F(-3), -QUARTER), "y": (QUARTER, F(3))}, logits),
            "equal logits",
            factor=1.2,
        )
        for claim in ("moved logits move the law", "near logits, near laws")
    ),
    *(
        Case(
            "P2",
            f"RL raises the SFT loss at {side}",
            Box({"x": (F(-3), F(3)), "g": (HALF, F(4))}, tilted_logits),
            SMALL_REWARDS,
            factor=1.5,
        )
        for side in ("least", "most")
    ),
    *(
        Case(
            "P3",
            claim,
            Box({"p": (F(11, 20), F(9, 10)), "g": (QUARTER, F(3))}, rl_gradient),
            EQUAL_LAWS,
            factor=1.5,
        )
        for claim in ("PL inequality", "moved logits lower J_b")
    ),
]

MANY = {"max_boxes": 100_000}
WIDE = [
    Case(
        "S3",
        "Hoeffding upper bound",
        Box({"t": (F(1, 1000), F(999, 1000)), "g": (QUARTER, F(12))}, two_levels),
        f"{SMALL_REWARDS}, settled by its curvature",
    ),
    *(
        Case(
            "S3",
            f"Bennett {side} bound",
            Box(
                {"s": (F(1, 10), F(2, 5)), "t": (F(1, 10), F(2, 5)), "g": (F(1), F(3))},
                three_levels,
            ),
            f"{TWO_ATOMS}, {SMALL_REWARDS}",
            options=MANY,
        )
        for side in ("lower", "upper")
    ),
    *(
        Case(
            "S5",
            "weak duality",
            Box({"t": (t, F(9, 10)), "p": (F(1, 20), F(2, 5)), "k": k}, dual),
            "k = 1, the optimum (slack = k times the optimal one)",
            options=MANY,
        )
        for t, k in ((F(1, 2), (F(1, 20), F(9, 10))), (F(7, 10), (F(11, 10), F(3, 2))))
    ),
    Case(
        "R3",
        "the drop inside the ball",
        Box({"a": (F(1, 10), F(9, 10)), "p": (F(1, 10), F(9, 10)), "g": (HALF, F(2))}, ball),
        "KL(tilt||ref) - KL(p||ref) < 0.001, next to the surface of the ball",
        inside=0.001,
        options=MANY,
    ),
]


@pytest.mark.certified
@pytest.mark.parametrize("case", [*cases(QUICK), *cases(WIDE, pytest.mark.slow)])
def test_every_world_in_the_box(case, evidence):
    found = case.certificate()
    assert found.status is Status.HOLDS, f"{found}: {found.open}"
    evidence(f"{found}: {case.box}; left out: {case.left_out}")


@pytest.mark.parametrize("case", cases(QUICK))
def test_a_tighter_constant_is_not_certified(case):
    assert case.certificate(tighter=case.factor).status is Status.REFUTED


# --- next to an equality case -------------------------------------------------------------------


@pytest.mark.statement("S3")
@pytest.mark.symbolic
def test_hoeffding_next_to_its_equality_case(evidence):
    """As a function of g the margin vanishes with its slope at 0 and is convex, for every t."""
    odds, g = sp.symbols("odds g", positive=True)
    world = two_levels(odds / (1 + odds), g)
    margin = symbolic_margin(only(catalog.statement("S3"), "Hoeffding upper bound"), world)
    tilted = sp.exp(g) / (odds + sp.exp(g))
    assert vanishes_with_its_slope(margin, g, 0)
    assert_zero(
        sp.diff(margin, g, 2) - (tilted - sp.Rational(1, 2)) ** 2, claim="Hoeffding upper bound"
    )
    evidence("Hoeffding, n = 2, down to g = 0: margin'' = (tilt - 1/2)^2 >= 0 for every t and g")


def next_to_p(p: Any, e: Any) -> dict[str, Any]:
    return sft_gradient(p + e, p)


NEAR_P = Box({"p": (F(1, 10), F(12, 25)), "e": (F(-1, 20), F(1, 20))}, next_to_p)


@pytest.mark.statement("P1")
@pytest.mark.certified
def test_pl_inequality_next_to_its_equality_case(evidence):
    found = certify_convex(catalog.statement("P1"), "PL inequality", NEAR_P, "e", 0)
    assert found.status is Status.HOLDS
    assert found.smallest > 0
    evidence(f"{found}: d = p + e, {NEAR_P}")


def test_what_is_not_convex_is_not_certified():
    """With sixteen times the constant the margin still vanishes at d = p, but curves downward."""
    statement = tightened(catalog.statement("P1"), "PL inequality", 16.0)
    found = certify_convex(statement, "PL inequality", NEAR_P, "e", 0)
    assert found.status is Status.UNDECIDED and "convex" in found.reason


def test_what_is_convex_and_false_is_not_certified():
    """The PL inequality shifted by one fails everywhere, and is as convex as before."""

    class Shifted(catalog.statement("P1")):
        @staticmethod
        def claims(xp, w):
            for claim in catalog.statement("P1").claims(xp, w):
                below = claim.relation == "<="
                yield replace(claim, rhs=claim.rhs + (-1 if below else 1))

    found = certify_convex(Shifted, "PL inequality", NEAR_P, "e", 0)
    assert found.status is Status.UNDECIDED and "vanish" in found.reason


# --- the certificates can fail ------------------------------------------------------------------


def test_a_violation_is_found_with_its_sub_box():
    """R3 without its condition fails for a p beyond the tilt; the sub-box lies there."""
    from nondecoupling.theory.statement import dropping

    free = dropping(catalog.statement("R3"), "conditions")
    box = Box({"a": (F(1, 10), F(9, 10)), "p": (F(1, 10), F(9, 10))}, ball)
    found = certify_box(free, "the drop inside the ball", box)
    assert found.status is Status.REFUTED
    a, p = (sum(found.open[name]) / 2 for name in ("a", "p"))
    assert p < a / (a + (1 - a) * F(27, 10)) or p > a


def test_worlds_outside_the_conditions_are_skipped():
    beyond = Box({"a": (F(1, 5), F(3, 10)), "p": (F(7, 10), F(4, 5))}, ball)
    found = certify_box(catalog.statement("R3"), "the drop inside the ball", beyond)
    assert found.status is Status.OUT_OF_SCOPE
    assert found.skipped == found.boxes


def test_an_equality_inside_the_box_stays_undecided():
    box = Box({"t": (F(1, 10), F(9, 10)), "g": (HALF, F(1))}, two_levels)
    found = certify_box(catalog.statement("S3"), "Bennett upper bound", box, max_boxes=50)
    assert found.status is Status.UNDECIDED


@pytest.mark.parametrize(
    ("parameters", "world", "message"),
    [
        ({"t": (F(1, 5), F(1, 5))}, lambda t: two_levels(t, 1), "empty range"),
        ({"t": (F(0), HALF)}, lambda t: two_levels(t, 1), "leaves its range"),
        (
            {"t": (F(1, 5), HALF)},
            lambda t: dict(log_d=[t, 1 - t * t], reward=[0, 1], beta=[1]),
            "sum to one",
        ),
    ],
)
def test_a_box_of_no_worlds_is_an_error(parameters, world, message):
    with pytest.raises(ValueError, match=message):
        certify_box(catalog.statement("S3"), "Hoeffding upper bound", Box(parameters, world))


def test_identities_are_no_inequalities():
    box = Box({"w": (F(1, 5), HALF)}, lambda w: frontier(F(1, 4), w))
    with pytest.raises(ValueError, match="no inequality"):
        certify_box(catalog.statement("S5"), "the frontier is attained", box)
