"""Readings and alarms from arrays: numbers, limits, and what is refused."""

import json
import math
from dataclasses import replace

import numpy as np
import pyarrow
import pytest
import torch

from nondecoupling.bounds import kl_divergence
from nondecoupling.collected import CollectedSamples, Origin
from nondecoupling.forecast import Samples, forecast
from nondecoupling.monitor import Bounded, CouplingMonitor, share_of

CHANCES = np.repeat([0.2, 0.5], 20)
REF = np.stack([1 - CHANCES, CHANCES], axis=1)  # of a wrong and a right response, by prompt


@pytest.fixture
def made(samples, curves):
    def monitor(**options):
        found = CouplingMonitor(samples, **options)
        found.prices = curves
        return found

    return monitor


def run_of(rng, p_right, responses=2000):
    """log_ref and log_p of responses of ref, and rewards of rollouts of a policy right with chance ``p_right``."""
    prompts = rng.integers(40, size=responses)
    right = (rng.random(responses) < CHANCES[prompts]).astype(int)
    p = np.stack([1 - p_right, p_right], axis=1)
    log_ref, log_p = np.log(REF[prompts, right]), np.log(p[prompts, right])
    rollouts = (rng.random((400, 8)) < np.resize(p_right, 400)[:, None]).astype(float)
    return log_ref, log_p, rollouts


def paid_by(p_right):
    p = np.stack([1 - p_right, p_right], axis=1)
    return float(np.mean(kl_divergence(np.log(REF), np.log(p))))


def test_a_reading_has_the_numbers_of_the_run(made):
    rng = np.random.default_rng(1)
    p_right = np.minimum(2 * CHANCES, 0.9)
    log_ref, log_p, rollouts = run_of(rng, p_right)
    log_ratios = np.log(np.where(rng.random(4000) < 0.5, 2.0, 0.8))
    reading = made().update(
        7,
        log_p,
        rollouts,
        log_ref=log_ref,
        log_ratios=log_ratios,
        beta=0.5,
        expert_log_ratio=[-0.5],
    )
    rise = paid_by(p_right)
    assert reading.step == 7
    assert reading.sft_loss_rise.value == pytest.approx(rise, abs=0.1)
    assert 0 < reading.sft_loss_rise.low < rise and reading.sft_loss_rise.high == math.inf
    assert reading.reward.value == pytest.approx(p_right.mean(), abs=0.03)
    assert reading.reward.low < p_right.mean() < reading.reward.high
    assert reading.kl_per_response == pytest.approx(log_ratios.mean())
    gap = (reading.reward.value - made().prices.start) / 0.5 - log_ratios.mean()
    assert reading.proved_gap == pytest.approx(gap)
    assert reading.expert_loss_rise == -0.5
    assert reading.overpayment_nats.value == pytest.approx(
        reading.sft_loss_rise.value - reading.price.value
    )
    assert reading.price_floor <= reading.price.value <= reading.price_tilt.value * (1 + 1e-2)
    assert reading.alarms == ()


def test_a_policy_that_moves_without_gaining_overpays_and_is_caught(made):
    """Nearly always wrong on the prompts it knew, better on the others: much moved, nothing won."""
    monitor = made(max_overpayment=2.0)
    away = np.where(CHANCES > 0.3, 0.01, 0.6)
    log_ref, log_p, rollouts = run_of(np.random.default_rng(2), away)
    reading = monitor.update(10, log_p, rollouts, log_ref=log_ref)
    assert reading.overpayment_proved > 2 and "ALARM" in reading.alarms[0]
    assert "ALARM" in str(reading) and reading.metrics()["coupling/alarm"] == 1


def tilted(beta):
    odds = CHANCES / (1 - CHANCES) * np.exp(1 / beta)
    return odds / (1 + odds)


def test_exact_rl_raises_no_alarm_at_any_of_many_looks(made):
    """What it pays is the price of its reward: an alarm would be false. Its loss stays within a budget it keeps."""
    rise = paid_by(tilted(0.5))
    monitor = made(max_overpayment=1.0, loss_budget=rise)
    rng = np.random.default_rng(3)
    for step, beta in enumerate(np.geomspace(8, 0.5, 30)):
        log_ref, log_p, rollouts = run_of(rng, tilted(beta), responses=300)
        monitor.update(step, log_p, rollouts[:64], log_ref=log_ref)
    assert [reading.alarms for reading in monitor.readings] == [()] * 30
    plug_in = [reading.overpayment_ratio.value > 1 for reading in monitor.readings]
    assert any(plug_in)  # an alarm by estimates would have been false


