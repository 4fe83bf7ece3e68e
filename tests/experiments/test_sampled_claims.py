"""The statements' margins on simulated worlds whose truth is known: wrong verdicts are as rare as they must be.

Each world has three kinds of prompts with random laws d, ref and p over four responses, all of them listed, of one
token each. So every quantity has an exact value, and a simulated run measures it as a real one would.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy import stats
from validate.sampled import claims as claims_module
from validate.sampled.claims import (
    SELF_TEST,
    THEOREM,
    Evidence,
    World,
    claims_of,
    finding_at_the_optimum,
    findings_of_rl,
    findings_of_sft,
)
from validate.sampled.landscape import landscape_of, predicted
from validate.sampled.measuring import Measurement
from validate.sampled.rewards import Reward, strict

from nondecoupling import bounds
from nondecoupling.estimate import Outcome, bootstrap_intervals, decide

WORLDS, DELTA, LEVEL = 300, 0.1, 1e-3
KINDS, RESPONSES, PILOT, PROMPTS, DRAWS, BETA = 3, 4, 40, 80, 6, 0.4


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """Enough for the coverage of hundreds of worlds; a report takes the default."""
    few = partial(bootstrap_intervals, resamples=300)
    monkeypatch.setattr(claims_module, "bootstrap_intervals", few)


class Simulated:
    """Laws of the three kinds, and runs sampled from them."""

    def __init__(self, seed, self_distilled=False):
        self.rng = np.random.default_rng(seed)
        shape = (3, KINDS)
        laws = self.rng.dirichlet(np.full(RESPONSES, 1.5), size=shape) * 0.96 + 0.01
        self.d, self.ref, self.p = np.log(laws)
        self.sampler = self.p
        if self_distilled:
            self.d = self.ref
        self.reward = self.rng.integers(0, 2, size=(KINDS, RESPONSES)).astype(float)
        self.reward[:, 0], self.reward[:, 1] = 0.0, 1.0
        self.self_distilled = self_distilled

    def run(self):
        """Pilot and test evidence."""
        kind = self.rng.integers(KINDS, size=PILOT + PROMPTS)
        world = World(
            self.d[kind], self.reward[kind], Reward("strict", strict), BETA, self.self_distilled
        )
        ref_draws, p_draws = (self._draw(law[kind]) for law in (self.ref, self.sampler))
        ref = self._measured(kind, self.ref, ref_draws, ref_draws)
        policy = self._measured(kind, self.p, p_draws, ref_draws)
        whole = Evidence(world, ref, policy)
        return whole.part(0, PILOT), whole.part(PILOT, None)

    def _draw(self, log_law):
        u = self.rng.random((len(log_law), DRAWS, 1))
        return (u > np.cumsum(np.exp(log_law), axis=1)[:, None]).sum(-1).clip(max=RESPONSES - 1)

    def _measured(self, kind, law, own, of_ref):
        def at(values, index):
            return np.take_along_axis(values[kind], index, axis=1)

        kl = bounds.kl_divergence(law, self.ref)[kind, None]
        back = bounds.kl_divergence(self.ref, law)[kind, None]
        arrays = {
            "rewards": at(self.reward, own),
            "robust": at(self.reward, own),
            "lengths": np.ones_like(own),
            "log_p": at(law, own),
            "log_ref": at(self.ref, own),
            "kl": np.broadcast_to(kl, own.shape),
            "back_log_p": at(law, of_ref),
            "back_log_ref": at(self.ref, of_ref),
            "back_kl": np.broadcast_to(back, own.shape),
            "expert_log_p": law[kind],
            "listed": own,
        }
        return Measurement(arrays, [[]] * len(kind))

    def truth(self, claim, pilot):
        """lhs - rhs of a claim, exactly."""
        j, kl = bounds.expected_reward, bounds.kl_divergence
        excess, gain = (
            kl(self.d, self.p).mean(),
            (j(self.p, self.reward) - j(self.ref, self.reward)).mean(),
        )
        moved = kl(self.p, self.ref).mean()
        value = BETA * bounds.log_partition(self.ref, self.reward, BETA).mean()
        reached, data = j(self.p, self.reward).mean(), j(self.d, self.reward).mean()
        if claim.claim.startswith("KL(d||p) >= "):
            rate = claims_module._rate(pilot)  # the text rounds it
            line = bounds.frontier_policy(self.d, self.reward, rate)[1].mean()
            return excess - rate * reached - line
        known = {
            "beta log Z >= J_b(p)": value - (reached - BETA * moved),
            "J(d) + R sqrt(KL(d||p)/2) >= J(p)": data + np.sqrt(excess / 2) - reached,
            "R sqrt(KL(p||ref)/2) >= |J(p) - J(ref)|": np.sqrt(moved / 2) - abs(gain),
            "RL raised the SFT loss": excess - kl(self.d, self.ref).mean(),
            "RL raised the reward": gain,
            "RL to its exact optimum raises the SFT loss: log Z >= E_d r/beta": (value - data)
            / BETA,
        }
        return known[claim.claim]


def wrong(claim, truth, delta=DELTA):
    """Whether a verdict on "at least the truth" or "at least a hair more" is wrong."""
    interval, hair = claim.margin(delta), 1e-9 * (1 + abs(truth))
    holds, fails = decide(interval - truth), decide(interval - (truth + hair))
    return holds == Outcome.VIOLATED or fails == Outcome.CONFIRMED


def simulated_claims(seed, **options):
    world = Simulated(seed, **options)
    pilot, test = world.run()
    made = [c for c in claims_of("rl", pilot, test) if c.kind == THEOREM]
    made += findings_of_rl("rl", pilot, test)
    made.append(finding_at_the_optimum("rl", test))
    return world, pilot, made


def test_verdicts_on_every_claim_are_wrong_no_more_often_than_delta():
    mistakes: dict[str, list[bool]] = {}
    for seed in range(WORLDS):
        world, pilot, made = simulated_claims(seed)
        for claim in made:
            name = claim.claim.split(" J(p) + h")[-1]
            mistakes.setdefault(name, []).append(wrong(claim, world.truth(claim, pilot)))
    assert len(mistakes) == 7 and {len(found) for found in mistakes.values()} == {WORLDS}
    for name, found in mistakes.items():
        p = stats.binomtest(sum(found), len(found), DELTA, alternative="greater").pvalue
        assert p >= LEVEL, f"{name}: {np.mean(found):.3f} wrong at delta = {DELTA}"


@pytest.mark.parametrize("self_distilled", [False, True])
def test_no_theorem_is_violated_and_the_price_is_confirmed(self_distilled):
    outcomes = []
    for seed in range(60):
        _, _, made = simulated_claims(seed, self_distilled=self_distilled)
        outcomes += [(c.statement, decide(c.margin(DELTA))) for c in made if c.kind == THEOREM]
    violated = [one for one, outcome in outcomes if outcome is Outcome.VIOLATED]
    assert len(violated) <= stats.binom.ppf(1 - LEVEL, len(outcomes), DELTA / 2)
    price = [outcome for one, outcome in outcomes if one == ("S5" if self_distilled else "S7")]
    assert price.count(Outcome.CONFIRMED) > 0.1 * len(price)


def test_a_policy_that_could_not_be_is_refuted():
    """An excess loss a tenth of the true one lies below the price of its reward, and is found out."""
    found = []
    for seed in range(60):
        world = Simulated(seed)
        world.p = world.sampler = bounds.frontier_policy(world.d, world.reward, 4.0)[0]
        pilot, test = (_cheaper(e) for e in world.run())
        price = next(c for c in claims_of("rl", pilot, test) if c.claim.startswith("KL(d||p) >= "))
        found.append(decide(price.margin(DELTA)))
    assert found.count(Outcome.VIOLATED) > 40


def _cheaper(evidence):
    vars(evidence)["excess"] = 0.1 * evidence.excess  # a cached property
    return evidence


@pytest.mark.parametrize(
    ("temperature", "outcome"), [(1.0, Outcome.INCONCLUSIVE), (3.0, Outcome.VIOLATED)]
)
def test_a_sampler_at_another_temperature_fails_the_self_test(temperature, outcome):
    world = Simulated(5)
    hot = world.p / temperature
    world.sampler = hot - np.logaddexp.reduce(hot, axis=1, keepdims=True)
    own, _ = [c for c in claims_of("rl", *world.run()) if c.kind == SELF_TEST]
    assert decide(own.margin(0.01), "==") is outcome


def test_predictions_are_exact_where_every_response_is_listed():
    world = Simulated(3)
    _, test = world.run()
    land = landscape_of(test.world, test.ref)
    tilt = bounds.gibbs_tilt(land.log_ref, land.reward, BETA)
    found = predicted(land, 0.1)
    direct = bounds.cross_entropy(land.log_d, tilt) - bounds.cross_entropy(land.log_d, land.log_ref)
    np.testing.assert_allclose(found["loss_rise"], direct, rtol=1e-9)
    assert np.exp(land.log_ref).sum(axis=1) == pytest.approx(1)


def test_findings_of_sft_have_the_sign_of_the_change():
    world = Simulated(4)
    world.p = world.sampler = bounds.gibbs_tilt(world.ref, world.reward, BETA / 4)
    _, before = world.run()
    world.p = world.sampler = world.d
    _, after = world.run()
    for claim in findings_of_sft("sft-again", before, after):
        assert claim.lhs > claim.rhs
        assert decide(claim.margin(0.05)) is Outcome.CONFIRMED
