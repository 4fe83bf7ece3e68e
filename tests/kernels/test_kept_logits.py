"""Logits that are kept for the backward: the gradients of recomputed ones, and memory only where it is used."""

import pytest
import torch
from kernel_cases import Model, gradients, kernel_kl, kernel_stats

from nondecoupling.kernels import token_kl, token_stats
from nondecoupling.kernels.tiles import TOKENS_PER_TILE

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
OPTIONS = ({}, {"temperature": 0.7, "softcap": 4.0})
# Several tiles of tokens and of columns, neither a multiple of a tile.
SHAPE = (TOKENS_PER_TILE + 3, 1100, 4)


def cases(dtype):
    p = Model.random(*SHAPE, bias=True)
    q = p.moved(0.3)
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, SHAPE[1], SHAPE[:1], generator=generator)
    exclude = torch.randint(-1, SHAPE[1], (SHAPE[0], 3), generator=generator)
    upstream = torch.randn(4, SHAPE[0], generator=generator, dtype=torch.float64)
    return p.to(dtype).leaves(), q.to(dtype).leaves(), targets, exclude, upstream


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients_are_those_of_recomputed_logits_bit_for_bit(dtype, options):
    p, q, targets, exclude, upstream = cases(dtype)
    for heads, values in (
        ([p], lambda keep: kernel_stats(p, targets, exclude, keep_logits=keep, **options)),
        ([p, q], lambda keep: (kernel_kl(p, q, keep_logits=keep, **options),)),
    ):
        again, kept = values(False), values(True)
        assert all(torch.equal(first, second) for first, second in zip(again, kept, strict=True))
        for first, second in zip(
            gradients(again, upstream, *heads), gradients(kept, upstream, *heads), strict=True
        ):
            assert torch.equal(first, second)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tokens_without_upstream_gradient_are_left_out(options):
    """The logits that are kept are of all tokens; the backward takes the rows of the others."""
    p, q, targets, exclude, upstream = cases(torch.float64)
    upstream[:, 1::3] = 0
    with torch.no_grad():
        p.hidden[1] = torch.nan
    for heads, values in (
        ([p], lambda keep: kernel_stats(p, targets, exclude, keep_logits=keep, **options)),
        ([p, q], lambda keep: (kernel_kl(p, q, keep_logits=keep, **options),)),
    ):
        found, expected = (gradients(values(keep), upstream, *heads) for keep in (True, False))
        for first, second in zip(found, expected, strict=True):
            assert torch.isfinite(first).all()
            torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", (0.0, -torch.inf))
def test_far_and_one_sided_logits_are_taken_again(masked):
    weight = torch.tensor([[0.0, 1.0], [300.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    p, q = torch.tensor([[1.0, 0.5], [0.1, 2.0]]), torch.tensor([[-1.0, 0.5], [0.1, 2.001]])
    leaves = [tensor.clone().requires_grad_() for tensor in (p, weight, q, weight)]
    bias = torch.tensor([0.0, 0.0, 0.0, masked])
    kl = [token_kl(*leaves, bias_p=bias, keep_logits=keep) for keep in (True, False)]
    found, expected = (torch.autograd.grad(value.sum(), leaves) for value in kl)
    assert torch.equal(*kl) and torch.isfinite(kl[0]).all() and (kl[0] > 0).all()
    assert all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


@pytest.mark.parametrize("differentiated", (False, True))
def test_they_are_kept_only_for_a_backward(differentiated):
    """Nothing of size [T, V] is stored without a graph; with one, autograd holds it."""
    hidden, weight = torch.randn(8, 4, requires_grad=differentiated), torch.randn(30, 4)
    stored = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: stored.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        logprob = token_stats(hidden, weight, torch.arange(8), keep_logits=True).logprob
    assert logprob.requires_grad is differentiated
    assert (8 * 30 in stored) is differentiated


@pytest.mark.parametrize("models", (1, pytest.param(2, marks=pytest.mark.slow)))
def test_nothing_else_of_that_size_is_held(models):
    """Peak memory of forward and backward: the logits, for a divergence also the gaps, and a few tiles."""
    tokens, vocabulary, width = 1024, 30_000, 4
    heads = [Model.random(tokens, vocabulary, width, bias=False, seed=k) for k in range(models)]
    heads = [head.to(torch.float32).leaves() for head in heads]
    targets = torch.zeros(tokens, dtype=torch.int64)
    with torch.profiler.profile(profile_memory=True) as profiler:
        if models == 1:
            values = kernel_stats(*heads, targets, keep_logits=True)[0]
        else:
            values = kernel_kl(*heads, keep_logits=True)
        torch.autograd.grad(values.sum(), [leaf for head in heads for leaf in head.tensors()])
    level = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    logits = models * tokens * vocabulary * 4
    assert logits < peak < 1.25 * logits


@pytest.mark.parametrize("keep", ("no", 1))
def test_it_is_yes_or_no(keep):
    hidden, weight = torch.randn(2, 4), torch.randn(5, 4)
    with pytest.raises(TypeError, match=r"keep_logits is .*; use True or False"):
        token_stats(hidden, weight, torch.arange(2), keep_logits=keep)
    with pytest.raises(ValueError, match="choose one of 'auto'"):
        token_stats(hidden, weight, torch.arange(2), impl="nope", keep_logits=True)


@pytest.mark.parametrize("impl", ("reference", "triton"))
def test_other_implementations_do_not_keep_on_request(impl):
    hidden, weight = torch.randn(2, 4), torch.randn(5, 4)
    with pytest.raises(ValueError, match=f"keep_logits is True and impl is '{impl}'"):
        token_stats(hidden, weight, torch.arange(2), impl=impl, keep_logits=True)
    with pytest.raises(ValueError, match="'chunked'"):
        token_kl(hidden, weight, hidden, weight, impl=impl, keep_logits=True)
