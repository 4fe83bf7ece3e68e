"""T3, leashes per token: derivations, trees of other shapes, flows run to their end, the soft value refuted."""

from collections.abc import Iterator

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.formulas.token_leashes import (
    along_path,
    token_laws,
    token_penalty_pull,
    token_reward_pull,
)
from nondecoupling.formulas.trainers import k2, k3
from nondecoupling.formulas.trees import TokenTree, columns
from nondecoupling.numbers.floats import floats_of
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t3_leashes_per_token import LeashesPerToken
from proofs.symbolic import assert_zero, normal_form

pytestmark = pytest.mark.statement("T3")
K2_STOPS, K3_STOPS = (
    "k2 stops where r = beta sum (u - KL)",
    "k3 stops where r = beta sum (1 - ref/p)",
)
RATIO, HARD = "k3 with the token's ratio pulls as k2", "k3 has the hard value"
FOUND, TILT = "backward induction finds where k2 stops", "k2 per token ends at the sequence tilt"
XP = floats_of(np.zeros(1))
TREES = {
    "end or go on": TokenTree(((0,), (1, 0), (1, 1, 0), (1, 1, 1))),
    "three tokens": TokenTree(((0,), (1,), (2, 0), (2, 1), (2, 2))),
    "two tokens": TokenTree(((0, 0), (0, 1), (1, 0), (1, 1))),
    "a forced token": TokenTree(((0,), (1, 0, 0), (1, 0, 1))),
}


def symbolic_tokens(letter, nodes):
    """Free token laws at every node, as log-probabilities."""
    xp, laws = sympy_numbers(), []
    for index, node in enumerate(nodes):
        free = sp.symbols(f"{letter}{index}_1:{len(node)}", positive=True)
        laws.append([xp.log(xp.array([x])) for x in (*free, 1 - sum(free))])
    return laws


@pytest.mark.symbolic
@pytest.mark.parametrize("name", [K2_STOPS, K3_STOPS, RATIO])
@pytest.mark.parametrize("tree", ["end or go on", "three tokens"])
def test_derivation(name, tree, evidence):
    """Free token laws of p and ref, every direction: the expected gradients cancel, or agree."""
    xp, nodes = sympy_numbers(), TREES[tree].nodes
    n = len(TREES[tree].sequences)
    beta = sp.Symbol("beta", positive=True)
    laws, ref = symbolic_tokens("p", nodes), symbolic_tokens("q", nodes)
    direction = xp.array(sp.symbols(f"g1:{n + 1}", real=True))
    if name == RATIO:
        pulls = [
            token_penalty_pull(xp, k, laws, ref, nodes, direction, ratio=k is k3) for k in (k2, k3)
        ]
        difference = pulls[0] - pulls[1]
    else:
        k, of_token = (k2, []) if name == K2_STOPS else (k3, [])
        for law, token_ref in zip(laws, ref, strict=True):
            u = [x - y for x, y in zip(law, token_ref, strict=True)]
            kl = sum(xp.exp(x) * y for x, y in zip(law, u, strict=True))
            of_token.append([y - kl if k is k2 else 1 - xp.exp(-y) for y in u])
        reward = [beta * sum(along_path(nodes, of_token, leaf)) for leaf in range(n)]
        gain = token_reward_pull(xp, laws, nodes, direction, reward)
        difference = gain - beta * token_penalty_pull(xp, k, laws, ref, nodes, direction)
    assert_zero(normal_form(difference.flat[0]))
    evidence(f"{name}: {tree}")


@pytest.mark.symbolic
def test_one_prefix(evidence):
    """At a prefix, term by term: r = Q stands for what follows, and P s sums to zero over the tokens."""
    p, q, beta = sp.symbols("P q beta", positive=True)
    score, value = sp.symbols("s V", real=True)
    u = sp.log(p / q)
    for name, reward, pull in (
        ("k2", value + beta * u, u),  # p prop. to q e^{Q/beta}
        ("k3", value + beta * (1 - q / p), 1 - q / p),  # p = beta q/(V + beta - Q)
    ):
        part = p * score * (reward - beta * pull)
        assert_zero(sp.simplify(part - p * score * value))
        evidence(f"{name}: stationary at every prefix, for any number of tokens")


