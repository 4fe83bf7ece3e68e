"""What only the Triton launcher does; run by ``test_triton_interpreter.py`` in an interpreter process."""

import pytest
import torch
import triton
import triton.language as tl
from kernel_cases import EPS32, Model, gradients, kernel_stats
from test_token_kl import check_three_ways as check_kl
from test_token_stats import check_three_ways as check_stats
from test_token_stats import tokens_for

from nondecoupling.kernels import token_kl, token_stats, triton_launch, triton_stats
from nondecoupling.kernels.triton_configurations import CONFIGURATIONS, TMA_CONFIGURATIONS
from nondecoupling.kernels.triton_math import to_tf32


def test_this_process_runs_the_interpreter(impl):
    assert impl == "triton"
    assert type(triton_stats.stats_forward).__name__ == "InterpretedFunction"


@pytest.mark.parametrize("splits", [1, 2, 3, 4, 8, 16])
def test_partials_of_any_number_of_splits_agree(impl, splits, monkeypatch):
    head = Model.random(5, 1000, 7, bias=True)
    targets, exclude = tokens_for(head)
    monkeypatch.setattr(triton_launch, "splits_of", lambda blocks, tiles, processors: splits)
    columns = CONFIGURATIONS["stats_forward"]["float32"].columns
    assert -(-1000 // columns) == 16
    check_stats(impl, head, targets, exclude, torch.float32, {})
    check_kl(impl, head, head.moved(0.1), torch.float32, {})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_backward_in_several_chunks(impl, dtype, monkeypatch):
    monkeypatch.setattr(triton_launch, "BUFFER_BYTES", 1)
    head = Model.random(3, 300, 5, bias=True)
    targets, exclude = tokens_for(head)
    check_stats(impl, head, targets, exclude, dtype, {"softcap": 10.0})
    check_kl(impl, head, head.moved(0.1), dtype, {"softcap": 10.0})


def test_chunks_change_nothing(impl, monkeypatch):
    head = Model.random(6, 300, 5, bias=True).to(torch.float32)
    targets, exclude = tokens_for(head)
    results = []
    for size in (1 << 26, 1):
        monkeypatch.setattr(triton_launch, "BUFFER_BYTES", size)
        leaves = head.leaves()
        stats = kernel_stats(leaves, targets, exclude, impl=impl)
        results.append(gradients(stats, torch.ones(4, 6), leaves))
    for one, several in zip(*results, strict=True):
        assert torch.allclose(one, several, atol=32 * EPS32)


def test_a_dominant_logit_in_any_tile(impl):
    """The number of logits at the running maximum moves into the mass when a later tile raises it."""
    for position in (0, 128, 699):
        head = Model.random(2, 700, 3, bias=True)
        head.bias[position] += 14.0
        head.bias[(position + 350) % 700] += 9.0
        check_stats(impl, head, torch.full((2,), position), None, torch.float32, {})


def test_equal_logits_everywhere(impl):
    stats = token_stats(torch.zeros(2, 3), torch.zeros(700, 3), torch.tensor([5, 699]), impl=impl)
    expected = torch.tensor(700.0).log()
    for value, want in ((stats.logprob, -expected), (stats.logsumexp, expected)):
        assert torch.allclose(value, want.expand(2), atol=4 * EPS32)
    assert torch.allclose(stats.entropy, expected.expand(2), atol=4 * EPS32)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("slices", [1, 2, 4])
def test_descriptors_and_pointers_and_any_slices(impl, dtype, slices, monkeypatch):
    """Rows of 16 bytes take TMA's path, others the pointers'; each reduces its tile in slices."""
    name = str(dtype).removeprefix("torch.")
    with_descriptors = []
    chosen = triton_launch._chosen

    def noted(kernel, *heads, extended):
        tile, descriptors = chosen(kernel, *heads, extended=extended)
        if kernel == "stats_forward":
            with_descriptors.append(descriptors)
        return tile, descriptors

    monkeypatch.setattr(triton_launch, "_chosen", noted)
    for tiles, key in ((CONFIGURATIONS, "unaligned"), (TMA_CONFIGURATIONS[9], name)):
        tile = tiles["stats_forward"][key]._replace(slices=slices)
        monkeypatch.setitem(tiles["stats_forward"], key, tile)
    for width in (8, 9):
        head = Model.random(5, 700, width, bias=False)
        targets, _ = tokens_for(head)
        check_stats(impl, head, targets, None, dtype, {"temperature": 0.7})
    assert set(with_descriptors[:1]) == {True} and set(with_descriptors[-1:]) == {False}


@pytest.mark.parametrize("descriptors", [True, False])
def test_far_and_masked_logits_without_a_bias(impl, descriptors, monkeypatch):
    """The plain path meets -inf and differences beyond float32 too, through its inputs."""
    if not descriptors:
        monkeypatch.setattr(triton_launch, "fits_descriptors", lambda matrix: False)
    hidden = torch.ones(1, 8, dtype=torch.bfloat16)
    rows = [3e38, -3e38, -torch.inf, 3e38]
    weight = torch.zeros(600, 8, dtype=torch.bfloat16)
    weight[:, 0] = -torch.inf
    weight[[0, 5, 300, 599], 0] = torch.tensor(rows, dtype=torch.bfloat16)
    stats = token_stats(hidden, weight, torch.tensor([599]), impl=impl)
    two = torch.tensor([2.0]).log()
    assert torch.allclose(stats.logprob, -two) and torch.allclose(stats.entropy, two)
    weight[5, 0] = torch.inf
    stats = token_stats(hidden, weight, torch.tensor([599]), impl=impl)
    assert stats.logprob.isnan().all() and stats.entropy.isnan().all()
    nothing = token_stats(hidden, torch.full_like(weight, -torch.inf), torch.tensor([1]), impl=impl)
    assert nothing.logprob.isnan().all() and (nothing.logsumexp == -torch.inf).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [8, 9])
