"""F4, chain rule: derivation, drawn trees, equality case, and the check can fail."""

from fractions import Fraction
from itertools import product

import flint
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nondecoupling import bounds
from nondecoupling.deciding.certify import decide
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import kl_by_definition, kl_divergence
from nondecoupling.formulas.trees import TokenTree, token_kl_at, token_kl_divergence
from nondecoupling.numbers.arb import arb
from nondecoupling.policies import AutoregressivePolicy
from nondecoupling.testing import assert_holds, values, worlds
from nondecoupling.theory.fields import Law
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.f4_chain_rule import ChainRule
from proofs.checks import (
    assert_attained,
    assert_in_all,
    assert_refuted,
    assert_survives,
    assert_tightened_fails,
    exact_world,
    tightness_line,
)
from proofs.elementary import tangent_of_exp
from proofs.symbolic import assert_identity, assert_margin

pytestmark = pytest.mark.statement("F4")
SHARE = "the first token's share"


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    evidence(assert_identity(ChainRule, "sum over tokens", responses))

    def later_tokens(xp, w):
        later = TokenTree.balanced(responses).nodes[1:]
        return xp.array([0]) + token_kl_divergence(xp, w.log_p, w.log_q, later)

    evidence(assert_margin(ChainRule, SHARE, responses, later_tokens, "the later tokens' share"))
    evidence(f"nonnegative by {tangent_of_exp()}")


@pytest.mark.sampled
@given(worlds(ChainRule))
def test_drawn_worlds(world):
    assert_holds(ChainRule, world)


@st.composite
def pairs_of_token_laws(draw):
    """Two policies with token laws on one random tree: up to three tokens, up to depth three."""

    def grow(prefix, depth):
        tokens = draw(st.integers(1, 3))
        laws[prefix] = draw(values(Law(), tokens)), draw(values(Law(), tokens))
        for token in range(tokens):
            if depth > 1 and draw(st.booleans()):
                grow((*prefix, token), depth - 1)

    laws: dict = {}
    grow((), 3)
    return laws


@pytest.mark.sampled
@given(pairs_of_token_laws())
def test_token_laws_on_drawn_trees(laws):
    """Built from token laws: E_p of the tokens' divergences is the sequences' divergence."""
    with flint.ctx.workprec(256):
        assert_chain_rule(laws)


def assert_chain_rule(laws):
    xp = arb()

    def logs(values):
        return xp.log(xp.array(list(values)))

    sequences = _sequences(laws, ())
    mass = [[_mass(laws, s, policy) for s in sequences] for policy in (0, 1)]
    whole = kl_by_definition(xp, logs(mass[0]), logs(mass[1]))
    by_token = xp.array([0])
    for prefix, (p, q) in laws.items():
        if (reached := _mass(laws, prefix, 0)) > 0:
            by_token = by_token + xp.array([reached]) * kl_divergence(xp, logs(p), logs(q))
    nodes = TokenTree(tuple(sequences)).nodes
    from_sequences = token_kl_divergence(xp, logs(mass[0]), logs(mass[1]), nodes)
    for name, side in (("token laws", by_token), ("sequence laws", from_sequences)):
        holds = decide("F4", Claim(name, whole, "==", side)).status is Status.HOLDS
        assert_in_all(np.array([holds]), f"sum over tokens, from {name}")


def _sequences(laws, prefix):
    if prefix not in laws:
        return [prefix]
    tokens = range(len(laws[prefix][0]))
    return [leaf for token in tokens for leaf in _sequences(laws, (*prefix, token))]


def _mass(laws, sequence, policy):
    steps = (laws[sequence[:k]][policy][token] for k, token in enumerate(sequence))
    return Fraction(np.prod(list(steps), initial=Fraction(1)))


def test_policies_agree_token_by_token_and_as_sequences():
    """The floating-point policies: both ways of computing the divergence, batched."""
    rng = np.random.default_rng(0)
    prefixes = [(), (0,), (2,), (2, 1)]

    def draw():
        return AutoregressivePolicy(
            {prefix: np.log(rng.dirichlet(np.ones(3), size=5)) for prefix in prefixes}
        )

    p, q = draw(), draw()
    assert len(p.tree.sequences) == 1 + 3 * 3 - 1
    as_sequences = bounds.kl_divergence(p.sequence_law(), q.sequence_law())
    np.testing.assert_allclose(p.kl_divergence(q), as_sequences, rtol=1e-13)
    by_tree = bounds.token_kl_divergence(p.sequence_law(), q.sequence_law(), p.tree)
    np.testing.assert_allclose(by_tree, as_sequences, rtol=1e-13)


@pytest.mark.certified
def test_the_share_is_the_whole_iff_later_tokens_agree(evidence):
    agree = exact_world(log_p="1/8 3/8 1/4 1/4", log_q="1/16 3/16 3/8 3/8")
    assert_attained(ChainRule, SHARE, agree)
    differ = exact_world(log_p="1/8 3/8 1/4 1/4", log_q="1/16 3/16 1/4 1/2")
    (verdict,) = [v for v in assert_holds(ChainRule, differ) if v.claim == SHARE]
    assert verdict.margin > 0
    evidence("strict where a later token's law differs")


@pytest.mark.attacked
def test_attack(evidence):
    (result,) = assert_survives(ChainRule, SHARE, responses=4)
    assert result.tightness > 0.99
    evidence(tightness_line(result))


def test_one_percent_tighter_is_refuted():
    assert_tightened_fails(ChainRule, SHARE, 1.01, responses=4)


def test_the_expectation_must_be_under_the_first_argument():
    """With prefixes weighted by q instead of p the sum over tokens is another number."""
    xp = arb()
    log_p, log_q = (xp.log(xp.array(x)) for x in (product_law(1, 3), product_law(3, 1)))
    first, *later = TokenTree.balanced(4).nodes
    by_q = token_kl_at(xp, log_p, log_q, first)
    for node in later:
        by_p = token_kl_at(xp, log_p, log_q, node)
        leaves = [leaf for child in node for leaf in child]
        ratio = sum(log_q[leaf].exp() for leaf in leaves) / sum(
            log_p[leaf].exp() for leaf in leaves
        )
        by_q = by_q + by_p * ratio
    claim = Claim("weighted by q", kl_by_definition(xp, log_p, log_q), "==", by_q)
    assert_refuted("F4", claim)


def product_law(a, b):
    """First token (a, b)/(a + b), the second uniform after 0 and (a, b)/(a + b) after 1."""
    first = (Fraction(a, a + b), Fraction(b, a + b))
    second = ((Fraction(1, 2), Fraction(1, 2)), first)
    return [first[i] * second[i][j] for i, j in product((0, 1), repeat=2)]