def test_a_budget_is_crossed_by_its_lower_end(made):
    log_ref, log_p, rollouts = run_of(np.random.default_rng(4), tilted(0.3))
    low = made().update(1, log_p, rollouts, log_ref=log_ref).sft_loss_rise
    for budget, alarmed in ((low.low * 0.99, True), (low.low * 1.01, False)):
        reading = made(loss_budget=budget).update(1, log_p, rollouts, log_ref=log_ref)
        assert bool(reading.alarms) is alarmed
    assert low.low < low.value * 0.99


def test_every_look_costs_width(made):
    monitor = made()
    log_ref, log_p, rollouts = run_of(np.random.default_rng(5), tilted(0.5))
    readings = [monitor.update(step, log_p, rollouts, log_ref=log_ref) for step in range(4)]
    lows = [reading.sft_loss_rise.low for reading in readings]
    assert lows == sorted(lows, reverse=True) and len(set(lows)) == 4
    assert share_of(0.05, 4) == pytest.approx(0.05 / 20)


@pytest.mark.slow  # curves of its own; the signs of prices are tested in test_prices.py
def test_beyond_the_samples_nothing_is_clamped(made):
    few = Samples(
        (np.random.default_rng(0).random((40, 4)) < 0.3).astype(float), reward_bounds=(0, 1)
    )
    reading = CouplingMonitor(few).update(
        3, np.full(100, -4.0), np.ones((50, 2)), log_ref=np.full(100, -2.0)
    )
    assert reading.price_tilt.sign == ">=" and reading.beta_equivalent.sign == "<="
    assert reading.overpayment_ratio.sign == "<="
    assert ">=" in str(reading) and reading.metrics()["coupling/beyond_samples"] == 1
    assert reading.to_dict()["price_tilt"].startswith(">= ")


def test_metrics_have_the_names_of_the_page_and_json_holds_all(made):
    log_ref, log_p, rollouts = run_of(np.random.default_rng(6), tilted(0.5))
    reading = made().update(
        5, log_p, rollouts, log_ref=log_ref, log_ratios=np.full(9, 0.4), beta=0.1
    )
    names = "sft_loss_rise kl_per_response price_floor price_tilt overpayment_ratio overpayment_nats beta_equivalent"
    expected = {f"coupling/{name}" for name in [*names.split(), "proved_gap", "reward"]}
    assert expected <= set(reading.metrics())
    assert all(isinstance(value, float) for value in reading.metrics().values())
    assert json.loads(json.dumps(reading.to_dict(), allow_nan=False))["step"] == 5


def test_paying_for_no_reward_is_seen_by_alarm_tracker_and_json(made):
    """The ratio of overpayment is infinite then, which no tracker can draw."""
    monitor = made(max_overpayment=5.0)
    log_ref = np.full(2000, -5.0)
    costly = monitor.update(1, log_ref - 1.0, np.zeros(400), log_ref=log_ref)
    assert costly.overpayment_ratio.value == costly.overpayment_proved == math.inf
    assert "ALARM" in costly.alarms[0]
    metrics = costly.metrics()
    assert metrics["coupling/alarm"] == 1
    assert metrics["coupling/overpayment_nats"] == pytest.approx(1.0)
    for name in ("overpayment_ratio", "overpayment_proved", "beta_equivalent"):
        assert metrics[f"coupling/{name}_infinite"] == 1 and f"coupling/{name}" not in metrics
        assert costly.to_dict()[name] == "inf"
    fair = made().update(1, log_ref - 0.1, np.tile([0.0, 1.0], 200), log_ref=log_ref).metrics()
    for name in ("overpayment_ratio", "overpayment_proved", "beta_equivalent"):
        assert fair[f"coupling/{name}_infinite"] == 0 and math.isfinite(fair[f"coupling/{name}"])
    unmeasured = made().update(1, None, np.zeros(400)).metrics()
    assert "coupling/overpayment_ratio_infinite" not in unmeasured


def test_a_loss_without_rewards_is_a_reading(made):
    log_ref = np.full(2000, -5.0)
    reading = made(loss_budget=0.3).update(1, log_ref - 1.2, None, log_ref=log_ref)
    assert reading.reward is None and reading.price is None and reading.overpayment_nats is None
    assert "ALARM" in reading.alarms[0]


