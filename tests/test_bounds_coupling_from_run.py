"""``coupling_from_run``: numbers of a run only, so the batch is what they broadcast to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nondecoupling import bounds


@pytest.mark.parametrize("lift", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_and_dtypes(lift, dtype):
    gain, kl = (lift(np.array(x, dtype=dtype)) for x in ([[0.3], [0.1]], [[2.0], [0.5]]))
    proved = bounds.coupling_from_run(gain, kl, lift(np.array([0.05, 0.1, 0.2], dtype=dtype)))
    assert str(proved.dtype).endswith(dtype) and type(proved) is type(gain)
    np.testing.assert_allclose(proved, [[4.0, 1.0, -0.5], [1.5, 0.5, 0.0]], atol=1e-6)
    assert bounds.coupling_from_run(0.3, 2.0, 0.1).shape == ()


def test_gradients():
    values = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (0.3, 2.0, 0.1)]
    assert torch.autograd.gradcheck(bounds.coupling_from_run, values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.3, -2.0, 0.1), r"kl=-2\.0: must be nonnegative"),
        ((0.3, 2.0, [0.1, 0.0]), r"beta\[1\]=0\.0: must be positive"),
        (
            (1.0, 0.0, 1e-309),
            r"beta=1e-309: reward_gain over it is beyond .*; choose a larger beta",
        ),
        ((-1.0, 0.0, [1.0, 1e-309]), r"beta\[1\]=1e-309: reward_gain over it"),
        ((np.nan, 2.0, 0.1), r"reward_gain=nan: must be a finite number"),
        (([0.3, 0.2], [1.0, 1.0, 1.0], 0.1), r"shapes reward_gain \(2,\), kl \(3,\).*broadcast"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        bounds.coupling_from_run(*arguments)
