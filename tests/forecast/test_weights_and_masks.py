"""Weights say how often a prompt counts, masks how many responses it has: in every number of a forecast."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from known_runs import RUNS, p_value
from scipy import stats

from nondecoupling.forecast import AtBeta, RaggedRows, Samples, forecast
from nondecoupling.forecast.floors import lines, plug_in_price, price_floor
from nondecoupling.forecast.support import share_without_spread, unsupported
from nondecoupling.forecast.tilts import Tilts

RUN = RUNS["binary"]
UNIT = (0.0, 1.0)
ROWS = RUN.draw(np.random.default_rng(0), 60, 8).ref_rewards
NUMBERS = ("reward", "kl", "own_loss_change", "expert_loss_change", "soft_value")


def values(samples, beta=1.0):
    answer = forecast(samples, delta=0.2).at_beta(beta)
    return [getattr(answer, name).value for name in NUMBERS]


def test_a_prompt_of_weight_two_counts_as_two():
    twice = np.concatenate([ROWS, ROWS[:20]])
    weighted = Samples(
        ROWS, reward_bounds=UNIT, weights=[2] * 20 + [1] * 40, expert_rewards=ROWS[:, :2]
    )
    repeated = Samples(twice, reward_bounds=UNIT, expert_rewards=twice[:, :2])
    np.testing.assert_allclose(values(weighted), values(repeated), rtol=1e-9)
    assert weighted.mean_reward == pytest.approx(repeated.mean_reward)
    assert plug_in_price(weighted, 0.8) == pytest.approx(plug_in_price(repeated, 0.8))
    assert share_without_spread(weighted) == pytest.approx(share_without_spread(repeated))
    gates = [unsupported(samples, 0.05) for samples in (weighted, repeated)]
    assert gates[0].responses_needed == gates[1].responses_needed


def test_what_the_mask_hides_says_nothing():
    hidden = np.arange(8) >= np.where(np.arange(60) % 2, 5, 8)[:, None]
    one, other = (
        Samples(
            np.where(hidden, value, ROWS), reward_bounds=UNIT, mask=~hidden,
            expert_rewards=ROWS[:, :2], ref_log_probs=np.where(hidden, 7.0, -3.0),
        )
        for value in (np.nan, 1.0)
    )  # fmt: skip
    for samples in (one, other):
        assert "5 to 8 responses" in repr(samples)
    a, b = (forecast(samples).at_beta(1.0) for samples in (one, other))
    assert a == b
    assert price_floor(one, 0.8, 0.1) == price_floor(other, 0.8, 0.1)


def test_columns_without_responses_change_nothing():
    padded = np.concatenate([ROWS, np.zeros((60, 3))], axis=1)
    mask = np.arange(11) < np.full((60, 1), 8)
    plain = Samples(ROWS, reward_bounds=UNIT)
    wide = Samples(padded, reward_bounds=UNIT, mask=mask)
    for f in (
        lambda s: Tilts(s, np.array([1.0, 0.2])).rewards(0.1).low,
        lambda s: lines(s.drawn, 1.0, np.array([2.0])),
    ):
        np.testing.assert_allclose(f(wide), f(plain), rtol=1e-12)
    assert plug_in_price(wide, 0.8) == pytest.approx(plug_in_price(plain, 0.8))


def test_few_and_many_levels_are_the_same_law():
    """Rewards that all differ by rounding take the path without levels."""
    rng = np.random.default_rng(1)
    blurred = np.clip(ROWS + 1e-12 * rng.uniform(-1, 1, ROWS.shape), 0, 1)
    one, other = Samples(ROWS, reward_bounds=UNIT), Samples(blurred, reward_bounds=UNIT)
    for samples in (one, other):
        assert len(samples.drawn.levels) > 8 or samples is one
    a, b = (Tilts(s, np.array([0.5])) for s in (one, other))
    for name in ("rewards", "kl", "own_loss_changes", "soft_values"):
        x, y = getattr(a, name)(0.1), getattr(b, name)(0.1)
        np.testing.assert_allclose(
            [x.low, x.high, x.estimate], [y.low, y.high, y.estimate], atol=1e-8
        )
    assert price_floor(other, 0.8, 0.1).low == pytest.approx(
        price_floor(one, 0.8, 0.1).low, abs=1e-6
    )


@pytest.mark.parametrize("worlds", [12, pytest.param(120, marks=pytest.mark.slow)])
def test_a_weighted_forecast_is_about_the_weighted_law(worlds):
    """Prompts drawn evenly, weighted to another mixture of kinds: the unweighted forecast misses."""
    rng, delta, beta = np.random.default_rng(4), 0.2, 0.5
    shares = np.array([4.0, 2.0, 1.0, 1.0])
    kinds = dataclasses.replace(RUN)
    each = [dataclasses.replace(kinds, log_ref=RUN.log_ref[[i]], log_expert=RUN.log_expert[[i]],
                                reward=RUN.reward[[i]]).truth(beta) for i in range(4)]  # fmt: skip
    truth = {n: float(np.average([e[n] for e in each], weights=shares)) for n in each[0]}
    missed, plainly = dict.fromkeys(NUMBERS, 0), 0
    for _ in range(worlds):
        kind = rng.integers(4, size=200)
        rewards = (rng.random((200, 32)) < np.exp(RUN.log_ref[kind, 1:])).astype(float)
        experts = (rng.random((200, 2)) < np.exp(RUN.log_expert[kind, 1:])).astype(float)
        given = dict(reward_bounds=UNIT, expert_rewards=experts)
        answer = forecast(Samples(rewards, weights=shares[kind], **given), delta=delta).at_beta(
            beta
        )
        assert isinstance(answer, AtBeta)
        for name in NUMBERS:
            number = getattr(answer, name)
            missed[name] += not number.low <= truth[name] <= number.high
        plain = forecast(Samples(rewards, **given), delta=delta).at_beta(beta).reward
        plainly += not plain.low <= truth["reward"] <= plain.high
    assert all(p_value(count, worlds, delta) > 1e-3 for count in missed.values()), missed
    assert stats.binomtest(plainly, worlds, delta, alternative="greater").pvalue < 1e-3


REFUSED = [
    (dict(mask=np.ones((60, 7), bool)), r"mask, bool of shape \(60, 7\): give true or false"),
    (dict(mask=np.ones((60, 8))), "mask, float64 of shape"),
    (dict(mask=np.arange(8) < np.full((60, 1), 1)), r"mask\[0\] leaves 1 responses"),
    (dict(weights=[1] * 59), "one weight for each of the 60"),
    (dict(weights=[1] * 59 + [0]), r"weights\[59\]=0.0: must be positive; leave out prompts"),
    (dict(ref_log_probs=np.full((60, 7), -1)), "one log-probability for each of ref_rewards"),
    (dict(ref_log_probs=np.full((60, 8), 0.5)), r"ref_log_probs\[0, 0\]=0.5: the log-prob.* at most 0"),
    (dict(expert_log_ref=[[-1.0]] * 60), "expert_log_ref: give expert_rewards too"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Samples(ROWS, reward_bounds=UNIT, **change)


def test_everything_is_kept_in_one_order():
    rng = np.random.default_rng(5)
    mask = np.arange(8) < rng.integers(3, 9, size=(60, 1))
    samples = Samples(
        ROWS, reward_bounds=UNIT, mask=mask, ref_log_probs=-ROWS - 1, expert_rewards=ROWS[:, :1],
        expert_log_ref=-ROWS[:, :1] - 2, weights=np.arange(1.0, 61), prompt_ids=list(range(60)),
    )  # fmt: skip
    mixed = samples.in_random_order()
    order = np.array(mixed.prompt_ids)
    np.testing.assert_array_equal(mixed.weights, samples.weights[order])
    np.testing.assert_array_equal(mixed.expert_log_ref, samples.expert_log_ref[order])
    np.testing.assert_array_equal(
        mixed.ref_log_probs[mixed.mask], -mixed.ref_rewards[mixed.mask] - 1
    )
    np.testing.assert_array_equal(mixed.mask.sum(axis=1), mask.sum(axis=1)[order])
    assert not (~mixed.mask[:, :-1] & mixed.mask[:, 1:]).any()  # responses come first
    again = Samples(**json.loads(json.dumps(samples.to_dict())))
    assert again.to_dict() == samples.to_dict()


def test_a_file_with_every_column(tmp_path):
    rows = [
        {"prompt": f"p{i}", "reward": r.tolist()[: 5 + i % 3], "lp": [-1.0] * (5 + i % 3), "w": 1 + i % 2,
         "e": [1.0], "elp": [-2.0]}
        for i, r in enumerate(ROWS)
    ]  # fmt: skip
    path = tmp_path / "ref.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    columns = dict(log_prob="lp", expert_reward="e", expert_log_prob="elp", weight="w")
    with pytest.raises(RaggedRows, match="ragged=True"):
        Samples.from_jsonl(path, reward_bounds=UNIT, **columns)
    samples = Samples.from_jsonl(path, reward_bounds=UNIT, ragged=True, **columns)
    assert samples.mask.sum() == sum(5 + i % 3 for i in range(60))
    assert samples.weights.tolist() == [1 + i % 2 for i in range(60)]
    assert samples.expert_log_ref.tolist() == [[-2.0]] * 60
    with pytest.raises(TypeError, match="colour"):
        Samples.from_jsonl(path, reward_bounds=UNIT, colour="red")
    path.write_text("\n".join(json.dumps({"prompt": "a", "reward": r, "w": r}) for r in (0, 1)))
    with pytest.raises(
        ValueError, match="row 2, w=1: prompt 'a' had 0; a weight is that of a prompt"
    ):
        Samples.from_jsonl(path, reward_bounds=UNIT, weight="w")
