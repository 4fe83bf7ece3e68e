"""What sampled reports call a limit of any policy is one, in simulated worlds whose truth is known.

Prompts of several kinds; a response earns 1 or 0, and the experts' two responses have part of ref's mass. What the
world of ref's responses says of the same quantities is on the wrong side of the truth.
"""

from __future__ import annotations

from itertools import islice
from typing import NamedTuple

import numpy as np
import pytest
from sampled_recipes import paid_at_reward
from test_sampled_claims import partial_measurement
from validate.pareto import Landing, Landscape, plane_plot, regularized_plot
from validate.sampled.claims import Evidence, Experts
from validate.sampled.landscape import (
    estimated_by,
    highest_value,
    landscape_of,
    least_loss,
    mass_off_the_list,
    predicted,
)
from validate.sampled.rewards import CheckedReward, last_label

from nondecoupling import bounds

BETA, WEIGHT, DELTA, WORLDS = 0.2, 0.05, 0.05, 40
LOG_D = np.log([0.5, 0.5])
LISTED_REWARD = np.array([0.0, 1.0])


class Sampled(NamedTuple):
    """Prompts of kinds of which ref has mass ``off`` beyond the list and, of it, ``good`` on the reward 1."""

    off: np.ndarray
    good: np.ndarray
    self_distilled: bool

    @property
    def ref(self):
        """Of each kind, on: listed 0, listed 1, off the list 0 and 1."""
        listed, off = 1 - self.off, self.off
        return np.stack(
            [0.6 * listed, 0.4 * listed, off * (1 - self.good), off * self.good], axis=1
        )

    @property
    def truth(self):
        log_ref = np.log(self.ref)
        log_d = np.tile(np.append(LOG_D, [-np.inf, -np.inf]), (len(log_ref), 1))
        reward = np.tile([0.0, 1.0], (len(log_ref), 2))
        best = np.ones((len(log_ref), 1))
        return Landscape(log_ref if self.self_distilled else log_d, log_ref, reward, BETA, best)

    def evidence(self, rng, prompts, responses):
        kind = rng.integers(len(self.off), size=prompts)
        u = rng.random((prompts, responses, 1))
        drawn = (u > self.ref[kind].cumsum(axis=1)[:, None, :-1]).sum(axis=-1)
        ref = partial_measurement(
            rewards=(drawn % 2).astype(float),
            listed=np.where(drawn < 2, drawn, -1),
            expert_log_p=np.log(self.ref[kind, :2]),
            expert_rewards=np.tile(LISTED_REWARD, (prompts, 1)),
        )
        experts = Experts(
            np.tile(LOG_D, (prompts, 1)),
            ref.expert_rewards,
            CheckedReward("last-label", last_label),
            BETA,
            WEIGHT,
            self.self_distilled,
            max_tokens=10,
        )
        return Evidence(experts, ref, ref)


NOTHING_LISTED = np.full(3, 1 - 1e-9)
OF_OWN = {
    "rare": Sampled(NOTHING_LISTED, np.full(3, 0.05), True),
    "unlike": Sampled(NOTHING_LISTED, np.array([0.02, 0.1, 0.6]), True),
    "half listed": Sampled(np.full(2, 0.5), np.array([0.02, 0.4]), True),
}
OF_EXPERTS = {
    "mostly off": Sampled(np.full(2, 0.9), np.full(2, 0.05), False),
    "hardly off": Sampled(np.array([0.005, 0.06]), np.full(2, 0.05), False),
    "unlike": Sampled(np.array([0.1, 0.9]), np.array([0.4, 0.02]), False),
}


def draws(world, prompts, responses):
    rng = np.random.default_rng([prompts, responses])
    return (world.evidence(rng, prompts, responses) for _ in range(WORLDS))


def too_often(failures):
    """Of WORLDS draws, more than chance allows at DELTA/2: P(more than 5 of 40) < 1e-3."""
    return failures > 5


@pytest.mark.slow  # forty fits of lines at a dozen rates each
@pytest.mark.parametrize("responses", [2, 4, 16])
@pytest.mark.parametrize("world", OF_OWN.values(), ids=OF_OWN)
def test_no_policy_pays_less_than_the_least_on_self_distilled_data(world, responses):
    targets = float(bounds.expected_reward(world.truth.log_d, world.truth.reward).mean())
    targets += (1 - targets) * np.array([0.25, 0.5, 0.8])
    exact = np.array([world.truth.price(target) for target in targets])
    found = np.array([least_loss(e, targets, DELTA) for e in draws(world, 100, responses)])
    assert not too_often((found > exact).any(axis=1).sum())
    assert (np.diff(found) >= 0).all() and (found[:, -1] > 0).any()


def test_the_price_of_the_world_that_few_responses_suggest_is_no_limit():
    world = OF_OWN["rare"]
    e = next(draws(world, 400, 4))
    exact, suggested = world.truth.price(0.3), landscape_of(e.experts, e.ref).price(0.3)
    assert suggested > 1.2 * exact > exact > least_loss(e, 0.3, DELTA) > 0


