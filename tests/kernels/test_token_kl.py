"""token_kl against float64 truth: tiny and huge divergences, both gradients, extreme logits."""

import pytest
import torch
from kernel_cases import (
    EPS32,
    Model,
    assert_no_worse,
    eager_kl,
    eager_logits,
    gradient_bounds,
    gradients,
    kernel_kl,
    logit_error,
)

from nondecoupling.kernels import tiles

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = ((1, 1, 1), (2, 5, 1), (1, 130, 3), (17, 300, 40), (70, 257, 129), (3, 1500, 5))
OPTIONS = ({}, {"temperature": 0.7}, {"softcap": 4.0}, {"temperature": 1.5, "softcap": 20.0})


def check_three_ways(impl, master_p, master_q, dtype, options):
    p, q = master_p.to(dtype), master_q.to(dtype)
    generator = torch.Generator(torch.get_default_device()).manual_seed(5)
    upstream = torch.randn(1, p.hidden.shape[0], generator=generator, dtype=torch.float64)
    routes = {}
    for name, function, precision in (
        ("kernel", lambda *a: kernel_kl(*a, impl=impl, **options), dtype),
        ("eager", lambda *a: eager_kl(*a, **options), dtype),
        ("truth", lambda *a: eager_kl(*a, **options), torch.float64),
    ):
        leaves = p.to(precision).leaves(), q.to(precision).leaves()
        value = function(*leaves)
        routes[name] = value.detach(), gradients((value,), upstream, *leaves)

    exact_p, exact_q = p.to(torch.float64), q.to(torch.float64)
    temperature = options.get("temperature", 1.0)
    error = logit_error(exact_p, temperature) + logit_error(exact_q, temperature)
    log_p = torch.log_softmax(eager_logits(exact_p, **options), dim=1)
    log_q = torch.log_softmax(eager_logits(exact_q, **options), dim=1)
    kernel, eager, truth = (routes[name][0] for name in ("kernel", "eager", "truth"))
    assert kernel.dtype == torch.float32
    assert (kernel >= 0).all()
    # dKL = sum p (u + KL) dz_p + (q - p) dz_q: at most this times the error of a logit.
    slope = (log_p.exp() * (log_q - log_p + truth[:, None]).abs()).sum(dim=1)
    slope += (log_q.exp() - log_p.exp()).abs().sum(dim=1)
    assert_no_worse(kernel, eager, truth, error * (slope + error) + 4 * EPS32 * truth, "kl")

    scale = upstream[0].abs()[:, None] / temperature
    sizes_p = scale * log_p.exp() * ((log_q - log_p).abs() + truth[:, None])
    sizes_q = scale * (log_q.exp() - log_p.exp()).abs()
    # A logit error moves u itself, so it acts on p (and q) and not on the small difference alone.
    moved = error[:, None] * scale * torch.maximum(log_p.exp(), log_q.exp())
    moved = moved * (2 + (log_q - log_p).abs() + truth[:, None])
    bounds = [
        rounding + drift
        for head, sizes in ((exact_p, sizes_p), (exact_q, sizes_q))
        for rounding, drift in zip(
            gradient_bounds(head, sizes, dtype, 8 * EPS32 * torch.ones_like(truth)),
            gradient_bounds(head, moved, torch.float32, torch.ones_like(truth)),
            strict=True,
        )
    ]
    for index, (kernel, eager, truth, bound) in enumerate(
        zip(routes["kernel"][1], routes["eager"][1], routes["truth"][1], bounds, strict=True)
    ):
        assert kernel.dtype == dtype
        assert_no_worse(kernel, eager, truth, bound, f"gradient {index}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_no_worse_than_eager(impl, shape, dtype):
    index = SHAPES.index(shape)
    p = Model.random(*shape, bias=index % 2 == 0)
    check_three_ways(impl, p, p.moved(0.2), dtype, OPTIONS[index % len(OPTIONS)])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias", (False, True))
@pytest.mark.parametrize("size", (1e-3, 1.0))
def test_options(impl, options, bias, size):
    p = Model.random(5, 150, 17, bias=bias)
    check_three_ways(impl, p, p.moved(size), torch.float32, options)


@pytest.mark.parametrize("exponent", range(-8, 3))
def test_relative_error_from_tiny_to_huge(impl, exponent):
    """At most 1e-3 relative from 1e-8 to 1e2; the difference of two cross-entropies fails below 1e-5."""
    p = Model.random(16, 300, 8, bias=False)
    size = 10.0 ** (exponent / 2)
    # Rounded to float32 before the truth is taken: the kernel is judged on the inputs it is given.
    single_p = p.to(torch.float32)
    for _ in range(40):
        single_q = p.moved(size).to(torch.float32)
        truth = eager_kl(single_p.to(torch.float64), single_q.to(torch.float64))
        if exponent <= torch.log10(truth.median()) < exponent + 1:
            break
        size *= 10.0 ** ((exponent + 0.5 - float(torch.log10(truth.median()))) / 2)
    else:
        pytest.fail(f"no pair of models at a divergence of 1e{exponent}")
    kl = kernel_kl(single_p, single_q, impl=impl).double()
    assert (kl >= 0).all()
    assert ((kl - truth) / truth).abs().max() <= 1e-3


@pytest.mark.parametrize("options", ({}, {"temperature": 0.7, "softcap": 5.0}), ids=str)
@pytest.mark.parametrize("shared", (False, True))
def test_tiny_divergences_are_taken_again_from_differences(impl, shared, options):
    """Down to 1e-12, where the rounding of two logits is a hundred times the gap between them."""
    p = Model.random(4, 300, 64, bias=True).to(torch.float32)
    q = p.moved(1e-6).to(torch.float32)
    if shared:
        q = Model(q.hidden, p.weight, p.bias)
    truth = kernel_kl(p.to(torch.float64), q.to(torch.float64), impl="reference", **options)
    kl = kernel_kl(p, q, impl=impl, **options).double()
    assert (truth < 1e-10).all()
    assert ((kl - truth) / truth).abs().max() <= 1e-3


def test_identical_models_have_zero_divergence_and_gradient(impl):
    leaves = Model.random(9, 210, 12, bias=True).to(torch.float32).leaves()
    kl = kernel_kl(leaves, leaves, impl=impl)
    assert (kl >= 0).all() and (kl <= 1e-12).all()
    for gradient in gradients((kl,), torch.ones(1, 9), leaves):
        assert gradient.abs().max() <= 16 * EPS32


def test_a_common_shift_of_the_logits_is_invisible(impl):
    """q = p with every logit raised by 5000: the centre removes it before anything is exponentiated."""
    p = Model.random(4, 200, 6, bias=True)
    q = Model(p.hidden, p.weight, p.bias + 5000)
    kl = kernel_kl(p.to(torch.float32), q.to(torch.float32), impl=impl)
    # Each logit of q is rounded at 5000: an error delta with E delta^2 <= (eps * 5000)^2.
    assert (kl >= 0).all() and (kl <= (4 * EPS32 * 5000) ** 2).all()


@pytest.mark.parametrize("height", (30.0, 150.0, 5000.0))
def test_models_that_disagree_completely(impl, height):
    """q gives e^height times more than p to a token: the small form overflows, the gap form is exact."""
    vocabulary = 200
    bias_p, bias_q = torch.zeros(2, vocabulary, dtype=torch.float64)
    bias_p[3], bias_q[190] = height, height
    zeros = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(vocabulary, 1, dtype=torch.float64)
    p, q = Model(*zeros, bias_p), Model(*zeros, bias_q)
    check_three_ways(impl, p, q, torch.float32, {})
    kl = kernel_kl(p.to(torch.float32), q.to(torch.float32), impl=impl)
    assert torch.allclose(kl.double(), eager_kl(p, q), rtol=1e-5)


@pytest.mark.parametrize("height", (90.0, 110.0, 800.0, 2000.0))
@pytest.mark.parametrize("share", (1.0, 1e-4))
@pytest.mark.parametrize("places", ((3, 250), (250, 3)))
def test_q_puts_mass_where_p_underflows(impl, monkeypatch, height, share, places):
    """p is certain of one token; q gives a share of its mass to another, in a tile where p has none."""
    monkeypatch.setattr(tiles, "LOGITS_PER_TILE", 64)
    monkeypatch.setattr(tiles, "SMALLEST_WIDTH", 32)
    vocabulary = 300
    bias_p, bias_q = torch.zeros(2, vocabulary, dtype=torch.float64)
    bias_p[places[0]] = bias_q[places[0]] = height
    bias_q[places[1]] = torch.tensor(share).log() + height
    zeros = torch.zeros(1, 1), torch.zeros(vocabulary, 1)
    p, q = (Model(*zeros, bias.float()) for bias in (bias_p, bias_q))
    truth = eager_kl(p.to(torch.float64), q.to(torch.float64))
    kl = kernel_kl(p, q, impl=impl)
    assert torch.allclose(kl.double(), truth, rtol=1e-3, atol=0)


@pytest.mark.parametrize("shift", (-1e4, 1e4))
def test_far_shifted_logits(impl, shift):
    p = Model.random(6, 140, 9, bias=True)
    q = p.moved(0.1)
    p, q = (Model(h.hidden, h.weight, h.bias + shift) for h in (p, q))
    check_three_ways(impl, p, q, torch.float32, {})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_confident_models(impl, dtype):
    """Both models above 0.999 on one token, with different remainders."""
    p = Model.random(6, 120, 9, bias=True)
    p.bias[17] += 16.0
    check_three_ways(impl, p, p.moved(0.05), dtype, {})


def test_widths_of_the_two_models_may_differ(impl):
    p = Model.random(7, 90, 5, bias=True)
    q = Model.random(7, 90, 11, bias=False, seed=2)
    check_three_ways(impl, p, q, torch.float32, {})


def test_a_nan_hidden_state_stays_in_its_row(impl):
    p = Model.random(20, 150, 6, bias=False).to(torch.float32)
    q = p.moved(0.1).to(torch.float32)
    clean = kernel_kl(p, q, impl=impl)
    for side in (0, 1):
        hidden = (p, q)[side].hidden.clone()
        hidden[11, 2] = torch.nan
        pair = [p, q]
        pair[side] = pair[side].with_hidden(hidden)
        dirty = kernel_kl(*pair, impl=impl)
        others = torch.arange(20) != 11
        assert torch.isnan(dirty[11])
        assert torch.equal(clean[others], dirty[others])


def test_tokens_without_upstream_gradient_pass_none(impl):
    p = Model.random(6, 60, 5, bias=True).to(torch.float32)
    q = p.moved(0.3).to(torch.float32)
    hidden = p.hidden.clone()
    hidden[2] = torch.nan
    leaves = p.with_hidden(hidden).leaves(), q.leaves()
    kl = kernel_kl(*leaves, impl=impl)
    weights = torch.tensor([1.0, 2.0, 0.0, -1.0, 0.5, 1.0])
    tensors = [t for head in leaves for t in head.tensors()]
    results = torch.autograd.grad(kl, tensors, grad_outputs=weights)
    for gradient in results:
        assert torch.isfinite(gradient).all()
    assert not results[0][2].any() and not results[3][2].any()


def test_empty_batch(impl):
    p = Model.random(0, 12, 4, bias=True).to(torch.float32).leaves()
    q = Model.random(0, 12, 3, bias=False).to(torch.float32).leaves()
    kl = kernel_kl(p, q, impl=impl)
    assert kl.shape == (0,) and kl.dtype == torch.float32
    for gradient, leaf in zip(
        gradients((kl,), torch.ones(1, 0), p, q), p.tensors() + q.tensors(), strict=True
    ):
        assert torch.equal(gradient, torch.zeros_like(leaf))


def test_non_contiguous_inputs(impl):
    p = Model.random(9, 60, 8, bias=True).to(torch.float32)
    q = p.moved(0.2).to(torch.float32)
    strided = Model(
        p.hidden.T.contiguous().T,
        torch.stack([p.weight, p.weight], dim=2)[:, :, 0],
        torch.stack([p.bias, p.bias], dim=1)[:, 0],
    )
    assert not strided.hidden.is_contiguous() and not strided.weight.is_contiguous()
    assert torch.allclose(kernel_kl(strided, q, impl=impl), kernel_kl(p, q, impl=impl), rtol=1e-5)
    assert torch.allclose(kernel_kl(q, strided, impl=impl), kernel_kl(q, p, impl=impl), rtol=1e-5)


def test_backward_is_deterministic(impl):
    p = Model.random(20, 300, 16, bias=True).to(torch.float32)
    q = p.moved(0.2).to(torch.float32)
    runs = []
    for _ in range(2):
        leaves = p.leaves(), q.leaves()
        runs.append(gradients((kernel_kl(*leaves, impl=impl),), torch.ones(1, 20), *leaves))
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("side", (0, 1))
def test_gradient_to_one_model_alone(impl, side):
    p = Model.random(6, 60, 5, bias=True).to(torch.float32)
    q = p.moved(0.3).to(torch.float32)
    both = p.leaves(), q.leaves()
    every = gradients((kernel_kl(*both, impl=impl),), torch.ones(1, 6), *both)
    pair = [p, q]
    pair[side] = pair[side].leaves()
    alone = gradients((kernel_kl(*pair, impl=impl),), torch.ones(1, 6), pair[side])
    for first, second in zip(alone, every[3 * side : 3 * side + 3], strict=True):
        assert torch.allclose(first, second, atol=8 * EPS32)
