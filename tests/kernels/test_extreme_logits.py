"""Masked tokens (-inf), finfo.min and logits farther apart than any float: values and gradients against the definition.

0 log 0 = 0, in values and in gradients; a divergence is infinite only where p has mass that q lacks; a difference of
two finite logits may overflow and still mean something. The truth here is ``Law``, in float64 with every case spelled
out, and no autograd.
"""

import pytest
import torch
from kernel_cases import EPS32, Model, gradients, kernel_kl, kernel_stats

from nondecoupling.kernels import tiles

INF = torch.inf
VOCABULARY = 420
LOWEST = torch.finfo(torch.float32).min
# Stretches wider than a tile, first and last tiles, single tokens, all but one token.
MASKS = {
    "first": range(150),
    "last": range(260, VOCABULARY),
    "middle": range(70, 330),
    "ends": (0, VOCABULARY - 1),
    "every other": range(0, VOCABULARY, 2),
    "all but one": [j for j in range(VOCABULARY) if j != 333],
}


@pytest.fixture(params=["reference", "shipped"])
def route(request, impl, monkeypatch):
    # Tiles of 64 columns, so that a stretch is wider than one (the kernels' own are 64 or 128).
    monkeypatch.setattr(tiles, "LOGITS_PER_TILE", 64)
    monkeypatch.setattr(tiles, "SMALLEST_WIDTH", 64)
    return impl if request.param == "shipped" else "reference"


class Law:
    """softmax of logits [T, V] in float64, kept as (z - max) - log sum, so that no size of the logits drowns it."""

    def __init__(self, logits):
        self.maximum = logits.amax(dim=1, keepdim=True)
        below = logits - self.maximum
        self.log_mass = below.exp().sum(dim=1, keepdim=True).log()
        self.log_p = below - self.log_mass
        self.p = self.log_p.exp()
        self.logsumexp = (self.maximum + self.log_mass)[:, 0]
        self.surprise = torch.where(self.p == 0, 0, -self.log_p)
        self.entropy = (self.p * self.surprise).sum(dim=1)


def logits_of(model, temperature=1.0, softcap=None):
    logits = model.hidden @ model.weight.T + model.bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits / temperature


def true_stats(logits, targets, exclude):
    """Values, and the gradients of each with respect to the logits."""
    law = Law(logits)
    rows = torch.arange(len(targets))
    hit = torch.zeros_like(logits)
    hit[rows, targets] = 1
    kept = logits.clone()
    for row, tokens in enumerate(exclude.tolist()):
        kept[row, tokens] = -INF
    nothing = (kept == -INF).all(dim=1)
    rest = Law(torch.where(nothing[:, None], 0, kept))
    outside = torch.where(nothing, -INF, rest.logsumexp)
    values = (law.log_p[rows, targets], law.logsumexp, law.entropy, outside)
    slopes = (hit - law.p, law.p, law.p * (law.surprise - law.entropy[:, None]), rest.p)
    return values, slopes


def true_kl(logits_p, logits_q):
    """The value, and its gradients with respect to both logits."""
    p, q = Law(logits_p), Law(logits_q)
    # Across the maxima, log p - log q may be beyond float64 only where p has no mass.
    ratio = torch.where(p.p == 0, 0, p.log_p - q.log_p)
    kl = (p.p * ratio).sum(dim=1)
    return kl, p.p * (ratio - kl[:, None]), q.p - p.p


def backward(model, slope, temperature, softcap=None):
    """Gradients of hidden, weight and bias from those of the logits."""
    if softcap is not None:
        capped = logits_of(model, softcap=softcap) / softcap
        slope = slope * (1 - capped.square())
    slope = slope / temperature
    return slope @ model.weight, slope.T @ model.hidden, slope.sum(dim=0)


def masked(model, tokens, value):
    bias = model.bias.clone()
    bias[list(tokens)] = value
    return Model(model.hidden, model.weight, bias)


def rounded(model):
    return model.to(torch.float32).to(torch.float64)


def assert_close(got, want, what, scale=64.0):
    """Equal infinities; elsewhere the rounding of float32 logits up to about 20, and of the largest value."""
    want = want.to(torch.float32).double()
    assert not torch.isnan(got).any(), what
    infinite = torch.isinf(want)
    assert torch.equal(got.double()[infinite], want[infinite]), what
    error = (got.double() - want).masked_fill(infinite, 0).abs().max()
    allowed = scale * EPS32 * (20 + want.masked_fill(infinite, 0).abs().max())
    assert error <= allowed, f"{what}: off by {error:.2e}"