def test_the_least_under_the_experts_law_is_exact_whatever_ref_answers():
    for world in OF_EXPERTS.values():
        e = next(draws(world, 30, 4))
        assert least_loss(e, 0.8, DELTA) == pytest.approx(world.truth.price(0.8))
        assert landscape_of(e.experts, e.ref).price(0.8) == pytest.approx(world.truth.price(0.8))


@pytest.mark.parametrize("reward", [1.0, 0.9999])
def test_where_there_is_no_limit_none_is_claimed(reward):
    """Of the highest reward itself the price is infinite, of too few prompts or rewards alike nothing is known."""
    world, rng = OF_OWN["rare"], np.random.default_rng(0)
    assert 0 < least_loss(world.evidence(rng, 300, 4), reward, DELTA) < world.truth.price(0.999)
    assert least_loss(world.evidence(rng, 15, 4), reward, DELTA) == 0
    never = Sampled(NOTHING_LISTED, np.full(3, 1e-12), True)
    assert least_loss(never.evidence(rng, 300, 4), [0.5, reward], DELTA).tolist() == [0, 0]


@pytest.mark.parametrize("responses", [4, 16])
@pytest.mark.parametrize("world", [*OF_OWN.values(), *OF_EXPERTS.values()])
def test_no_policy_has_more_than_the_highest_value(world, responses):
    truth = world.truth
    log_z = bounds.log_partition(truth.log_ref, truth.reward, BETA)
    exact = BETA * float(log_z.mean())
    found = np.array([highest_value(e, DELTA) for e in draws(world, 100, responses)])
    assert not too_often((found < exact).sum()) and (found <= 1).all()


def test_little_mass_off_the_list_or_many_responses_bring_the_highest_value_near():
    def found(world, responses):
        e = next(draws(world, 400, responses))
        truth = BETA * bounds.log_partition(world.truth.log_ref, world.truth.reward, BETA)
        return highest_value(e, DELTA) - truth.mean()

    assert 0 < found(OF_EXPERTS["hardly off"], 2) < 0.1
    assert 0 < found(OF_OWN["rare"], 1024) < 0.1


@pytest.mark.parametrize(
    "world", [OF_OWN["rare"], OF_EXPERTS["mostly off"]], ids=["own", "experts"]
)
def test_estimated_ends_are_too_low_and_say_from_what(world):
    e = next(draws(world, 400, 8))
    land, exact = landscape_of(e.experts, e.ref), predicted(world.truth, WEIGHT)
    found = predicted(land, WEIGHT)
    for name in ("soft_value", "loss_rise", "reward_gain"):
        assert found[name].mean() < exact[name].mean() - 0.01
    off = "100.0" if e.experts.self_distilled else "90.0"
    assert estimated_by(e, "S1").endswith(
        f"8 responses of ref a prompt, {off} % of its mass off the list"
    )
    assert bool(estimated_by(e, "T6")) == e.experts.self_distilled


def test_the_mass_off_the_list_is_ref_s():
    e = next(draws(OF_EXPERTS["unlike"], 50, 4))
    assert set(mass_off_the_list(e.ref).round(9)) == {0.1, 0.9}


@pytest.mark.parametrize(
    ("off", "prompts", "reward", "near"),
    [([0.02, 0.14], 400, 0.87, 0.01), ([0.2, 0.56], 64, 0.42, 0.05)],
    ids=["tiny-qwen3", "smollm2"],
)
@pytest.mark.parametrize("optimum", [bounds.gibbs_tilt, bounds.forward_leash_optimum])
def test_a_leash_at_a_reward_is_nearly_what_it_is_on_these_prompts(
    optimum, off, prompts, reward, near
):
    """With 16 responses, and as much off the list as docs/recipes_in_a_network.md says of the committed tables."""
    world = Sampled(np.array(off), np.array([0.3, 0.1]), False)
    for e in islice(draws(world, prompts, 16), 10):
        kind = np.abs(mass_off_the_list(e.ref)[:, None] - world.off).argmin(axis=1)
        truth = world.truth
        laws = truth.log_d[kind], truth.log_ref[kind], truth.reward[kind]
        here = Landscape(*laws, BETA, truth.best[kind])
        found = paid_at_reward(landscape_of(e.experts, e.ref), optimum, reward)
        assert found == pytest.approx(paid_at_reward(here, optimum, reward), rel=near)


def test_planes_of_samples_show_limits_only_as_what_they_are():
    e = next(draws(OF_OWN["rare"], 100, 4))
    land, landings = landscape_of(e.experts, e.ref), [Landing("SFT", 0.0, 0.05, 0.05)]
    rewards = np.linspace(0.05, 0.9, 5)
    picture = plane_plot(land, landings, (rewards, least_loss(e, rewards, DELTA)))
    assert "least of any policy (S5), lower end" in picture
    assert "lower end" not in plane_plot(land, landings)
    assert "least of any policy" not in regularized_plot(land, landings, "joint optima (J1)")
