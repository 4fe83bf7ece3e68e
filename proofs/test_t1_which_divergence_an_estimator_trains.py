"""T1, which divergence a KL estimator trains: derivations, drawn worlds, torch's gradients, guards."""

from collections.abc import Iterator

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given

from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.deciding.sampling import check_arguments
from nondecoupling.formulas.laws import expectation
from nondecoupling.formulas.trainers import (
    group_pull,
    k2,
    k3,
    leave_one_out,
    minus_group_mean,
    pull_in_reward,
    pull_of_reward,
    slope_of,
)
from nondecoupling.formulas.trees import columns
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t1_which_divergence_an_estimator_trains import (
    EstimatorsAndDivergences,
)
from proofs.symbolic import assert_identity, assert_zero, normal_form, symbolic_world

pytestmark = pytest.mark.statement("T1")
MISREAD = "k3 in the loss trains KL(p||ref)"
IDENTITIES = [
    "k1 in the loss trains nothing",
    "k2 in the loss trains KL(p||ref)",
    "k3 in the loss trains KL(ref||p)",
    "k1 in the reward trains KL(p||ref)",
    "k2 in the reward trains E_p[u^2/2 - u]",
    "k3 in the reward trains KL(p||ref) - KL(ref||p)",
    "k1 with the ratio trains KL(p||ref)",
    "k2 with the ratio trains E_p[u^2/2]",
    "k3 with the ratio trains KL(p||ref)",
]


@pytest.mark.symbolic
@pytest.mark.parametrize("name", IDENTITIES)
def test_derivation(name, evidence):
    for responses in (2, 3):
        evidence(assert_identity(EstimatorsAndDivergences, name, responses))


@pytest.mark.symbolic
def test_any_penalty(evidence):
    """grad E_p f(u) = E_p[(f + f') grad log p] for any f: what all lines but the baselines rest on."""
    p, ref = sp.symbols("p q", positive=True)
    f = sp.Function("f")
    u = sp.log(p / ref)
    slope = sp.diff(p * f(u), p) * p  # one response's part, along its own logit: dp = p grad log p
    x = sp.Symbol("x")
    expected = p * (f(u) + sp.diff(f(x), x).subs(x, u))
    assert_zero(sp.simplify(slope.doit() - expected.doit()))
    evidence("grad E_p f(u) = E_p[(f + f') grad log p] for every f")


@pytest.mark.symbolic
@pytest.mark.parametrize("size", [2, 3, 4])
def test_baselines(size, evidence):
    """Two responses, every group of G: leaving one out is exact, the group's mean shrinks by (G-1)/G."""
    xp, w = sympy_numbers(), symbolic_world(EstimatorsAndDivergences, 2)
    whole = pull_of_reward(xp, w.log_p, w.reward, w.direction)
    for advantage, factor in ((leave_one_out, 1), (minus_group_mean, sp.Rational(size - 1, size))):
        of_groups = group_pull(xp, w.log_p, columns(xp, w.reward), w.direction, size, advantage)
        assert_zero(normal_form((of_groups - factor * whole).flat[0]))
    evidence(f"baselines, every group of {size}")


@pytest.mark.sampled
@given(worlds(EstimatorsAndDivergences))
def test_drawn_worlds(world):
    assert_holds(EstimatorsAndDivergences, world)