OPTIONS = ({}, {"temperature": 0.7})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("value", (-INF, LOWEST, -1e3))
@pytest.mark.parametrize("where", MASKS)
def test_statistics_under_a_mask(route, where, value, options):
    model = rounded(Model.random(3, VOCABULARY, 5, bias=True))
    model = masked(model, MASKS[where], value)
    allowed = next(j for j in range(VOCABULARY) if j not in set(MASKS[where]))
    targets = torch.tensor([allowed, allowed, allowed])
    # Left out: a masked token, an allowed one, and both.
    exclude = torch.tensor([[0, 419], [333, 334], [148, 151]])
    truth, slopes = true_stats(logits_of(model, **options), targets, exclude)
    leaves = model.to(torch.float32).leaves()
    got = kernel_stats(leaves, targets, exclude, impl=route, **options)
    # In the second row of "all but one" what remains is nothing, or the uniform law at a very low value.
    for name, value_, want in zip(("logprob", "lse", "entropy", "rest"), got, truth, strict=True):
        assert_close(value_, want, name)
    upstream = torch.tensor([[1.0, -2.0, 0.5], [0.3, 0.0, 1.0], [-1.0, 1.0, 2.0], [2.0, -1.0, 1.0]])
    found = gradients(got, upstream, leaves)
    # finfo.min over a temperature below 1 is -inf.
    weights = [
        torch.where(value.float().isfinite(), u, 0)
        for u, value in zip(upstream.double(), truth, strict=True)
    ]
    slope = sum(
        torch.where(w[:, None] == 0, 0, w[:, None] * s)
        for w, s in zip(weights, slopes, strict=True)
    )
    for index, want in enumerate(backward(model, slope, options.get("temperature", 1.0))):
        assert_close(found[index], want, f"gradient {index}")


def test_a_masked_target_is_impossible(route):
    model = masked(rounded(Model.random(2, VOCABULARY, 4, bias=True)), MASKS["middle"], -INF)
    leaves = model.to(torch.float32).leaves()
    logprob = kernel_stats(leaves, torch.tensor([200, 3]), impl=route)[0]
    assert logprob[0] == -INF and torch.isfinite(logprob[1])
    # Its gradient is that of any target, [j = target] - p_j, at p = 0.
    (gradient,) = torch.autograd.grad(logprob[0], leaves.bias)
    slope = -Law(logits_of(model)).p[0]
    slope[200] = 1
    assert_close(gradient, slope, "gradient")


def test_a_softcap_ends_a_mask(route):
    """softcap * tanh(-inf) is -softcap: a logit like any other, whose slope is 0."""
    model = masked(rounded(Model.random(3, VOCABULARY, 5, bias=True)), MASKS["first"], -INF)
    targets, exclude = torch.tensor([5, 300, 419]), torch.tensor([[1, 2], [3, 400], [7, 8]])
    options = {"softcap": 6.0, "temperature": 0.8}
    truth, slopes = true_stats(logits_of(model, **options), targets, exclude)
    leaves = model.to(torch.float32).leaves()
    got = kernel_stats(leaves, targets, exclude, impl=route, **options)
    for value, want in zip(got, truth, strict=True):
        assert_close(value, want, "value")
    found = gradients(got, torch.ones(4, 3), leaves)
    for index, want in enumerate(backward(model, sum(slopes), 0.8, 6.0)):
        assert_close(found[index], want, f"gradient {index}", scale=256.0)


# (mask of p, mask of q): a mask of both, of p alone, and a token that only p lacks beside one that both do.
PAIRS = (
    *((where, where) for where in MASKS),
    *((where, None) for where in ("first", "last", "middle", "ends", "all but one")),
    ("first", "ends"),
    ("every other", "ends"),
)