@pytest.mark.symbolic
def test_one_prefix_has_one_stationary_law(evidence):
    """With Q fixed, stationarity says r_i + beta f(p_i) = mu with f strictly monotone: one mu fits."""
    p, q = sp.symbols("p q", positive=True)
    for name, f, slope in (("k2", -sp.log(p / q), -1 / p), ("k3", q / p, -q / p**2)):
        assert_zero(sp.diff(f, p) - slope)
        assert slope.is_negative
        evidence(f"{name}: each p falls in mu, so one mu makes the token law sum to one")
    evidence("last tokens have fixed Q; going back, every Q is fixed by what was settled before")


@pytest.mark.sampled
@given(worlds(LeashesPerToken))
def test_drawn_worlds(world):
    assert_holds(LeashesPerToken, world)


@pytest.mark.certified
def test_the_token_leash_does_not_end_at_the_tilt(evidence, capsys):
    """With one token there is no difference; three sequences suffice."""
    witness = smallest_witness(LeashesPerToken, TILT)
    assert witness is not None and len(witness.values["log_ref"]) == 3
    evidence(f"not the sequence tilt: {witness}")
    with capsys.disabled():
        print(f"\nsmallest witness, a token leash away from the tilt: {witness}")


def drawn(rng, tree):
    n = len(tree.sequences)
    log_ref, start = np.log(rng.dirichlet(2 * np.ones(n), size=2))
    return log_ref, start, rng.normal(size=n), float(rng.uniform(0.4, 1.0))


def along(tree, tokens):
    """The sum over each sequence's tokens, from one tensor per node with an entry per next token."""
    totals = [torch.zeros((), dtype=torch.float64)] * len(tree.sequences)
    for node, values in zip(tree.nodes, tokens, strict=True):
        for leaves, value in zip(node, values, strict=True):
            for leaf in leaves:
                totals[leaf] = totals[leaf] + value
    return torch.stack(totals)


def penalty(leash, token, held, ref):
    """One token's term of the loss as trainers write it; ``held`` is its log-probability when sampled."""
    u = token - ref
    estimate = u**2 / 2 if leash == "k2" else torch.exp(-u) - 1 + u
    return torch.exp(token - held) * estimate if leash == "k3 with ratio" else estimate


def end_of_flow(tree, leash, log_ref, start, reward, beta, *, steps=1500, rate=0.3):
    """Torch's expected gradient in the token logits, preconditioned by Fisher at each prefix."""
    laws = [
        [torch.tensor([x.item() for x in law], dtype=torch.float64) for law in of_law]
        for of_law in (
            token_laws(XP, columns(XP, log_p[None]), tree.nodes) for log_p in (log_ref, start)
        )
    ]
    ref, theta = laws
    rewards = torch.tensor(reward)
    for _ in range(steps):
        theta = [torch.log_softmax(t.detach(), 0).requires_grad_() for t in theta]
        tokens = [torch.log_softmax(t, 0) for t in theta]
        held = [t.detach() for t in tokens]
        probability = torch.exp(along(tree, held))
        terms = [penalty(leash, *x) for x in zip(tokens, held, ref, strict=True)]
        gain = probability @ (rewards * along(tree, tokens) - beta * along(tree, terms))
        gradients = torch.autograd.grad(gain, theta)
        moves = []
        for node, law, gradient in zip(tree.nodes, held, gradients, strict=True):
            reached = sum(probability[leaf] for leaves in node for leaf in leaves)
            natural = gradient / (reached * law.exp())
            moves.append(natural - law.exp() @ natural)
        fastest = max(float(m.abs().max()) for m in moves)
        theta = [
            t.detach() + rate * m / (1 + rate * fastest) for t, m in zip(theta, moves, strict=True)
        ]
        if fastest < 1e-12:
            break
    return along(tree, [torch.log_softmax(t.detach(), 0) for t in theta]).numpy()


