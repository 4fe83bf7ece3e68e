"""T5, tilts compose: derivations, drawn worlds, runs in a row, and the check can fail."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given

from nondecoupling import bounds
from nondecoupling.deciding.attack import smallest_witness
from nondecoupling.deciding.certify import certify
from nondecoupling.deciding.verdict import Status
from nondecoupling.formulas.laws import cross_entropy, log_softmax
from nondecoupling.formulas.tilt import gibbs_tilt
from nondecoupling.numbers.symbolic import sympy_numbers
from nondecoupling.policies import from_logits
from nondecoupling.testing import assert_holds, worlds
from nondecoupling.theory.statement import Claim
from nondecoupling.theory.theorems.t5_tilts_compose import TiltsCompose, compositions
from proofs.checks import assert_in_all, exact_world
from proofs.symbolic import (
    assert_identity,
    assert_zero,
    symbolic_world,
)

pytestmark = pytest.mark.statement("T5")
TWO, THREE = "two tilts are one", "three runs at beta are one at beta/3"
MIXTURE, PER_TOKEN = "geometric mixture", "per-token temperature"
COLD, HOT = "temperature below one", "temperature above one"
TREE = dict(first="1/2", log_next="1/2 1/2", log_next_two="1/4 3/4")


@pytest.mark.symbolic
@pytest.mark.parametrize("responses", [2, 3, 4])
def test_derivation(responses, evidence):
    """Both sides are normalised, so they are equal iff all their log-ratios are."""
    w = symbolic_world(TiltsCompose, responses)
    names = []
    for name, one, other in compositions(sympy_numbers(), w):
        for y in range(1, responses):
            difference = (one[y] - one[0]) - (other[y] - other[0])
            assert_zero(sp.expand_log(difference, force=True), claim=name)
        names.append(name)
    assert names == [TWO, THREE, MIXTURE, COLD, HOT]
    evidence(f"all log-ratios of {', '.join(names)}, n = {responses}")


@pytest.mark.symbolic
@pytest.mark.parametrize("name", [TWO, THREE])
def test_derivation_as_claimed(name, evidence):
    evidence(assert_identity(TiltsCompose, name, 2))


@pytest.mark.symbolic
def test_any_number_of_runs(evidence):
    """By induction: tilt_s after tilt_{ks} is tilt_{(k+1)s}, at a symbolic k."""
    xp = sympy_numbers()
    k, s = sp.symbols("k s", positive=True)
    p, growth = sp.Symbol("p", positive=True), sp.Symbol("e", positive=True)
    log_ref, reward = xp.log(xp.array([p, 1 - p])), xp.array([0, sp.log(growth)])
    before = gibbs_tilt(xp, log_ref, reward, xp.array([1 / (k * s)]))
    after = gibbs_tilt(xp, before, reward, xp.array([1 / s]))
    direct = gibbs_tilt(xp, log_ref, reward, xp.array([1 / ((k + 1) * s)]))
    ratios = [x[1] - x[0] for x in (after, direct)]
    assert_zero(ratios[0] - ratios[1], claim=TWO)
    evidence("induction on the number of runs: the log-odds add s r each, n = 2")


@pytest.mark.sampled
@given(worlds(TiltsCompose))
def test_drawn_worlds(world):
    assert_holds(TiltsCompose, world)


@pytest.mark.sampled
def test_runs_by_gradient_with_the_reference_reset(evidence):
    """Four runs of natural gradient on J_b, each to its end, end where one at beta/4 ends."""
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(10):
        log_ref, reward = from_logits(rng.standard_normal(4)), rng.standard_normal(4)
        beta, policy = float(rng.uniform(0.5, 3)), log_ref
        for _ in range(4):
            start = policy
            for _ in range(60):
                # The natural gradient of J_b in the logits is r - beta log(p/ref), up to a constant.
                policy = from_logits(policy + 0.5 / beta * (reward - beta * (policy - start)))
        once = bounds.gibbs_tilt(log_ref, reward, beta / 4)
        worst = max(worst, float(np.abs(policy - once).max()))
    assert_in_all(worst < 1e-9, "runs in a row")
    evidence(
        f"10 worlds, four runs to the end by natural gradient: within {worst:.1e} of one run at beta/4"
    )


@pytest.mark.certified
def test_search_refutes_per_token_temperature(evidence, capsys):
    witness = smallest_witness(TiltsCompose, PER_TOKEN)
    assert witness is not None
    keys = ("share", "first", "log_next", "log_next_two")
    shown = type(witness)({key: witness.values[key] for key in keys})
    evidence(f"per-token temperature is another law at {shown}")
    with capsys.disabled():
        print(f"\nsmallest witness, per-token temperature: {shown} (share is the temperature)")


@pytest.mark.sampled
def test_both_ways_of_sampling_by_enumeration():
    """Six sequences of two tokens: temperature on each token against temperature on the sequence."""
    first, nexts = np.array([0.5, 0.5]), np.array([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]])
    temperature = 0.5

    def sharpened(p):
        q = p ** (1 / temperature)
        return q / q.sum(axis=-1, keepdims=True)

    sequences = first[:, None] * nexts
    by_sequence = sharpened(sequences.reshape(-1)).reshape(2, 3)
    by_token = sharpened(first)[:, None] * sharpened(nexts)
    log_p = np.log(sequences.reshape(-1))
    tilt = bounds.gibbs_tilt(log_p, log_p, temperature / (1 - temperature))
    assert_in_all(np.isclose(np.exp(tilt), by_sequence.reshape(-1), rtol=1e-13), COLD)
    assert np.abs(by_token - by_sequence).max() > 0.05
    equally_sharp = first[:, None] * np.stack([nexts[0], nexts[0][::-1]])
    alike = sharpened(first)[:, None] * sharpened(equally_sharp / first[:, None])
    np.testing.assert_allclose(alike.reshape(-1), sharpened(equally_sharp.reshape(-1)), rtol=1e-13)


@pytest.mark.certified
def test_per_token_temperature_agrees_where_the_next_laws_are_equally_sharp():
    world = exact_world(
        log_law="1/2 1/2", log_ref="1/3 2/3", reward="0 1", beta="1", beta_two="2", share="1/2",
        **dict(TREE, log_next="3/4 1/4"),
    )  # fmt: skip
    (verdict,) = [v for v in certify(TiltsCompose, world) if v.claim == PER_TOKEN]
    assert verdict.status is Status.HOLDS


# --- the checks can fail ----------------------------------------------------------------------


WRONG = {
    "the harmonic rule forgotten": lambda xp, w, tilt: (
        gibbs_tilt(xp, tilt, w.reward, w.beta_two),
        gibbs_tilt(xp, w.log_ref, w.reward, w.beta + w.beta_two),
    ),
    "three runs taken for two": lambda xp, w, tilt: (
        gibbs_tilt(xp, gibbs_tilt(xp, tilt, w.reward, w.beta), w.reward, w.beta),
        gibbs_tilt(xp, w.log_ref, w.reward, w.beta / 2),
    ),
    "the mixture's share inverted": lambda xp, w, tilt: (
        log_softmax(xp, (1 - w.share) * w.log_ref + w.share * tilt),
        gibbs_tilt(xp, w.log_ref, w.reward, w.beta * w.share),
    ),
    "the arithmetic mixture": lambda xp, w, tilt: (
        xp.log((1 - w.share) * xp.exp(w.log_ref) + w.share * xp.exp(tilt)),
        gibbs_tilt(xp, w.log_ref, w.reward, w.beta / w.share),
    ),
    "temperature taken for time": lambda xp, w, tilt: (
        log_softmax(xp, w.log_ref / w.share),
        gibbs_tilt(xp, w.log_ref, w.log_ref, w.share),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_composition_is_refuted(name):
    class Wrong(TiltsCompose):
        @staticmethod
        def claims(xp, w):
            tilt = gibbs_tilt(xp, w.log_ref, w.reward, w.beta)
            one, other = WRONG[name](xp, w, tilt)
            left, right = (cross_entropy(xp, w.log_law, policy) for policy in (one, other))
            yield Claim(name, left, "==", right)

    assert smallest_witness(Wrong, name) is not None
