"""Bad input gives an error that names the argument, the value and the remedy."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from nondecoupling.kernels import sequence_logprob, token_kl, token_stats
from nondecoupling.kernels.arguments import check_head

HIDDEN = torch.zeros(3, 4)
WEIGHT = torch.zeros(7, 4)
TARGETS = torch.tensor([0, 1, 2])


@pytest.mark.parametrize("route", ("chunked", "reference", "auto"))
@pytest.mark.parametrize("target", (7, -1, -99, 2**40))
def test_target_outside_the_vocabulary(route, target):
    with pytest.raises(IndexError, match=rf"targets\[1\] is {target}, outside \[0, 7\)"):
        token_stats(HIDDEN, WEIGHT, torch.tensor([0, target, -100]), impl=route)


@pytest.mark.parametrize("route", ("chunked", "reference"))
@pytest.mark.parametrize("token", (7, -2))
def test_excluded_token_outside_the_vocabulary(route, token):
    exclude = torch.tensor([[0, 1], [2, -1], [3, token]])
    with pytest.raises(IndexError, match=rf"exclude\[2, 1\] is {token}"):
        token_stats(HIDDEN, WEIGHT, TARGETS, exclude=exclude, impl=route)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"hidden": torch.zeros(1, 3, 4)}, ValueError, "hidden has shape .* flatten"),
        ({"weight": torch.zeros(7, 5)}, ValueError, "weight has shape .*D = 4"),
        ({"weight": torch.zeros(0, 4)}, ValueError, "must be at least 1"),
        ({"weight": torch.zeros(7)}, ValueError, "weight has shape"),
        ({"hidden": torch.zeros(3, 0), "weight": torch.zeros(7, 0)}, ValueError, "at least 1"),
        ({"weight": WEIGHT.double()}, TypeError, "weight has dtype torch.float64 .* convert"),
        ({"hidden": HIDDEN.long(), "weight": WEIGHT.long()}, TypeError, "hidden has dtype"),
        ({"hidden": [[0.0]]}, TypeError, "hidden must be a torch tensor, got list"),
        ({"weight": torch.zeros(7, 4, device="meta")}, ValueError, "weight is on meta .* move"),
        ({"bias": torch.zeros(6)}, ValueError, r"bias has shape \(6,\)"),
        ({"bias": torch.zeros(7).half()}, TypeError, "bias has dtype"),
        ({"targets": TARGETS.float()}, TypeError, "targets must be an integer"),
        ({"targets": TARGETS[:2]}, ValueError, r"targets has shape .* expected \[T\] with T = 3"),
        ({"targets": TARGETS[:, None]}, ValueError, "targets has shape"),
        ({"targets": TARGETS.to("meta")}, ValueError, "targets is on meta"),
        ({"exclude": TARGETS}, ValueError, r"exclude has shape .* \[T, k\]"),
        ({"exclude": torch.zeros(3, 2)}, TypeError, "exclude must be an integer"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0"),
        ({"temperature": float("nan")}, ValueError, "temperature is nan"),
        ({"temperature": float("inf")}, ValueError, "temperature is inf"),
        ({"temperature": 1e-300}, ValueError, "temperature is 1e-300; .*float32"),
        ({"temperature": 1e300}, ValueError, r"temperature is 1e\+300"),
        ({"temperature": 10**400}, ValueError, "temperature is too large for a float"),
        ({"temperature": torch.ones(3)}, TypeError, r"temperature .* a tensor of shape \(3,\)"),
        ({"temperature": torch.ones(1)}, TypeError, r"temperature .* use .item\(\)"),
        ({"temperature": None}, TypeError, "temperature must be a number, got None"),
        ({"temperature": "x"}, TypeError, "temperature must be a number, got 'x'"),
        ({"temperature": True}, TypeError, "temperature must be a number, got True"),
        ({"temperature": 1j}, TypeError, "temperature must be a number"),
        ({"temperature": [1.0]}, TypeError, "temperature must be a number"),
        ({"softcap": -1.0}, ValueError, "softcap is -1.0"),
        ({"softcap": 1e-300}, ValueError, "softcap is 1e-300"),
        ({"softcap": "x"}, TypeError, "softcap must be a number"),
        ({"softcap": torch.ones(2)}, TypeError, "softcap must be a number"),
        ({"softcap": 1e30, "temperature": 1e-30}, ValueError, "softcap / temperature"),
        ({"targets": [0, 1, 2]}, TypeError, "targets must be a torch tensor, got list"),
        ({"targets": None}, TypeError, "targets must be a torch tensor, got NoneType"),
        ({"targets": TARGETS.bool()}, TypeError, "targets must be an integer"),
        ({"targets": TARGETS.to_sparse()}, TypeError, "targets has the layout torch.sparse_coo"),
        ({"exclude": [[0], [1], [2]]}, TypeError, "exclude must be a torch tensor, got list"),
        ({"hidden": HIDDEN.to_sparse()}, TypeError, r"hidden has the layout .*to_dense"),
        ({"weight": WEIGHT.to_sparse_csr()}, TypeError, "weight has the layout"),
        ({"bias": torch.zeros(7).to_sparse()}, TypeError, "bias has the layout"),
        ({"bias": [0.0] * 7}, TypeError, "bias must be a torch tensor, got list"),
        ({"weight": WEIGHT.numpy()}, TypeError, "weight must be a torch tensor, got ndarray"),
        ({"hidden": HIDDEN.to(torch.complex64)}, TypeError, "hidden has dtype torch.complex64"),
        ({"ignore_index": None}, TypeError, "ignore_index must be an int, got None"),
        ({"ignore_index": 1.5}, TypeError, "ignore_index must be an int"),
        ({"ignore_index": 2**70}, ValueError, "ignore_index is .* 64 bits"),
        ({"impl": "cuda"}, ValueError, "impl is 'cuda'; choose one of 'auto'"),
        (
            {"impl": "triton", "hidden": HIDDEN.double(), "weight": WEIGHT.double()},
            TypeError,
            "use",
        ),
    ],
)
def test_token_stats(changed, error, message):
    arguments = {"hidden": HIDDEN, "weight": WEIGHT, "targets": TARGETS, **changed}
    with pytest.raises(error, match=message):
        token_stats(
            arguments.pop("hidden"), arguments.pop("weight"), arguments.pop("targets"), **arguments
        )


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"hidden_q": HIDDEN[:2]}, ValueError, "hidden_q has 2 tokens but hidden_p has 3"),
        ({"weight_q": WEIGHT[:6]}, ValueError, "weight_q has 6 rows .* share the vocabulary"),
        ({"hidden_q": HIDDEN.half(), "weight_q": WEIGHT.half()}, TypeError, "hidden_q has dtype"),
        ({"weight_q": torch.zeros(7, 5)}, ValueError, "weight_q has shape"),
        ({"bias_q": torch.zeros(3)}, ValueError, "bias_q has shape"),
        (
            {"hidden_q": HIDDEN.to("meta"), "weight_q": WEIGHT.to("meta")},
            ValueError,
            "hidden_q is on meta",
        ),
        ({"temperature": -1.0}, ValueError, "temperature is -1.0"),
        ({"temperature": torch.ones(3)}, TypeError, "temperature must be a number"),
        ({"hidden_q": HIDDEN.to_sparse()}, TypeError, "hidden_q has the layout"),
        ({"weight_p": WEIGHT.tolist()}, TypeError, "weight_p must be a torch tensor, got list"),
        ({"bias_q": WEIGHT[:, 0].to_sparse()}, TypeError, "bias_q has the layout"),
    ],
)
def test_token_kl(changed, error, message):
    arguments = {"hidden_p": HIDDEN, "weight_p": WEIGHT, "hidden_q": HIDDEN, "weight_q": WEIGHT}
    with pytest.raises(error, match=message):
        token_kl(**{**arguments, **changed})


def test_sequence_logprob():
    hidden, targets = HIDDEN.view(1, 3, 4), TARGETS.view(1, 3)
    with pytest.raises(ValueError, match="targets has shape"):
        sequence_logprob(hidden, WEIGHT, TARGETS)
    with pytest.raises(TypeError, match="mask has dtype"):
        sequence_logprob(hidden, WEIGHT, targets, torch.ones(1, 3))
    with pytest.raises(ValueError, match="mask has shape"):
        sequence_logprob(hidden, WEIGHT, targets, torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(TypeError, match="mask must be a torch tensor, got list"):
        sequence_logprob(hidden, WEIGHT, targets, [[True, True, True]])
    with pytest.raises(TypeError, match="targets must be a torch tensor, got list"):
        sequence_logprob(hidden, WEIGHT, [[0, 1, 2]])
    with pytest.raises(TypeError, match="hidden must be a torch tensor, got list"):
        sequence_logprob([[[0.0]]], WEIGHT, targets)
    with pytest.raises(TypeError, match="ignore_index must be an int"):
        sequence_logprob(hidden, WEIGHT, targets, ignore_index="x")


@pytest.mark.parametrize(
    "temperature", (2, np.float32(0.5), np.float64(0.5), Fraction(1, 2), 1e-30)
)
def test_any_real_number_is_a_temperature(temperature):
    hidden, weight = torch.ones(3, 4), torch.zeros(7, 4)
    entropy = token_stats(hidden, weight, TARGETS, temperature=temperature).entropy
    assert torch.allclose(entropy, torch.tensor(7.0).log().expand(3))


def test_a_temperature_may_be_smaller_in_float64():
    hidden, weight = torch.zeros(3, 4).double(), torch.zeros(7, 4).double()
    assert token_stats(hidden, weight, TARGETS, temperature=1e-300).entropy.isfinite().all()


def test_a_masked_out_position_may_hold_any_target():
    mask = torch.tensor([[True, False, True]])
    total = sequence_logprob(HIDDEN.view(1, 3, 4), WEIGHT, torch.tensor([[0, 999, 2]]), mask)
    assert torch.isfinite(total).all()


def test_triton_on_a_cpu_tensor_says_what_to_do():
    pytest.importorskip("triton", reason="Triton is not installed: there is nothing to launch")
    with pytest.raises(ValueError, match="use impl='chunked'"):
        token_stats(HIDDEN, WEIGHT, TARGETS, impl="triton")


def test_head_checks_pass_what_is_right():
    check_head(HIDDEN, WEIGHT, torch.zeros(7))
    check_head(HIDDEN[:0], WEIGHT, None)
    check_head(torch.zeros(1, 1), torch.zeros(1, 1), None)