@pytest.mark.parametrize("leash", ["k2", "k3", "k3 with ratio"])
def test_flows_end_at_the_closed_form(leash, evidence):
    """On four trees, from ref and from a random start: one limit, where ``per_token_optimum`` says."""
    rng, worst, nearest = np.random.default_rng(5), 0.0, np.inf
    for tree in TREES.values():
        log_ref, start, reward, beta = drawn(rng, tree)
        law = bounds.per_token_optimum(
            log_ref, reward, beta, tree, leash[:2] if leash == "k3" else "k2"
        )
        for begin in (log_ref, start):
            end = end_of_flow(tree, leash, log_ref, begin, reward, beta)
            worst = max(worst, float(np.abs(end - law).max()))
        other = bounds.per_token_optimum(
            log_ref, reward, beta, tree, "k2" if leash == "k3" else "k3"
        )
        nearest = min(nearest, float(np.abs(other - law).max()))
    assert worst < 1e-9 < 1e-3 < nearest  # and the other leash's end is told apart
    evidence(f"{leash} per token: 8 flows on 4 trees end within {worst:.0e} of the closed form")


def test_how_far_the_tilt_is(evidence):
    """Equal at the last token; before, the two-token world of the page is 0.17 away in probability."""
    tree = TREES["two tokens"]
    rng, farthest = np.random.default_rng(6), 0.0
    for _ in range(500):
        log_ref, _, reward, _ = drawn(rng, tree)
        beta = 10 ** rng.uniform(-1, 1)
        tilt = bounds.gibbs_tilt(log_ref, reward, beta)
        token = bounds.per_token_optimum(log_ref, reward, beta, tree, "k2")
        for pair in ((0, 1), (2, 3)):  # the last token's odds
            odds = [law[pair[0]] - law[pair[1]] for law in (tilt, token)]
            assert odds[0] == pytest.approx(odds[1], rel=1e-9, abs=1e-9)
        first = [np.exp(np.logaddexp(law[0], law[1])) for law in (tilt, token)]
        farthest = max(farthest, abs(first[0] - first[1]))
    assert farthest > 0.17
    evidence(
        f"first token: up to {farthest:.2f} in probability from the tilt in 500 two-token worlds"
    )


# --- the checks can fail ----------------------------------------------------------------------


def test_the_soft_value_in_place_of_the_hard_one_is_refuted(evidence):
    """Backward induction with soft values gives the sequence tilt, where the token leash does not stop."""

    class Soft(LeashesPerToken):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            nodes = TokenTree.balanced(w.log_p.shape[-1]).nodes
            tilt = columns(xp, gibbs_tilt(xp, w.log_ref, w.reward, w.beta))
            laws, ref = (token_laws(xp, x, nodes) for x in (tilt, columns(xp, w.log_ref)))
            gain = token_reward_pull(xp, laws, nodes, w.direction, columns(xp, w.reward))
            leash = token_penalty_pull(xp, k2, laws, ref, nodes, w.direction)
            yield Claim("stops", gain, "==", w.beta * leash)

    witness = smallest_witness(Soft, "stops")
    assert witness is not None and len(witness.values["log_ref"]) == 3
    evidence(f"with soft values it is false: {witness}")


def test_k3_without_the_ratio_does_not_pull_as_k2():
    class WithoutRatio(LeashesPerToken):
        @staticmethod
        def claims(xp, w) -> Iterator[Claim]:
            nodes = TokenTree.balanced(w.log_p.shape[-1]).nodes
            laws, ref = (token_laws(xp, columns(xp, x), nodes) for x in (w.log_p, w.log_ref))
            pulls = [token_penalty_pull(xp, k, laws, ref, nodes, w.direction) for k in (k2, k3)]
            yield Claim("same pull", pulls[0], "==", pulls[1])

    assert smallest_witness(WithoutRatio, "same pull") is not None


def test_a_flow_towards_the_tilt_would_be_seen():
    """The tolerance of the flows is far below the distance to the tilt."""
    rng = np.random.default_rng(5)
    for name, tree in TREES.items():
        log_ref, _, reward, beta = drawn(rng, tree)
        law = bounds.per_token_optimum(log_ref, reward, beta, tree, "k2")
        assert np.abs(law - bounds.gibbs_tilt(log_ref, reward, beta)).max() > 1e-3, name
