"""Log-sums at other temperatures and ranks of the targets, against float64 and the definition, token by token."""

import math

import pytest
import torch
from kernel_cases import EPS32, Model, eager_logits

from nondecoupling.kernels import ranks, token_stats
from nondecoupling.kernels.head import Head

TEMPERED = (0.5, 0.8, 0.95, 1.0, 1.25, 2.0)
ROUTES = ("reference", "chunked", "auto")


@pytest.fixture(params=ROUTES)
def route(request, monkeypatch):
    # Two rows of 300 a block, and the last alone.
    monkeypatch.setattr(ranks, "LOGITS_PER_BLOCK", 700)
    return request.param


def definition(probabilities, target, nucleus):
    """(mass before, mass of the nucleus, whether the target is in it) of one law, by a walk down its ranking."""
    order = sorted(range(len(probabilities)), key=lambda j: (-probabilities[j], j))
    chosen, mass = [], 0.0
    for token in order:
        if mass >= nucleus:
            break
        chosen.append(token)
        mass = math.fsum(probabilities[j] for j in chosen)
    before = math.fsum(probabilities[j] for j in order[: order.index(target)])
    return before, mass, target in chosen


def ask(model, targets, route, nucleus=0.95, **options):
    return token_stats(
        *(model.hidden, model.weight, targets),
        bias=model.bias,
        tempered=TEMPERED,
        nucleus=nucleus,
        impl=route,
        **options,
    )


@pytest.mark.parametrize("options", ({}, {"temperature": 0.7, "softcap": 5.0}), ids=str)
@pytest.mark.parametrize("nucleus", (0.05, 0.5, 0.95, 0.999))
def test_float64_agrees_with_the_definition(route, nucleus, options):
    model = Model.random(5, 300, 7, bias=True)
    targets = torch.tensor([0, 299, 17, 200, 88])
    stats = ask(model, targets, route, nucleus, **options)
    log_p = torch.log_softmax(eager_logits(model, **options), dim=1)
    for column, tau in enumerate(TEMPERED):
        exact = log_p.div(tau).exp().sum(dim=1).log()
        assert torch.allclose(stats.tempered[:, column], exact, rtol=0, atol=1e-13)
    for row, target in enumerate(targets.tolist()):
        before, mass, inside = definition(log_p[row].exp().tolist(), target, nucleus)
        assert abs(stats.ranks.mass_before[row] - before) <= 1e-13
        assert abs(stats.ranks.nucleus_mass[row] - mass) <= 1e-13
        assert bool(stats.ranks.in_nucleus[row]) == inside


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_other_dtypes_agree_with_float64(route, dtype):
    model = Model.random(5, 300, 7, bias=True).to(dtype)
    targets = torch.tensor([0, 299, 17, 200, 88])
    stats = ask(model, targets, route)
    exact = ask(model.to(torch.float64), targets, "reference")
    bound = 64 * EPS32 * 20
    assert stats.tempered.dtype == stats.ranks.mass_before.dtype == torch.float32
    assert (stats.tempered - exact.tempered).abs().max() <= 2 * bound
    # These laws have no two probabilities so close that rounding could exchange them at the target or the edge.
    assert (stats.ranks.mass_before - exact.ranks.mass_before).abs().max() <= bound
    assert (stats.ranks.nucleus_mass - exact.ranks.nucleus_mass).abs().max() <= bound
    assert torch.equal(stats.ranks.in_nucleus, exact.ranks.in_nucleus)


def test_every_target_of_one_law(route):
    """The intervals [mass_before, mass_before + p) tile [0, 1): what makes the randomised transform uniform."""
    model = Model.random(1, 40, 3, bias=True)
    every = Model(model.hidden.expand(40, 3), model.weight, model.bias)
    stats = ask(every, torch.arange(40), route)
    p = stats.logprob.exp()
    order = stats.ranks.mass_before.argsort()
    ends = stats.ranks.mass_before[order] + p[order]
    assert stats.ranks.mass_before[order][0] == 0
    assert torch.allclose(ends[:-1], stats.ranks.mass_before[order][1:], rtol=0, atol=1e-14)
    assert abs(ends[-1] - 1) <= 1e-14
    assert torch.allclose(p[stats.ranks.in_nucleus].sum(), stats.ranks.nucleus_mass[0])
    assert (p[order].diff() <= 0).all()


def test_ties_are_ranked_by_index(route):
    zeros = torch.zeros(6, 2), torch.zeros(6, 2)
    stats = token_stats(*zeros, torch.arange(6), nucleus=0.5, impl=route)
    assert torch.allclose(stats.ranks.mass_before, torch.arange(6) / 6)
    assert stats.ranks.in_nucleus.tolist() == [True] * 3 + [False] * 3
    assert torch.allclose(stats.ranks.nucleus_mass, torch.tensor(0.5))


def test_a_certain_token_is_its_own_nucleus(route):
    bias = torch.tensor([0.0, 90.0, 0.0, -torch.inf])
    hidden, weight = torch.zeros(3, 1), torch.zeros(4, 1)
    stats = token_stats(
        hidden, weight, torch.tensor([1, 0, 3]), bias=bias, nucleus=0.95, tempered=[0.5], impl=route
    )
    assert stats.ranks.in_nucleus.tolist() == [True, False, False]
    assert torch.allclose(stats.ranks.mass_before, torch.tensor([0.0, 1.0, 1.0]))
    assert torch.allclose(stats.ranks.nucleus_mass, torch.ones(3))
    assert torch.allclose(stats.tempered, torch.zeros(3, 1))