@pytest.mark.parametrize("size", (1e-3, 0.3))
@pytest.mark.parametrize("value", (-INF, LOWEST))
@pytest.mark.parametrize(("mask_p", "mask_q"), PAIRS)
def test_divergence_under_masks(route, mask_p, mask_q, value, size):
    p = rounded(Model.random(3, VOCABULARY, 5, bias=True))
    q = rounded(p.moved(size))
    p = masked(p, MASKS[mask_p], value)
    if mask_q is not None:
        q = masked(q, [j for j in MASKS[mask_q] if j in MASKS[mask_p]], value)
    truth, slope_p, slope_q = true_kl(logits_of(p), logits_of(q))
    assert torch.isfinite(truth).all()
    leaves = p.to(torch.float32).leaves(), q.to(torch.float32).leaves()
    kl = kernel_kl(*leaves, impl=route)
    assert (kl >= 0).all()
    assert_close(kl, truth, "kl")
    # Of one token there is no divergence; elsewhere a small one is right to its own size.
    small = truth > 0
    assert ((kl.double() - truth).abs()[small] <= 1e-3 * truth[small]).all()
    upstream = torch.tensor([[1.0, -2.0, 0.5]])
    found = gradients((kl,), upstream, *leaves)
    weights = upstream.double()[0][:, None]
    wanted = [*backward(p, slope_p * weights, 1.0), *backward(q, slope_q * weights, 1.0)]
    for index, want in enumerate(wanted):
        assert_close(found[index], want, f"gradient {index}")


@pytest.mark.parametrize("where", ("first", "last", "middle", "ends"))
def test_a_divergence_is_infinite_where_p_has_mass_that_q_lacks(route, where):
    p = rounded(Model.random(3, VOCABULARY, 5, bias=True))
    q = masked(rounded(p.moved(0.1)), MASKS[where], -INF)
    leaves = p.to(torch.float32).leaves(), q.to(torch.float32).leaves()
    kl = kernel_kl(*leaves, impl=route)
    assert torch.equal(kl, torch.full((3,), INF))
    # It has no gradient, and says so; a loss that leaves it out is unharmed.
    (gradient,) = torch.autograd.grad(kl[0], leaves[0].hidden, retain_graph=True)
    assert not torch.isfinite(gradient[0]).any()
    if route != "reference":
        for gradient in torch.autograd.grad((0 * kl).sum(), leaves[0].tensors()):
            assert not gradient.any()


@pytest.mark.parametrize("low", (-2e3, LOWEST))
def test_mass_that_underflows_is_none(route, low):
    """p's logit is finite, but e^low is 0 even in float64: q may lack the token."""
    p = masked(rounded(Model.random(2, VOCABULARY, 5, bias=True)), MASKS["middle"], low)
    q = masked(rounded(p.moved(0.1)), MASKS["middle"], -INF)
    truth, slope_p, slope_q = true_kl(logits_of(p), logits_of(q))
    leaves = p.to(torch.float32).leaves(), q.to(torch.float32).leaves()
    kl = kernel_kl(*leaves, impl=route)
    assert torch.isfinite(truth).all()
    assert_close(kl, truth, "kl")
    found = gradients((kl,), torch.ones(1, 2), *leaves)
    for index, want in enumerate([*backward(p, slope_p, 1.0), *backward(q, slope_q, 1.0)]):
        assert_close(found[index], want, f"gradient {index}")


@pytest.mark.parametrize("where", ("first", "last", "middle"))
def test_a_tiny_divergence_of_models_that_share_a_masked_head(impl, where):
    p = masked(rounded(Model.random(3, VOCABULARY, 5, bias=True)), MASKS[where], -INF)
    hidden_q = rounded(p.moved(1e-4)).hidden
    single = p.to(torch.float32)
    kl = kernel_kl(single, single.with_hidden(hidden_q.float()), impl=impl).double()
    truth = true_kl(logits_of(p), logits_of(p.with_hidden(hidden_q.float().double())))[0]
    # The truth is a difference too: it holds about 1e-16 of 1e-9.
    assert (truth > 0).all() and (truth < 1e-6).all()
    assert ((kl - truth).abs() <= 1e-3 * truth).all()


FAR = 3e38
ROWS = (
    [0, 0, -INF],
    [-INF, 0, 0],
    [0, 0, LOWEST],
    [FAR, -FAR, -FAR],
    [-FAR, FAR, 0],
    [-FAR, -FAR, -FAR],
    [LOWEST, LOWEST, LOWEST],
    [FAR, FAR, -INF],
    [-FAR, -FAR, -INF],
    [-INF, -FAR, FAR],
    [1e30, 1e30, -1e30],
    [LOWEST, -INF, -INF],
)