def test_prices_alone_need_no_log_probabilities(made):
    reading = made(max_overpayment=1.0).update(1, None, [1.0, 0.0] * 50)
    assert reading.sft_loss_rise is None and reading.overpayment_ratio is None
    assert "coupling/price_floor" in reading.metrics()
    assert "coupling/sft_loss_rise" not in reading.metrics()


def test_a_forecast_is_a_source_too(samples):
    assert CouplingMonitor(forecast(samples)).samples is samples


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"every": 0}, "every=0"),
        ({"loss_budget": -1.0}, "loss_budget=-1"),
        ({"max_overpayment": math.nan}, "max_overpayment"),
        ({"on_alarm": "email"}, "on_alarm='email'"),
        ({"delta": 0}, "delta=0"),
        ({"probe": 0}, "probe=0"),
    ],
)
def test_bad_options_are_named(samples, options, named):
    with pytest.raises(ValueError, match=named):
        CouplingMonitor(samples, **options)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rewards": [0.5, 1.5]}, r"rewards\[1\]=1.5"),
        ({"rewards": [math.nan]}, "rewards"),
        ({"rewards": []}, "rewards has shape"),
        ({"log_p": [-1.0]}, r"log_p has shape \(1,\), log_ref \(2,\)"),
        ({"log_p": [math.nan, 0.0]}, "log_p"),
        ({"log_ref": None}, "lm.collect"),
        ({"log_ratios": []}, "log_ratios is empty"),
        ({"step": -1}, "step=-1"),
        ({"beta": "x"}, "beta='x'"),
        ({"beta": [0.1, 0.2]}, r"beta=\[0.1, 0.2\]"),
        ({"beta": -1}, "beta=-1: must be a finite number, at least 0"),
        ({"beta": math.nan}, "beta=nan"),
        ({"beta": math.inf}, "beta=inf"),
        ({"beta": 1e-320}, "beta=1e-320: must be one positive number, from 1e-300"),
        ({"log_p": None, "rewards": None}, "log_p=None, rewards=None"),
        ({"look": 0}, "look=0: must be a whole number, at least 1"),
    ],
)
def test_bad_arrays_are_named_and_leave_no_reading(made, change, named):
    arguments = {"step": 1, "log_p": [-1.0, -2.0], "rewards": [0.0, 1.0], "log_ref": [-1.0, -1.0]}
    monitor = made()
    with pytest.raises(ValueError, match=named):
        monitor.update(**(arguments | change))
    assert monitor.readings == []


def test_a_look_that_has_a_number_has_its_share(made):
    alone, watching = made(), made()
    rewards = np.tile([0.0, 1.0], 20)
    by_number = [watching.update(step, None, rewards, look=look) for step, look in ((9, 2), (3, 1))]
    in_turn = [alone.update(step, None, rewards) for step in (3, 9)]
    assert by_number[::-1] == in_turn and in_turn[0].reward.high < in_turn[1].reward.high


def test_no_number_of_a_look_comes_twice(made):
    monitor = made()
    rewards = np.tile([0.0, 1.0], 20)
    with pytest.raises(ValueError, match="outside reward_bounds"):
        monitor.update(1, None, rewards + 2, look=9)  # what says nothing spends nothing
    looks = [monitor.update(1, None, rewards, look=look) for look in (3, None, 2, None)]
    assert [reading.reward.how.rpartition("look ")[2] for reading in looks] == ["3", "4", "2", "5"]
    for look in (2, 3, 4, 5):
        with pytest.raises(ValueError, match=f"look={look}: .* leave it out, or give .*, as 6$"):
            monitor.update(1, None, rewards, look=look)
    assert len(monitor.readings) == 4


@pytest.mark.slow  # curves of its own
def test_rewards_in_float32_lie_within_the_bounds_of_the_samples():
    samples = Samples([[0, 1.1], [1.1, 1.1]] * 20, reward_bounds=(0, 1.1))
    rewards = np.float64(1.0) + np.full((40, 3), np.float32(0.1))
    assert rewards.max() > 1.1
    monitor = CouplingMonitor(samples)
    for given in (rewards, torch.full((40, 3), 1.1), np.full((40, 3), 1.1)):
        reading = monitor.update(1, None, given)
        assert reading.reward.value == pytest.approx(1.1, abs=1e-15)
    with pytest.raises(ValueError, match=r"rewards\[0, 0\]=1.1000003: outside reward_bounds"):
        monitor.update(1, None, np.full((40, 3), 1.1000003))