def test_one_head_of_two_models_is_loaded_once_and_changes_nothing(impl, dtype, width, monkeypatch):
    """The products are the same ones in the same order; with descriptors too, which no shipped divergence has."""
    plain = CONFIGURATIONS["kl_forward"]["float32"]
    for kernel in ("kl_forward", "kl_backward"):
        monkeypatch.setitem(
            TMA_CONFIGURATIONS[9], kernel, {"float32": plain, "bfloat16": plain._replace(depth=16)}
        )
    p = Model.random(5, 300, width, bias=True).to(dtype).leaves()
    q = p.moved(0.3).to(dtype).leaves()
    asked = []
    same = triton_launch.same_memory
    monkeypatch.setattr(
        triton_launch, "same_memory", lambda *two: asked.append(same(*two)) or asked[-1]
    )
    found = []
    for weight in (p.weight, p.weight.detach().clone()):
        kl = token_kl(
            *(p.hidden, p.weight, q.hidden, weight),
            **{"bias_p": p.bias, "bias_q": q.bias, "softcap": 10.0},
            impl=impl,
            synchronize=False,
        )
        found.append((kl, *torch.autograd.grad(kl.sum(), [p.hidden, q.hidden, p.bias, q.bias])))
    assert asked == [True] * 2 + [False] * 2
    for one, two in zip(*found, strict=True):
        assert one.isfinite().all() and one.any() and torch.equal(one, two)


