"""Lists of responses padded to one length, and prompts that are not equally likely."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nondecoupling import bounds

RAGGED = [([0.5, 0.5], [-2.0, -1.0]), ([0.2, 0.5, 0.3], [-3.0, -1.5, -1.0])]
MASK = np.array([[True, True, False], [True, True, True]])
CALLS = {
    "price_of_reward": lambda d, r, **k: bounds.price_of_reward(d, r, -1.3, **k),
    "approximate_price_of_reward": lambda d, r, **k: bounds.approximate_price_of_reward(
        d, r, -1.3, 0.01, **k
    ),
    "price_of_policy": lambda d, r, **k: bounds.price_of_policy(
        d, bounds.gibbs_tilt(d, r, 0.3), r, **k
    ),
    "overpayment": lambda d, r, **k: bounds.overpayment(d, bounds.gibbs_tilt(d, r, 0.3), r, **k),
    "supporting_line": lambda d, r, **k: bounds.supporting_line(d, r, 2.0, 0.5, **k),
    "highest_reward": lambda d, r, **k: bounds.highest_reward(d, r, 0.3, **k),
    "frontier_policy": lambda d, r, **k: bounds.frontier_policy(d, r, 2.0, **k)[1],
}


def padded(value=0.0):
    law, reward = np.full((2, 3), -np.inf), np.full((2, 3), value)
    for row, (p, r) in enumerate(RAGGED):
        law[row, : len(p)], reward[row, : len(r)] = np.log(p), r
    return law, reward


@pytest.mark.parametrize("name", CALLS)
def test_padding_counts_for_nothing(name):
    law, reward = padded()
    one_by_one = [float(CALLS[name](np.log(p), np.array(r))) for p, r in RAGGED]
    assert CALLS[name](law, reward, mask=MASK) == pytest.approx(one_by_one, rel=1e-12)
    assert CALLS[name](law, reward) != pytest.approx(one_by_one, rel=1e-3)
    tensors = torch.tensor(law), torch.tensor(reward)
    found = CALLS[name](*tensors, mask=torch.tensor(MASK))
    assert found.numpy() == pytest.approx(one_by_one, rel=1e-12)


def test_averages_without_padding():
    law, reward = padded()
    as_bad_as_the_worst = np.where(MASK, reward, -5.0)
    for function in (bounds.price_of_average_reward, bounds.frontier_rate):
        found = function(law, reward, -1.3, mask=MASK)
        assert found == pytest.approx(function(law, as_bad_as_the_worst, -1.3), rel=1e-12)
    for beta in (None, 0.5):
        of = {} if beta is None else {"log_ref": law, "beta": beta}
        loss, best = bounds.pareto_frontier(law, reward, points=5, mask=MASK, **of)
        same = bounds.pareto_frontier(law, as_bad_as_the_worst, points=5, **of)
        assert loss == pytest.approx(same[0], rel=1e-9)
        assert best == pytest.approx(same[1], rel=1e-9)


def test_weights_are_repeated_prompts():
    law, reward = padded(-5.0)
    rows, weights = [0, 0, 0, 1], [3.0, 1.0]
    calls = (
        lambda d, r, **k: bounds.price_of_average_reward(d, r, [-1.3, -1.1], **k),
        lambda d, r, **k: bounds.frontier_rate(d, r, -1.3, **k),
        lambda d, r, **k: bounds.pareto_frontier(d, r, points=4, **k)[0],
        lambda d, r, **k: bounds.pareto_frontier(d, r, log_ref=d, beta=1.0, points=4, **k)[1],
    )
    for call in calls:
        repeated = call(law[rows], reward[rows])
        assert call(law, reward, weights=weights) == pytest.approx(repeated, rel=1e-9)
        assert call(law, reward) != pytest.approx(repeated, rel=1e-3)
        tensors = torch.tensor(law), torch.tensor(reward)
        found = call(*tensors, weights=torch.tensor(weights, dtype=torch.float64))
        assert found.numpy() == pytest.approx(repeated, rel=1e-9)


def test_a_prompt_of_no_weight_is_as_if_absent():
    law, reward = padded(-5.0)
    found = bounds.price_of_average_reward(law, reward, -1.3, weights=[0.0, 1.0])
    assert found == pytest.approx(bounds.price_of_reward(law[1], reward[1], -1.3), rel=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": [[1, 1, 0], [1, 1, 1]]}, r"mask\.dtype=int64: give truth values"),
        ({"mask": MASK[:, :2]}, r"mask \(2, 2\), log_d \(2, 3\)"),
        ({"mask": np.zeros((2, 3), bool)}, "mask: a row without any response"),
        ({"mask": np.array([True, False, True])}, r"log_d\[0\]: the probabilities sum to 0.5"),
        ({"mask": torch.tensor(MASK)}, "mask is a torch tensor beside NumPy arrays"),
        ({"weights": [1.0]}, r"weights \(1,\): give one for each of the 2 prompts"),
        ({"weights": [1.0, -1.0]}, "weights=.*: must be nonnegative"),
        ({"weights": [0.0, 0.0]}, "weights=.*: must be nonnegative"),
    ],
)
def test_errors_say_what_to_give(options, message):
    law, reward = padded()
    with pytest.raises(ValueError, match=message):
        bounds.price_of_average_reward(law, reward, -1.3, **options)
