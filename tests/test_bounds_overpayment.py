"""``overpayment`` as a function: edges, batches, dtypes, gradients, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nondecoupling import bounds

EVEN, REWARD = np.log([0.5, 0.5]), np.array([0.0, 1.0])


def log(probabilities):
    with np.errstate(divide="ignore"):
        return np.log(probabilities)


@pytest.mark.parametrize(
    ("d", "p", "reward", "expected"),
    [
        ([0.5, 0.5], [0.75, 0.25], [0.0, 1.0], 0.5 * math.log(4 / 3)),  # below J(d): all of KL
        ([0.5, 0.5], [0.75, 0.25], [1.0, 1.0], 0.5 * math.log(4 / 3)),
        ([0.5, 0.5], [0.5, 0.5], [0.0, 1.0], 0.0),
        ([0.5, 0.5], [0.25, 0.75], [0.0, 1.0], 0.0),  # on the frontier
        ([0.5, 0.5], [0.0, 1.0], [0.0, 1.0], math.inf),
        ([0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 1.0, 2.0], math.inf),
        ([0.0, 1.0], [0.0, 1.0], [0.0, 1.0], 0.0),
        ([0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 1.0, 2.0], 0.0),  # l = 1: the rest on the best
        ([0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 1.0, 0.5], 0.31430432971118705),
    ],
)
def test_edges(d, p, reward, expected):
    got = float(bounds.overpayment(log(d), log(p), np.array(reward)))
    assert got == pytest.approx(expected, rel=1e-13, abs=1e-30)


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_gives_what_each_world_gives(lift, dtype):
    rng = np.random.default_rng(0)
    d, p = np.log(rng.dirichlet(np.ones(4), size=(2, 3, 2))).astype(dtype)
    reward = rng.standard_normal((3, 2, 4)).astype(dtype)
    batch = bounds.overpayment(lift(d), lift(p), lift(reward))
    assert tuple(batch.shape) == (3, 2) and str(batch.dtype).endswith(dtype)
    assert isinstance(batch, type(lift(d)))
    for index in np.ndindex(3, 2):
        one = bounds.overpayment(d[index], p[index], reward[index])
        assert float(batch[index]) == pytest.approx(
            float(one), rel=1e3 * float(np.finfo(dtype).eps)
        )


@pytest.mark.parametrize("data", [[0.2, 0.3, 0.1, 0.4], [0.5, 0.3, 0.2, 0.0], [0.0, 0.6, 0.4, 0.0]])
def test_gradients(data):
    """Fixed l and fixed c: by the envelope theorem nothing is lost; l = 1 and zero mass included."""
    d = torch.log(torch.tensor(data, dtype=torch.float64))
    logits = torch.tensor([0.1, -0.4, 0.3, 1.5], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([0.0, 1.0, 2.5, 3.1], dtype=torch.float64, requires_grad=True)
    function = lambda x, r: bounds.overpayment(d, torch.log_softmax(x, -1), r)  # noqa: E731
    assert float(function(logits, reward).detach()) > 0
    assert torch.autograd.gradcheck(function, (logits, reward))


def test_gradient_in_the_data_law():
    logits = torch.tensor([0.1, -0.4, 0.3, 0.5], dtype=torch.float64, requires_grad=True)
    p = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
    reward = torch.tensor([0.0, 1.0, 2.5, 3.1], dtype=torch.float64)
    function = lambda x: bounds.overpayment(torch.log_softmax(x, -1), p, reward)  # noqa: E731
    assert torch.autograd.gradcheck(function, (logits,))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.overpayment(EVEN, [0.5, 0.5], REWARD), r"log_p: .*sum to 3\.297"),
        (lambda: bounds.overpayment(EVEN, EVEN, [0.0, math.nan]), r"reward\[1\]=nan: must be a finite"),
        (lambda: bounds.overpayment(EVEN, EVEN, [0.0, 1.0, 2.0]), r"reward \(3,\).*must agree"),
    ],
)  # fmt: skip
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
