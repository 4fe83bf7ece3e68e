"""Reference and chunked in float64: gradcheck, and agreement with each other and with the definitions."""

import pytest
import torch
from kernel_cases import Model, eager_kl, eager_stats, gradients, kernel_kl, kernel_stats

from nondecoupling.kernels import reference, tiles

OPTIONS = ({}, {"temperature": 0.6, "softcap": 3.0})
EPS64 = torch.finfo(torch.float64).eps


@pytest.fixture(params=["reference", "chunked"])
def route(request, monkeypatch):
    # Small tiles, so that a small problem has several of each kind and a tail.
    monkeypatch.setattr(tiles, "TOKENS_PER_TILE", 2)
    monkeypatch.setattr(tiles, "LOGITS_PER_TILE", 8)
    monkeypatch.setattr(tiles, "SMALLEST_WIDTH", 4)
    return request.param


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradcheck_of_token_stats(route, options):
    head = Model.random(5, 11, 3, bias=True).leaves()
    targets = torch.tensor([0, 10, -100, 4, 7])
    exclude = torch.tensor([[0, 1], [4, -1], [-1, -1], [4, 4], [10, 9]])

    def function(hidden, weight, bias):
        return kernel_stats(Model(hidden, weight, bias), targets, exclude, impl=route, **options)

    assert torch.autograd.gradcheck(function, tuple(head.tensors()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("size", (1e-2, pytest.param(1.0, marks=pytest.mark.slow)))
def test_gradcheck_of_token_kl(route, options, size):
    p = Model.random(3, 7, 2, bias=True)
    heads = p.leaves().tensors() + p.moved(size).leaves().tensors()

    def function(*tensors):
        return kernel_kl(Model(*tensors[:3]), Model(*tensors[3:]), impl=route, **options)

    assert torch.autograd.gradcheck(function, tuple(heads))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_float64_in_float64_out(route, options):
    head = Model.random(5, 23, 4, bias=True)
    targets = torch.tensor([0, 22, -100, 4, 7])
    exclude = torch.tensor([[0, 1], [4, -1], [-1, -1], [4, 4], [10, 9]])
    leaves, exact = head.leaves(), head.leaves()
    got = kernel_stats(leaves, targets, exclude, impl=route, **options)
    want = eager_stats(exact, targets, exclude, **options)
    upstream = torch.randn(
        4, 5, generator=torch.Generator(torch.get_default_device()).manual_seed(0)
    )
    for first, second in zip(got, want, strict=True):
        assert first.dtype == torch.float64
        assert torch.allclose(first, second, rtol=0, atol=100 * EPS64 * 10)
    for first, second in zip(
        gradients(got, upstream, leaves), gradients(want, upstream, exact), strict=True
    ):
        assert torch.allclose(first, second, rtol=0, atol=100 * EPS64 * 10)
    q = head.moved(0.3)
    kl = kernel_kl(head, q, impl=route, **options)
    assert kl.dtype == torch.float64
    assert torch.allclose(kl, eager_kl(head, q, **options), rtol=0, atol=100 * EPS64 * 10)


def test_phi_is_accurate_on_both_sides_of_its_switch():
    u64 = torch.linspace(-0.5, 0.5, 4001, dtype=torch.float64)
    u64 = u64[u64 != 0]
    exact = sum(u64**k / torch.lgamma(torch.tensor(k + 1.0).double()).exp() for k in range(2, 20))
    for dtype in (torch.float32, torch.float64):
        u = u64.to(dtype)
        powers = u.double()
        exact = sum(
            powers**k / torch.lgamma(torch.tensor(k + 1.0).double()).exp() for k in range(2, 20)
        )
        relative = ((reference.phi(u).double() - exact) / exact).abs().max()
        assert relative <= 4 * torch.finfo(dtype).eps ** 0.8


def test_reference_keeps_tiny_divergences_in_float32():
    p = Model.random(16, 300, 8, bias=False).to(torch.float32)
    q = p.moved(1e-4).to(torch.float32)
    truth = eager_kl(p.to(torch.float64), q.to(torch.float64))
    assert truth.max() < 1e-6
    kl = kernel_kl(p, q, impl="reference")
    assert (kl >= 0).all()
    assert ((kl.double() - truth) / truth).abs().max() <= 1e-3
    naive = eager_kl(p, q)
    assert ((naive.double() - truth) / truth).abs().max() > 1e-1


def test_chunked_matches_one_tile_whatever_the_tile(monkeypatch):
    head = Model.random(13, 301, 7, bias=True)
    targets = torch.arange(13) * 20
    exclude = torch.arange(26).view(13, 2) * 11
    results = []
    for tokens, logits in ((1024, 1 << 20), (5, 40), (1, 7), (13, 13 * 301)):
        monkeypatch.setattr(tiles, "TOKENS_PER_TILE", tokens)
        monkeypatch.setattr(tiles, "LOGITS_PER_TILE", logits)
        monkeypatch.setattr(tiles, "SMALLEST_WIDTH", 1)
        leaves, q = head.leaves(), head.moved(0.2).leaves()
        values = kernel_stats(leaves, targets, exclude, impl="chunked")
        kl = kernel_kl(leaves, q, impl="chunked")
        results.append(
            [*values, *gradients(values, torch.ones(4, 13), leaves)]
            + [kl, *gradients((kl,), torch.ones(1, 13), leaves, q)]
        )
    for other in results[1:]:
        for first, second in zip(results[0], other, strict=True):
            assert torch.allclose(first, second, rtol=1e-11, atol=1e-13)


@pytest.mark.slow  # at a size that shows
def test_chunked_never_holds_the_logits():
    """Peak memory of forward and backward beyond inputs and gradients: a few tiles, not [T, V]."""
    tokens, vocabulary, width = 2048, 30_000, 4
    head = Model.random(tokens, vocabulary, width, bias=False).to(torch.float32).leaves()
    targets = torch.zeros(tokens, dtype=torch.int64)
    with torch.profiler.profile(profile_memory=True) as profiler:
        logprob = kernel_stats(head, targets, impl="chunked")[0]
        torch.autograd.grad(logprob.sum(), head.tensors())
    level = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    assert 0 < peak < tokens * vocabulary * 4 / 8


def test_torch_has_no_product_of_bfloat16_with_a_float32_result_on_a_cpu():
    """Rounding logits to bfloat16 would lose them, so tiles are converted first; once it has one, they need not be."""
    x = torch.ones(2, 2, dtype=torch.bfloat16)
    with pytest.raises(NotImplementedError, match="aten::mm"):
        torch.mm(x, x, out_dtype=torch.float32)
