"""token_stats against float64 truth and eager torch: values, gradients, exclusion, extreme logits."""

import pytest
import torch
from kernel_cases import (
    EPS32,
    LOW_PRECISION,
    Model,
    assert_no_worse,
    eager_logits,
    eager_stats,
    gradient_bounds,
    gradients,
    kernel_stats,
    logit_error,
)

from nondecoupling.kernels import sequence_logprob, token_stats

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# (T, V, D): sizes of one, odd ones, tails of every tile size, several tiles.
SHAPES = ((1, 1, 1), (2, 5, 1), (1, 130, 3), (17, 300, 40), (70, 257, 129), (3, 1500, 5))
OPTIONS = (
    {},
    {"temperature": 0.7},
    {"softcap": 4.0},
    {"temperature": 1.5, "softcap": 20.0},
)
NAMES = ("logprob", "logsumexp", "entropy", "logsumexp_rest")


def tokens_for(head, seed=3, listed=3):
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    tokens, vocabulary = head.hidden.shape[0], head.weight.shape[0]
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    exclude = torch.randint(-1, vocabulary, (tokens, listed), generator=generator)
    return targets, exclude


def check_three_ways(impl, master, targets, exclude, dtype, options, seed=5):
    """Values and gradients of every output, with random upstream gradients on all of them."""
    head = master.to(dtype)
    routes = {}
    generator = torch.Generator(torch.get_default_device()).manual_seed(seed)
    upstream = torch.randn(4, len(targets), generator=generator, dtype=torch.float64)
    for name, function, precision in (
        ("kernel", lambda *a: kernel_stats(*a, impl=impl, **options), dtype),
        ("eager", lambda *a: eager_stats(*a, **options), dtype),
        ("truth", lambda *a: eager_stats(*a, **options), torch.float64),
    ):
        leaves = head.to(precision).leaves()
        values = function(leaves, targets, exclude)
        routes[name] = ([v.detach() for v in values], gradients(values, upstream, leaves))

    exact = head.to(torch.float64)
    temperature = options.get("temperature", 1.0)
    error = logit_error(exact, temperature)
    values = routes["truth"][0]
    # A logit error moves an entropy by at most itself times sum p |log p + H| <= 2 log V + 2.
    spread = 2 + 2 * torch.tensor(float(exact.weight.shape[0])).log()
    bounds = (2 * error, error, spread * error, error)
    for name, kernel, eager, truth, bound in zip(
        NAMES, routes["kernel"][0], routes["eager"][0], values, bounds, strict=False
    ):
        assert kernel.dtype == torch.float32
        assert_no_worse(kernel, eager, truth, bound, name)

    logits = eager_logits(exact, **options)
    log_p = torch.log_softmax(logits, dim=1)
    g = upstream.abs() / temperature
    sizes = (g[0] + g[1])[:, None] * log_p.exp()
    sizes += g[2][:, None] * log_p.exp() * (log_p.abs() + values[2][:, None])
    sizes += g[0][:, None] * (torch.arange(logits.shape[1]) == targets[:, None])
    if exclude is not None:
        sizes += g[3][:, None] * (logits - values[3][:, None]).exp().clamp(max=1)
    # log p, H and the three factors each carry the error of a logit; 1 - tanh^2 loses eps absolutely.
    bounds = gradient_bounds(exact, sizes, dtype, spread * error)
    for index, (kernel, eager, truth, bound) in enumerate(
        zip(routes["kernel"][1], routes["eager"][1], routes["truth"][1], bounds, strict=True)
    ):
        assert kernel.dtype == dtype
        assert_no_worse(kernel, eager, truth, bound, f"gradient {index}")
    return routes


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_and_gradients_are_no_worse_than_eager(impl, shape, dtype):
    index = SHAPES.index(shape)
    master = Model.random(*shape, bias=index % 2 == 0)
    targets, exclude = tokens_for(master)
    options = OPTIONS[index % len(OPTIONS)]
    check_three_ways(impl, master, targets, exclude if index % 3 else None, dtype, options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias", (False, True))
def test_every_option_together_with_every_other(impl, options, bias):
    master = Model.random(5, 150, 17, bias=bias)
    targets, exclude = tokens_for(master)
    check_three_ways(impl, master, targets, exclude, torch.float32, options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("confidence", (0.999, 1 - 1e-6))
def test_confident_logits_keep_the_gradient_of_the_true_class(impl, confidence, dtype):
    """At softmax 0.999 the gradient is p - 1 at the target: a small difference, right to its own size."""
    vocabulary, tokens = 50, 4
    weight = torch.zeros(vocabulary, 2, dtype=torch.float64)
    weight[:, 1] = torch.linspace(-1, 1, vocabulary)
    weight[7] = torch.tensor([1.0, 0.0])
    height = torch.tensor(confidence / (1 - confidence) * vocabulary, dtype=torch.float64).log()
    hidden = torch.stack([height.expand(tokens), 0.1 * torch.arange(tokens)], dim=1)
    head = Model(hidden, weight, None).to(dtype)
    targets = torch.full((tokens,), 7)

    leaves, exact = head.leaves(), head.to(torch.float64).leaves()
    got = gradients(kernel_stats(leaves, targets, impl=impl)[:1], torch.ones(1, tokens), leaves)
    truth = gradients(eager_stats(exact, targets)[:1], torch.ones(1, tokens), exact)
    assert float(truth[0][0, 0]) < 2 * (1 - confidence) * vocabulary
    relative = 2 * torch.finfo(dtype).eps + float(logit_error(head.to(torch.float64)).max())
    subnormal = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    # d logprob / d hidden[0] = 1 - p exactly: no other term.
    assert torch.allclose(got[0][:, 0].double(), truth[0][:, 0], rtol=relative, atol=subnormal)
    check_three_ways(impl, head, targets, None, dtype, {})


@pytest.mark.parametrize("shift", (-1e4, 1e4))
def test_far_shifted_logits(impl, shift):
    """All logits near -1e4: a running maximum that starts at 0 would report -inf or NaN."""
    master = Model.random(6, 140, 9, bias=True)
    master = Model(master.hidden, master.weight, master.bias + shift)
    targets, exclude = tokens_for(master)
    check_three_ways(impl, master, targets, exclude, torch.float32, {})


def test_huge_spread_of_logits(impl):
    """Logits from -1e4 to 1e4 within a row: nothing overflows, the entropy goes to 0."""
    vocabulary = 200
    weight = torch.linspace(-1e4, 1e4, vocabulary, dtype=torch.float64)[:, None]
    head = Model(torch.tensor([[1.0], [-1.0], [0.0]], dtype=torch.float64), weight, None)
    targets = torch.tensor([0, 0, 0])
    check_three_ways(impl, head, targets, torch.tensor([[199], [0], [5]]), torch.float32, {})


@pytest.mark.parametrize("ignore_index", (-100, 2))
def test_an_ignored_token_has_logprob_zero_and_no_gradient(impl, ignore_index):
    head = Model.random(4, 30, 5, bias=False).to(torch.float32)
    # Padding may hold anything; row 1 is ignored and NaN.
    hidden = head.hidden.clone()
    hidden[1] = torch.nan
    leaves = head.with_hidden(hidden).leaves()
    targets = torch.tensor([3, ignore_index, 5, ignore_index])
    stats = token_stats(leaves.hidden, leaves.weight, targets, ignore_index=ignore_index, impl=impl)
    assert stats.logprob[[1, 3]].tolist() == [0.0, 0.0]
    assert torch.isfinite(stats.logsumexp[3]) and torch.isfinite(stats.entropy[3])
    d_hidden, d_weight = torch.autograd.grad(stats.logprob.sum(), leaves.tensors())
    assert torch.equal(d_hidden[[1, 3]], torch.zeros(2, 5))
    assert torch.isfinite(d_weight).all()

    kept = head.with_hidden(head.hidden[[0, 2]]).leaves()
    only = token_stats(kept.hidden, kept.weight, torch.tensor([3, 5]), impl=impl)
    d_kept, d_weight_kept = torch.autograd.grad(only.logprob.sum(), kept.tensors())
    assert torch.allclose(d_hidden[[0, 2]], d_kept, atol=8 * EPS32)
    assert torch.allclose(d_weight, d_weight_kept, atol=8 * EPS32)


def test_all_tokens_ignored_gives_zero_gradients(impl):
    leaves = Model.random(3, 20, 4, bias=True).to(torch.float32).leaves()
    stats = token_stats(
        leaves.hidden, leaves.weight, torch.full((3,), -100), bias=leaves.bias, impl=impl
    )
    for gradient in torch.autograd.grad(stats.logprob.sum(), leaves.tensors()):
        assert not gradient.any()


def test_a_nan_hidden_state_stays_in_its_row(impl):
    head = Model.random(40, 150, 6, bias=False).to(torch.float32)
    clean = kernel_stats(head, *tokens_for(head), impl=impl)
    hidden = head.hidden.clone()
    hidden[11, 2] = torch.nan
    dirty = kernel_stats(head.with_hidden(hidden), *tokens_for(head), impl=impl)
    others = torch.arange(40) != 11
    for name, before, after in zip(NAMES, clean, dirty, strict=True):
        assert torch.isnan(after[11]), name
        assert torch.equal(before[others], after[others]), name


def test_exclude_is_a_set_and_minus_one_pads(impl):
    head = Model.random(2, 40, 5, bias=False).to(torch.float32)
    targets = torch.tensor([1, 2])
    once = kernel_stats(head, targets, torch.tensor([[4, 9, -1], [7, -1, -1]]), impl=impl)
    again = kernel_stats(head, targets, torch.tensor([[9, 4, 9], [-1, 7, 7]]), impl=impl)
    for before, after in zip(once, again, strict=True):
        assert torch.allclose(before, after, rtol=0, atol=4 * EPS32 * 10)


def test_exclude_of_nothing_and_of_everything(impl):
    vocabulary = 7
    leaves = Model.random(2, vocabulary, 3, bias=False).to(torch.float32).leaves()
    everything = torch.stack([torch.arange(vocabulary), torch.full((vocabulary,), -1)])
    stats = token_stats(
        leaves.hidden, leaves.weight, torch.tensor([0, 1]), exclude=everything, impl=impl
    )
    assert stats.logsumexp_rest is not None
    assert stats.logsumexp_rest[0] == -torch.inf
    assert torch.allclose(stats.logsumexp_rest[1], stats.logsumexp[1], atol=4 * EPS32)
    loss = stats.logsumexp_rest.sum()
    for gradient in torch.autograd.grad(loss, leaves.tensors()):
        assert torch.isfinite(gradient).all()
    no_columns = torch.empty(2, 0, dtype=torch.int64)
    stats = token_stats(
        leaves.hidden, leaves.weight, torch.tensor([0, 1]), exclude=no_columns, impl=impl
    )
    assert torch.allclose(stats.logsumexp_rest, stats.logsumexp, atol=4 * EPS32)


def test_mass_outside_a_confident_list_is_exact(impl):
    """log p(other) near -46, far below the float32 spacing of 1: a subtraction would return log 0."""
    weight = torch.cat([torch.full((3, 1), 50.0), torch.zeros(97, 1)]).double()
    weight[3:, 0] = torch.linspace(-1, 1, 97)
    head = Model(torch.ones(1, 1, dtype=torch.float64), weight, None).to(torch.float32)
    exclude = torch.tensor([[0, 1, 2]])
    _, lse, _, rest = kernel_stats(head, torch.tensor([0]), exclude, impl=impl)
    _, lse64, _, rest64 = eager_stats(head.to(torch.float64), torch.tensor([0]), exclude)
    assert (rest64 - lse64).item() < -45
    assert abs((rest - lse).item() - (rest64 - lse64).item()) <= 8 * EPS32 * 50


@pytest.mark.parametrize("dtype", DTYPES)
def test_double_results_are_those_before_their_last_rounding(impl, dtype):
    """Two logsumexps near 8192, of exact logits, differ by little: float32 keeps 0.0005 of each."""
    drawn = Model.random(4, 140, 9, bias=False)
    head = Model(drawn.hidden.round(), drawn.weight.round(), torch.full((140,), 8192.0)).to(dtype)
    targets, exclude = tokens_for(head)
    found, moved = {}, {}
    for double in (False, True):
        leaves = head.leaves()
        found[double] = kernel_stats(leaves, targets, exclude, impl=impl, double=double)
        moved[double] = gradients(found[double], torch.ones(4, 4), leaves)
    for single, wide in zip(found[False], found[True], strict=True):
        assert single.dtype == torch.float32 and wide.dtype == torch.float64
        assert torch.equal(single, wide.float())
    for one, other in zip(moved[False], moved[True], strict=True):
        assert torch.equal(one, other)
    truth = eager_stats(head.to(torch.float64), targets, exclude)
    rounded, exact = (
        (found[double][3].double() - found[double][1].double() - (truth[3] - truth[1])).abs().max()
        for double in (False, True)
    )
    assert exact <= 32 * EPS32 < 8192 * EPS32 / 16 < rounded


def test_empty_batch(impl):
    leaves = Model.random(0, 12, 4, bias=True).to(torch.float32).leaves()
    stats = kernel_stats(
        leaves,
        torch.empty(0, dtype=torch.int64),
        torch.empty(0, 2, dtype=torch.int64),
        impl=impl,
    )
    assert all(value.shape == (0,) and value.dtype == torch.float32 for value in stats)
    for gradient, leaf in zip(
        gradients(stats, torch.ones(4, 0), leaves), leaves.tensors(), strict=True
    ):
        assert torch.equal(gradient, torch.zeros_like(leaf))


def test_non_contiguous_inputs(impl):
    head = Model.random(9, 60, 8, bias=True).to(torch.float32)
    targets, exclude = tokens_for(head)
    strided = Model(
        head.hidden.T.contiguous().T,
        torch.stack([head.weight, head.weight], dim=2)[:, :, 0],
        torch.stack([head.bias, head.bias], dim=1)[:, 0],
    )
    assert not strided.hidden.is_contiguous() and not strided.weight.is_contiguous()
    plain, other = head.leaves(), strided.leaves()
    values = kernel_stats(plain, targets, exclude, impl=impl)
    strided_values = kernel_stats(
        other, targets.repeat_interleave(2)[::2], exclude.T.contiguous().T, impl=impl
    )
    for before, after in zip(values, strided_values, strict=True):
        assert torch.allclose(before, after, atol=8 * EPS32 * 10)
    upstream = torch.ones(4, 9)
    for before, after in zip(
        gradients(values, upstream, plain), gradients(strided_values, upstream, other), strict=True
    ):
        assert torch.allclose(before, after, atol=8 * EPS32 * 10)


def test_backward_is_deterministic(impl):
    head = Model.random(20, 300, 16, bias=True).to(torch.float32)
    targets, exclude = tokens_for(head)
    upstream = torch.randn(
        4, 20, generator=torch.Generator(torch.get_default_device()).manual_seed(0)
    )
    runs = []
    for _ in range(2):
        leaves = head.leaves()
        runs.append(gradients(kernel_stats(leaves, targets, exclude, impl=impl), upstream, leaves))
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("wanted", ("hidden", "weight", "bias"))
def test_gradient_of_one_input_alone(impl, wanted):
    head = Model.random(6, 50, 5, bias=True).to(torch.float32)
    targets, _ = tokens_for(head)
    every = head.leaves()
    results = kernel_stats(every, targets, impl=impl)
    all_gradients = gradients(results, torch.ones(3, 6), every)
    position = ("hidden", "weight", "bias").index(wanted)
    single = getattr(head, wanted).clone().requires_grad_()
    one = Model(**{**vars(head), wanted: single})
    loss = sum(value.sum() for value in kernel_stats(one, targets, impl=impl))
    (gradient,) = torch.autograd.grad(loss, single)
    assert torch.allclose(gradient, all_gradients[position], atol=8 * EPS32)


def test_low_precision_results_are_not_rounded_to_it(impl):
    """bfloat16 logits would be off by up to 0.03; float32 accumulation leaves only its own rounding."""
    head = Model.random(8, 200, 64, bias=False, scale=4.0)
    for dtype in LOW_PRECISION:
        low = head.to(dtype)
        targets, _ = tokens_for(low)
        exact = low.to(torch.float64)
        kernel = kernel_stats(low, targets, impl=impl)
        truth = eager_stats(exact, targets)
        for got, want in zip(kernel, truth, strict=True):
            allowed = 2 * (1 + torch.tensor(200.0).log()) * logit_error(exact)
            assert ((got.double() - want).abs() <= allowed).all()


def test_sequence_logprob_sums_over_the_mask(impl):
    head = Model.random(12, 25, 6, bias=True).to(torch.float32)
    targets, _ = tokens_for(head)
    mask = (
        torch.rand(3, 4, generator=torch.Generator(torch.get_default_device()).manual_seed(1)) < 0.5
    )
    hidden = head.hidden.view(3, 4, 6).clone()
    hidden[~mask] = torch.nan
    hidden.requires_grad_()
    total = sequence_logprob(
        hidden, head.weight, targets.view(3, 4), mask, bias=head.bias, impl=impl
    )
    each = kernel_stats(head, targets, impl=impl)[0].view(3, 4)
    assert torch.allclose(total, (each * mask).sum(dim=1), atol=8 * EPS32 * 20)
    (gradient,) = torch.autograd.grad(total.sum(), hidden)
    assert not gradient[~mask].any() and gradient[mask].any()