@pytest.mark.parametrize(("beta", "proved"), [(None, False), (0, False), (1e-300, True)])
def test_a_beta_of_zero_is_no_leash_and_the_least_one_proves_something(made, beta, proved):
    reading = made().update(1, None, np.ones(40), log_ratios=[0.1], beta=beta)
    assert reading.kl_per_response == pytest.approx(0.1)
    assert (reading.proved_gap is not None) is proved
    assert not proved or math.isfinite(reading.proved_gap)


def test_a_collected_log_probability_that_is_none_is_named(samples, tmp_path):
    log_ref = np.full((40, 16), -3.0)
    log_ref[2, 5] = math.nan
    origin = Origin("a model", "1", "2", "3", 16, 8, 0, 4, (0.0, 1.0), ("right",), "4")
    columns = {"reward": samples.ref_rewards.tolist(), "log_ref": log_ref.tolist()}
    table = pyarrow.table({"prompt": [f"p{x}" for x in range(40)], **columns})
    monitor = CouplingMonitor(CollectedSamples(table, origin))
    with pytest.raises(ValueError, match=r"log_ref\[2, 5\]=nan: must be finite"):
        monitor.update(1, np.full((40, 16), -3.0), None)


def test_another_kind_of_source_is_refused():
    with pytest.raises(ValueError, match=r"source=3: give the file"):
        CouplingMonitor(3)


def test_samples_with_weights_are_refused(samples):
    weighted = Samples(samples.ref_rewards, reward_bounds=(0, 1), weights=[1.0, 2.0] * 20)
    for source in (weighted, forecast(weighted)):
        with pytest.raises(ValueError, match=r"weights.*give samples without weights"):
            CouplingMonitor(source)


def test_the_proved_gap_is_of_one_policy(made):
    """Of several in a window KL is that of the last one, and so is the reward that it is set against."""
    monitor = made()
    reading = monitor.read(9, np.zeros(40), None, None, 0.1, 0.5, last_reward=0.75)
    assert reading.proved_gap == pytest.approx((0.75 - monitor.prices.start) / 0.5 - 0.1)


def test_prices_beyond_the_samples_are_counted_as_such(made):
    reading = made().update(1, None, np.ones(40))
    assert (reading.price.sign, reading.price_tilt.sign) == (">=", ">=")
    assert reading.price.value == reading.price_floor == reading.price_tilt.value
    price_alone = replace(reading, price_tilt=replace(reading.price_tilt, sign=""))
    assert price_alone.metrics()["coupling/beyond_samples"] == 1


@pytest.mark.parametrize("name", ["log_p", "log_ref"])
def test_probabilities_in_place_of_their_logarithms_are_refused(made, name):
    log_ref, log_p, rollouts = run_of(np.random.default_rng(0), CHANCES)
    given = {"log_p": log_p, "log_ref": log_ref}
    given[name] = np.exp(given[name])
    with pytest.raises(ValueError, match=f"{name} has the value .* not probabilities"):
        made().update(0, given["log_p"], rollouts, log_ref=given["log_ref"])


def test_a_limit_that_says_nothing_is_no_infinite_number(made):
    log_ref = np.full(400, -5.0)
    reading = made().update(1, log_ref - 0.1, np.ones(40), log_ref=log_ref)
    nothing = Bounded(math.inf, "<=")
    metrics = replace(reading, beta_equivalent=nothing, overpayment_ratio=nothing).metrics()
    for name in ("beta_equivalent", "overpayment_ratio"):
        assert metrics[f"coupling/{name}_infinite"] == 0 and f"coupling/{name}" not in metrics


@pytest.mark.parametrize(
    ("rise", "price", "ratio"),
    [
        (0.6, Bounded(0.3, ">="), "<= 2"),
        (-0.6, Bounded(0.3, ">="), "<= 0"),
        (0.6, Bounded(0.0, ">="), "<= inf"),
        (-0.6, Bounded(0.3), "-2"),
        (0.6, Bounded(0.0), "inf"),
    ],
)
def test_an_overpayment_against_a_limit_of_the_price_is_a_limit(
    made, monkeypatch, rise, price, ratio
):
    monitor = made()
    monkeypatch.setattr(monitor, "prices", replace(monitor.prices))
    monkeypatch.setattr(monitor.prices, "cheapest", lambda reward: price)
    log_ref = np.full(400, -5.0)
    reading = monitor.update(1, log_ref - rise, np.full(40, 0.6), log_ref=log_ref)
    assert str(reading.overpayment_ratio) == ratio