def spread_out(row, dtype=torch.float32):
    """The logits of ``row`` at far places of a vocabulary whose other tokens are masked, as a model without width."""
    bias = torch.full((VOCABULARY,), -INF, dtype=dtype)
    bias[[3, 200, 410]] = torch.tensor(row, dtype=dtype)
    return Model(torch.zeros(1, 1, dtype=dtype), torch.zeros(VOCABULARY, 1, dtype=dtype), bias)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_statistics_of_logits_beyond_any_difference(route, row):
    model = spread_out(row)
    model = model.with_hidden(model.hidden.expand(3, 1))
    targets, exclude = torch.tensor([3, 200, 410]), torch.tensor([[200]] * 3)
    truth, slopes = true_stats(logits_of(model.to(torch.float64)), targets, exclude)
    leaves = model.leaves()
    got = kernel_stats(leaves, targets, exclude, impl=route)
    for value, want, slope in zip(got, truth, slopes, strict=True):
        assert_close(value, want, "value", scale=0.2)
        finite = want.isfinite()
        (gradient,) = torch.autograd.grad(value[finite].sum(), leaves.bias, retain_graph=True)
        assert_close(gradient, slope[finite].sum(dim=0), "gradient", scale=0.2)


@pytest.mark.parametrize(
    "step", (0, 1, 3, *(pytest.param(s, marks=pytest.mark.slow) for s in (5, 6, 8)))
)
@pytest.mark.parametrize("first", range(len(ROWS)))
def test_divergence_of_logits_beyond_any_difference(route, first, step):
    """A quarter of all pairs of the rows; with -m slow half of them, but not in Triton's interpreter: 1.5 s a pair."""
    p, q = spread_out(ROWS[first]), spread_out(ROWS[(first + step) % len(ROWS)])
    truth, slope_p, slope_q = true_kl(p.bias.double()[None], q.bias.double()[None])
    leaves = p.leaves(), q.leaves()
    kl = kernel_kl(*leaves, impl=route)
    assert_close(kl, truth, "kl", scale=0.2)
    if truth.isfinite():
        found = torch.autograd.grad(kl.sum(), (leaves[0].bias, leaves[1].bias))
        for gradient, want in zip(found, (slope_p[0], slope_q[0]), strict=True):
            assert_close(gradient, want, "gradient", scale=0.2)


SIZES = torch.tensor(
    [0, 1, -1, 50, -50, 100, -100, 1e3, -1e3, 1e4, -1e4, 1e9, -1e9, 1e30, -1e30, FAR, -FAR]
    + [-INF, -INF, LOWEST]
)


def mixture(generator, vocabulary=200):
    """Logits of up to five of those sizes in any places, half the time spread by 1, some with a stretch of one size."""

    def integers(high, *shape):
        return torch.randint(high, shape, generator=generator)

    some = SIZES[integers(len(SIZES), 1 + int(integers(5, 1)))]
    logits = some[integers(len(some), vocabulary)]
    if integers(2, 1):
        logits += torch.randn(vocabulary, generator=generator)
    if not integers(3, 1):
        first = int(integers(vocabulary, 1))
        logits[first : first + 100] = SIZES[integers(len(SIZES), 1)]
    # One token that is never masked: a law.
    logits[integers(vocabulary, 1)] = some[some > -INF].max() if (some > -INF).any() else 0
    return logits