def test_nothing_is_written_twice_or_never(impl):
    """Memory that was NaN before shows in no result."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        leaves = Model.random(133, 300, 8, bias=False).to(torch.bfloat16).leaves()
        stats = kernel_stats(leaves, torch.arange(133), None, impl=impl)
        found = [*stats, *gradients(stats, torch.ones(3, 133), leaves)]
        kl = token_kl(leaves.hidden, leaves.weight, leaves.hidden.flip(0), leaves.weight, impl=impl)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(bool(value.isfinite().all()) for value in (*found, kl))


def test_without_waiting_the_results_are_the_same(impl):
    head = Model.random(6, 300, 5, bias=True).to(torch.bfloat16)
    other = head.moved(0.3).to(torch.bfloat16)
    targets, exclude = tokens_for(head)
    results = []
    for synchronize in (True, False):
        p, q = head.leaves(), other.leaves()
        stats = kernel_stats(p, targets, exclude, impl=impl, synchronize=synchronize)
        kl = token_kl(
            *(p.hidden, p.weight, q.hidden, q.weight),
            bias_p=p.bias,
            bias_q=q.bias,
            impl=impl,
            synchronize=synchronize,
        )
        values = (*stats, kl)
        results.append([*values, *gradients(values, torch.ones(5, 6), p, q)])
    for waiting, free in zip(*results, strict=True):
        assert torch.equal(waiting, free)


def test_without_waiting_what_would_raise_or_be_taken_again_is_nan(impl):
    head = Model.random(4, 300, 5, bias=True).to(torch.float32)
    targets = torch.tensor([300, -5, 7, -100])
    with pytest.raises(IndexError, match=r"targets\[0\] is 300"):
        kernel_stats(head, targets, impl=impl)
    logprob = kernel_stats(head, targets, impl=impl, synchronize=False)[0]
    assert logprob.isnan().tolist() == [True, True, False, False] and logprob[3] == 0
    masked = head.bias.clone()
    masked[3] = -torch.inf
    arguments = (head.hidden, head.weight, head.hidden + 0.1, head.weight)
    options = {"bias_p": masked, "bias_q": head.bias, "impl": impl}
    assert token_kl(*arguments, **options).isfinite().all()
    assert token_kl(*arguments, **options, synchronize=False).isnan().all()


@triton.jit
def _rounded(x, out, N: tl.constexpr):
    places = tl.arange(0, N)
    tl.store(out + places, to_tf32(tl.load(x + places)))


def test_gradients_of_float16_are_rounded_to_tf32_and_not_cut(impl):
    """To nearest, ties away from zero as ``cvt.rna.tf32`` has them: one float32 in 8192 is a tie."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(0)
    x = torch.randn(1024, generator=generator, dtype=torch.float64)
    x = x.mul(10.0 ** torch.linspace(-30, 30, 1024, dtype=torch.float64)).float()
    x[:4] = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])
    ties = torch.arange(1024, 2048, 8)[:64] + 0.5  # of both parities, below and above
    x[4:68] = torch.ldexp(torch.where(torch.arange(64) % 2 == 0, ties, -ties - 1), torch.tensor(-9))
    out = torch.empty_like(x)
    _rounded[(1,)](x, out, N=1024)
    assert torch.equal(out[:4].nan_to_num(), x[:4].nan_to_num()) and out[2].isnan()
    mantissa, exponent = torch.frexp(x[4:].double())
    steps = mantissa * 2**11
    nearest = torch.ldexp((steps.abs() + 0.5).floor().copysign(steps) / 2**11, exponent)
    assert torch.equal(out[4:].double(), nearest)
    # Cut, as tensor cores would, it is smaller by half a step on average.
    cut = torch.ldexp(steps.trunc() / 2**11, exponent)
    bias = [float(((y - x[4:]) / x[4:])[64:].mean()) for y in (nearest, cut)]
    assert abs(bias[0]) < 5e-5 < 2e-4 < -bias[1]


def test_sums_taken_in_one_walk_are_the_sums(impl, monkeypatch):
    """As on a GPU; elsewhere the interpreter takes them one by one."""
    tile = CONFIGURATIONS["stats_forward"]["float32"]._replace(rows=16, columns=16)
    monkeypatch.setitem(CONFIGURATIONS["stats_forward"], "float32", tile)
    head = Model.random(3, 50, 5, bias=True)
    targets, exclude = tokens_for(head)
    found = []
    for together in (False, True):
        monkeypatch.setattr(triton_launch, "SUMS_TOGETHER", together)
        found.append(kernel_stats(head.to(torch.float32), targets, exclude, impl=impl))
    for one_by_one, together in zip(*found, strict=True):
        assert torch.allclose(one_by_one, together, rtol=0, atol=16 * EPS32)


@pytest.mark.parametrize("chunk", [(2, 100), (4, 1100), (1024, 8192)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_rival_by_chunks_of_a_product_is_as_exact(impl, dtype, chunk, monkeypatch):
    """Of the GPU session: it gives what the launcher gives, with every option, and the backward goes on from it."""
    from benchmarks.gpu_session.cublas_chunks import token_stats_forward

    called = []

    def rival(*arguments):
        called.append(arguments)
        return token_stats_forward(*arguments, chunk=chunk)

    monkeypatch.setattr(triton_launch, "token_stats_forward", rival)
    for options in ({}, {"softcap": 10.0, "temperature": 0.7}):
        head = Model.random(5, 1200, 7, bias=True)
        targets, exclude = tokens_for(head)
        check_stats(impl, head, targets, exclude, dtype, options)
    assert len(called) >= 2