def test_an_ignored_target_has_no_rank_and_a_nan_stays_in_its_row(route):
    model = Model.random(4, 50, 3, bias=False).to(torch.float32)
    hidden = model.hidden.clone()
    hidden[2] = torch.nan
    clean = token_stats(
        model.hidden, model.weight, torch.tensor([1, -100, 3, 4]), nucleus=0.9, impl=route
    )
    dirty = token_stats(
        hidden, model.weight, torch.tensor([1, -100, 3, 4]), nucleus=0.9, impl=route
    )
    assert clean.ranks.mass_before[1].isnan() and not clean.ranks.in_nucleus[1]
    assert clean.ranks.nucleus_mass[1].isfinite()
    assert dirty.ranks.mass_before[2].isnan() and not dirty.ranks.in_nucleus[2]
    for before, after in zip(clean.ranks, dirty.ranks, strict=True):
        assert torch.equal(before[[0, 3]], after[[0, 3]])


def test_only_what_is_asked_for(route):
    hidden, weight, targets = torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 4])
    assert token_stats(hidden, weight, targets, impl=route)[4:] == (None, None)
    some = token_stats(hidden, weight, targets, tempered=[2.0], impl=route)
    assert some.ranks is None and some.tempered.shape == (2, 1)
    others = token_stats(hidden, weight, targets, nucleus=0.5, impl=route)
    assert others.tempered is None and others.ranks.in_nucleus.tolist() == [True, False]
    nobody = token_stats(hidden[:0], weight, targets[:0], nucleus=0.5, tempered=[2.0], impl=route)
    assert nobody.tempered.shape == (0, 1) and nobody.ranks.mass_before.shape == (0,)


def test_the_other_statistics_and_their_gradients_are_as_before(route):
    model = Model.random(4, 60, 5, bias=True).to(torch.float32)
    results = []
    for extra in ({}, {"tempered": [0.5], "nucleus": 0.9}):
        leaves = model.leaves()
        stats = token_stats(
            *(leaves.hidden, leaves.weight, torch.arange(4)), bias=leaves.bias, impl=route, **extra
        )
        loss = stats.logprob.sum() + stats.entropy.sum()
        results.append([stats.logprob, *torch.autograd.grad(loss, leaves.tensors())])
        if extra:
            assert not stats.tempered.requires_grad and not stats.ranks.mass_before.requires_grad
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)


def test_no_more_than_a_block_of_rows_is_held(monkeypatch):
    tokens, vocabulary = 512, 4000
    monkeypatch.setattr(ranks, "LOGITS_PER_BLOCK", 16 * vocabulary)
    model = Model.random(tokens, vocabulary, 4, bias=False).to(torch.float32)
    head = Head(model.hidden, model.weight, None, 1.0, None)
    targets = torch.zeros(tokens, dtype=torch.int64)
    with torch.profiler.profile(profile_memory=True) as profiler:
        ranks.tempered_and_ranks(head, targets, -100, TEMPERED, 0.95)
    level = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    assert 0 < peak < 16 * vocabulary * 100 < tokens * vocabulary * 4


@pytest.mark.slow  # torch traces it
@pytest.mark.parametrize("tokens", (6, 3))
def test_as_an_operator(tokens):
    model = Model.random(tokens, 40, 5, bias=True).to(torch.float32)
    arguments = (model.hidden, model.weight, model.bias, torch.arange(tokens), 0.8, None, -100)
    for options in (([0.5, 2.0], 0.9), ([], 0.9), ([0.5], None)):
        torch.library.opcheck(torch.ops.nondecoupling.token_ranks, (*arguments, *options))


@pytest.mark.skipif(
    torch.__version__ < "2.12",
    reason="the compiler of torch 2.11 fails there, as the docstring says",
)
@pytest.mark.parametrize("tokens", [pytest.param(3, marks=pytest.mark.slow), 6])
def test_it_compiles_to_one_graph(tokens):
    model = Model.random(tokens, 40, 5, bias=True).to(torch.float32)
    compiled = torch.compile(lambda m, t: ask(m, t, "auto"), fullgraph=True, backend="aot_eager")
    targets = torch.arange(tokens)
    expected, got = ask(model, targets, "auto"), compiled(model, targets)
    assert torch.equal(expected.tempered, got.tempered)
    for first, second in zip(expected.ranks, got.ranks, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"nucleus": 0.0}, ValueError, "nucleus is 0.0; it must lie between 0 and 1"),
        ({"nucleus": 1}, ValueError, "nucleus is 1.0"),
        ({"nucleus": "x"}, TypeError, "nucleus must be a number"),
        ({"nucleus": torch.tensor(0.5)}, TypeError, r"nucleus must be a number.*\.item\(\)"),
        ({"tempered": 0.5}, TypeError, "tempered must be a sequence of temperatures, got 0.5"),
        ({"tempered": torch.ones(2)}, TypeError, "tempered must be a sequence"),
        ({"tempered": [1.0, -2.0]}, ValueError, r"tempered\[1\] is -2.0; it must be positive"),
        ({"tempered": [float("inf")]}, ValueError, r"tempered\[0\] is inf"),
        ({"tempered": [None]}, TypeError, r"tempered\[0\] must be a number"),
        ({"nucleus": 0.9, "impl": "triton"}, ValueError, "neither .* use impl='chunked'"),
        ({"tempered": [0.9], "impl": "triton"}, ValueError, "neither .* use impl='chunked'"),
    ],
)
def test_errors_name_the_argument(changed, error, message):
    with pytest.raises(error, match=message):
        token_stats(torch.zeros(2, 3), torch.zeros(5, 3), torch.tensor([0, 1]), **changed)