@pytest.mark.parametrize("draws", (10, pytest.param(1000, marks=pytest.mark.slow)))
def test_random_mixtures_of_sizes(route, draws):
    generator = torch.Generator(torch.get_default_device()).manual_seed(draws)
    for _ in range(draws):
        logits_p, logits_q = mixture(generator), mixture(generator)
        vocabulary = len(logits_p)
        empty = torch.zeros(1, 1), torch.zeros(vocabulary, 1)
        targets = torch.randint(vocabulary, (1,), generator=generator)
        exclude = torch.randint(vocabulary, (1, 3), generator=generator)
        truth, slopes = true_stats(logits_p.double()[None], targets, exclude)
        p, q = Model(*empty, logits_p).leaves(), Model(*empty, logits_q).leaves()
        for value, want, slope in zip(
            kernel_stats(p, targets, exclude, impl=route), truth, slopes, strict=True
        ):
            assert_close(value, want, "value", scale=4.0)
            if want.float().isfinite():
                (gradient,) = torch.autograd.grad(value.sum(), p.bias, retain_graph=True)
                assert_close(gradient, slope[0], "gradient", scale=4.0)
        kl_truth, *wanted = true_kl(logits_p.double()[None], logits_q.double()[None])
        kl = kernel_kl(p, q, impl=route)
        assert_close(kl, kl_truth, "kl", scale=4.0)
        # Where the divergence is so large that float64 cannot hold log p - log q beside it, neither can the truth.
        if kl_truth < 1e12:
            found = torch.autograd.grad(kl.sum(), (p.bias, q.bias))
            for gradient, want in zip(found, wanted, strict=True):
                assert_close(gradient, want[0], "gradient of kl", scale=8.0)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
def test_the_lowest_number_of_a_low_precision(route, dtype):
    model = Model.random(3, VOCABULARY, 5, bias=True).to(dtype).to(torch.float64)
    model = masked(model, MASKS["last"], torch.finfo(dtype).min)
    targets, exclude = torch.tensor([1, 2, 3]), torch.tensor([[0, 1], [400, 4], [5, 6]])
    truth, _ = true_stats(logits_of(model), targets, exclude)
    leaves = model.to(dtype).leaves()
    got = kernel_stats(leaves, targets, exclude, impl=route)
    for value, want in zip(got, truth, strict=True):
        assert_close(value, want, "value")
    other = masked(model, MASKS["first"], torch.finfo(dtype).min).to(dtype).leaves()
    kl = kernel_kl(other, leaves, impl=route)
    exact = true_kl(logits_of(other.to(torch.float64)), logits_of(model))[0].detach()
    assert_close(kl.detach(), exact, "kl")
    for gradient in gradients((*got, kl), torch.ones(5, 3), leaves, other):
        assert torch.isfinite(gradient).all()


def test_logits_that_are_all_masked_are_no_law(route):
    lawless = spread_out([-INF, -INF, -INF])
    lawful = spread_out([0.0, 1.0, -INF])
    logprob, logsumexp, entropy = kernel_stats(lawless, torch.tensor([3]), impl=route)
    assert logsumexp.item() == -INF and logprob.isnan().all() and entropy.isnan().all()
    for pair in ((lawless, lawful), (lawful, lawless), (lawless, lawless)):
        assert kernel_kl(*pair, impl=route).isnan().all()


def test_a_logit_of_plus_infinity_is_no_law(route):
    model = spread_out([0.0, INF, 1.0])
    assert kernel_stats(model, torch.tensor([3]), impl=route)[2].isnan().all()
    assert kernel_kl(model, spread_out([0.0, 1.0, 2.0]), impl=route).isnan().all()


@pytest.mark.parametrize("row", ([0, 0, -INF], [1e308, -1e308, -INF], [-1e308] * 3), ids=str)
def test_float64_beyond_its_own_range(row, monkeypatch):
    monkeypatch.setattr(tiles, "LOGITS_PER_TILE", 64)
    monkeypatch.setattr(tiles, "SMALLEST_WIDTH", 64)
    model = spread_out(row, torch.float64)
    targets, exclude = torch.tensor([3]), torch.tensor([[200]])
    truth, slopes = true_stats(model.bias[None], targets, exclude)
    for name in ("reference", "chunked"):
        leaves = model.leaves()
        got = kernel_stats(leaves, targets, exclude, impl=name)
        for value, want, slope in zip(got, truth, slopes, strict=True):
            assert torch.allclose(value, want, rtol=1e-15, atol=1e-15), name
            (gradient,) = torch.autograd.grad(value.sum(), leaves.bias, retain_graph=True)
            assert torch.allclose(gradient, slope[0], rtol=1e-15, atol=1e-15), name


def test_the_comparison_sees_a_wrong_value():
    want = torch.tensor([0.5, INF], dtype=torch.float64)
    assert_close(torch.tensor([0.5, INF]), want, "right")
    for wrong in ([0.51, INF], [0.5, 1.0], [torch.nan, INF], [0.5, torch.nan]):
        with pytest.raises(AssertionError):
            assert_close(torch.tensor(wrong), want, "wrong")