def test_torch_agrees_with_the_estimators_as_they_are_programmed(evidence):
    """Losses as trainers write them, differentiated by torch, averaged over all responses."""
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for _ in range(20):
        logits, ref = torch.randn(2, 5, dtype=torch.float64, generator=generator)
        ref = torch.log_softmax(ref, -1)

        def gradient(loss, logits=logits):
            theta = logits.clone().requires_grad_()
            return torch.autograd.grad(loss(torch.log_softmax(theta, -1)), theta)[0]

        def reverse(log_p, ref=ref):
            return (log_p.exp() * (log_p - ref)).sum()

        def forward(log_p, ref=ref):
            return (ref.exp() * (ref - log_p)).sum()

        def k3_in_loss(log_p, ref=ref):
            return (log_p.exp().detach() * ((ref - log_p).exp() - 1 + log_p - ref)).sum()

        def k3_with_ratio(log_p, ref=ref):
            ratio = (log_p - log_p.detach()).exp()
            return (log_p.exp().detach() * ratio * ((ref - log_p).exp() - 1 + log_p - ref)).sum()

        def k1_in_reward(log_p, ref=ref):
            return (log_p.exp().detach() * (log_p - ref).detach() * log_p).sum()

        for loss, objective in (
            (k3_in_loss, forward),
            (k3_with_ratio, reverse),
            (k1_in_reward, reverse),
        ):
            ours, theirs = gradient(objective), gradient(loss)
            worst = max(worst, float((ours - theirs).abs().max()))
        assert not torch.allclose(gradient(k3_in_loss), gradient(reverse), rtol=0.1)
    assert worst < 1e-14
    evidence(f"torch's gradients of the programmed losses: within {worst:.0e}")


@pytest.mark.certified
def test_k3_in_the_loss_is_not_the_kl_that_it_estimates(evidence, capsys):
    witness = smallest_witness(EstimatorsAndDivergences, MISREAD)
    assert witness is not None and len(witness.values["log_p"]) == 2
    evidence(f"k3 in the loss does not train KL(p||ref): {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, k3 in the loss: {witness}")


# --- the checks can fail ----------------------------------------------------------------------


def test_k2_in_the_reward_without_minus_u_is_refuted():
    class WithoutMinusU(EstimatorsAndDivergences):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            def mean_square(xp, log_p):
                return expectation(xp, log_p, k2(xp, log_p - w.log_ref))

            pull = pull_in_reward(xp, k2, w.log_p, w.log_ref, w.direction)
            objective = slope_of(xp, mean_square, w.log_p, w.direction)
            yield Claim("E_p[u^2/2]", pull, "==", objective)

    assert smallest_witness(WithoutMinusU, "E_p[u^2/2]") is not None


def test_a_group_mean_that_does_not_shrink_is_refuted():
    class Unshrunk(EstimatorsAndDivergences):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            mean = group_pull(xp, w.log_p, columns(xp, w.reward), w.direction, 2, minus_group_mean)
            whole = pull_of_reward(xp, w.log_p, w.reward, w.direction)
            yield Claim("unshrunk", mean, "==", whole)

    assert smallest_witness(Unshrunk, "unshrunk") is not None


def test_k3_in_the_reward_is_not_the_kl_that_it_estimates():
    class Misread(EstimatorsAndDivergences):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            found = {c.name: c for c in EstimatorsAndDivergences.claims(xp, w)}
            pull = pull_in_reward(xp, k3, w.log_p, w.log_ref, w.direction)
            rhs = found["k1 in the reward trains KL(p||ref)"].rhs
            yield Claim("KL(p||ref)", pull, "==", rhs)

    assert smallest_witness(Misread, "KL(p||ref)") is not None


def test_half_a_percent_off_is_seen_in_floats():
    """The drawn worlds tell a constant that is wrong by half a percent."""
    rng = np.random.default_rng(0)
    log_p, log_ref = (np.log(rng.dirichlet(np.ones(3))) for _ in range(2))

    class Off(EstimatorsAndDivergences):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            for claim in EstimatorsAndDivergences.claims(xp, w):
                if claim.name == "k3 in the loss trains KL(ref||p)":
                    yield Claim(claim.name, claim.lhs, "==", 1.005 * claim.rhs)

    world = dict(log_p=log_p, log_ref=log_ref, reward=np.zeros(3), direction=rng.normal(size=3))
    (result,) = check_arguments(Off, {name: x[None] for name, x in world.items()})
    assert result.violated.all()
