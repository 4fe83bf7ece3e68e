"""A head in float32 or bfloat16: its law, mass and gradient lie within what rounding does, and guards can fail."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling import bounds
from nondecoupling.lm import ModelError, enumerate_law, tiny_qwen3
from nondecoupling.lm.enumerated_law import PRECISIONS, EnumeratedLaw, check_precision
from nondecoupling.lm.tolerances import log_sum_tolerance, mass_error, mass_tolerance
from nondecoupling.lm.tries import SHARED_PREFIXES, encode

LOWER = PRECISIONS[1:]
HERE = Path(__file__).parent


def encoded(language_model, prompts=PROMPTS):
    pairs = zip(prompts, CANDIDATES, strict=False)
    return [encode(language_model.tokenizer, *pair) for pair in pairs]


def law_in(precision, language_model, prompts=PROMPTS):
    return EnumeratedLaw(
        language_model, encoded(language_model, prompts), SHARED_PREFIXES, precision
    )


def checked(precision, language_model):
    return check_precision(language_model, encoded(language_model), SHARED_PREFIXES, precision)


@pytest.fixture(params=[1.0, 20.0, 200.0], ids=lambda scale: f"weights times {scale:g}")
def scaled(request):
    """A model with logits of 4, 80 or 800, and a bias."""
    model = tiny_qwen3([*PROMPTS, *(text for some in CANDIDATES for text in some)], seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.head.weight.mul_(request.param)
        model.head.bias = torch.nn.Parameter(
            torch.randn(len(model.head.weight), generator=generator)
        )
    return model


@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_the_law_lies_within_the_tolerance_of_that_in_float64(scaled, precision):
    found = checked(precision, scaled)
    assert 0 < found.difference <= found.tolerance
    # Rounding of bfloat16 is seen, and the tolerance is of its size.
    if precision == torch.bfloat16:
        assert found.difference > 1e-3
        assert found.tolerance < 300 * found.difference


@pytest.mark.parametrize(
    ("precision", "spoil"),
    [
        (torch.float32, lambda weight: weight.bfloat16().float()),
        (torch.bfloat16, lambda weight: (1.25 * weight).bfloat16()),
    ],
    ids=["float32", "bfloat16"],
)
def test_a_head_with_fewer_digits_than_its_precision_is_refused(
    tiny, monkeypatch, precision, spoil
):
    right = EnumeratedLaw._converted_head
    monkeypatch.setattr(
        EnumeratedLaw, "_converted_head", lambda law: (spoil(right(law)[0]), right(law)[1])
    )
    name = str(precision).removeprefix("torch.")
    with pytest.raises(ModelError, match=f"head in {name} a response's log-probability is off by"):
        checked(precision, tiny)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_the_mass_is_one_whatever_the_logits(scaled, precision):
    found, _, _ = law_in(precision, scaled).in_both_precisions()
    sums = 0.0 if precision == torch.float64 else checked(precision, scaled).mass_tolerance
    assert mass_error(found) <= mass_tolerance(found, sums)
    # On a CPU a node's sum is put together in float64 from what its branches and its rest are.
    assert mass_error(found) <= mass_tolerance(found)


def without_a_leave(batch):
    """The leave of the first prompt's root is counted nowhere."""
    nodes = batch.nodes_of_prompt.clone()
    nodes[0, 0] = len(batch.to_nodes)
    return replace(batch, nodes_of_prompt=nodes)


def with_a_sibling_left_in(batch):
    """A branch of the first prompt's root is counted in its leave too."""
    siblings = batch.siblings.clone()
    siblings[0, 0] = -1
    return replace(batch, siblings=siblings)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("fault", [without_a_leave, with_a_sibling_left_in])
def test_a_fault_of_the_trie_exceeds_the_tolerance_of_the_mass(tiny, precision, fault):
    law = law_in(precision, tiny)
    sums = 0.0 if precision == torch.float64 else checked(precision, tiny).mass_tolerance
    law.batch = fault(law.batch)
    found, _, _ = law.in_both_precisions()
    assert mass_error(found) > 10 * mass_tolerance(found, sums)


@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_a_law_of_another_mass_is_refused(tiny, monkeypatch, precision):
    class Careless(EnumeratedLaw):
        def _law(self, hidden, *head):
            self.batch = without_a_leave(self.batch)
            return super()._law(hidden, *head)

    monkeypatch.setattr("nondecoupling.lm.enumerated_law.EnumeratedLaw", Careless)
    with pytest.raises(ModelError, match=r"the law's mass is off by .* of its rounding"):
        checked(precision, tiny)


def test_the_tolerance_of_a_sum_is_that_of_its_roundings():
    """Sums in float32, in tiles of 64 with a running maximum, of the worst terms that were found."""
    eps = float(np.finfo(np.float32).eps)
    for size in (50, 1000, 100_000):
        allowed = log_sum_tolerance(size)
        assert 20 * eps < allowed < 1e-4
        worst = 0.0
        for spread in (0.1, 3.0, 30.0):
            z = np.random.default_rng(size).normal(scale=spread, size=size).astype(np.float32)
            for order in (z, np.sort(z), np.sort(z)[::-1]):
                worst = max(worst, abs(running_log_sum(order) - exact_log_sum(order)))
        assert allowed / 1e4 < worst <= allowed
    assert log_sum_tolerance(1000) < log_sum_tolerance(150_000)


def running_log_sum(z):
    """log sum e^(z - max) as a kernel takes it, but a tile's sum one by one."""
    maximum, mass = np.float32(-np.inf), np.float32(0)
    for tile in np.split(z, range(64, len(z), 64)):
        new = max(maximum, tile.max())
        mass = np.float32(mass * np.exp(np.float32(maximum - new)))
        mass = np.float32(mass + np.add.accumulate(np.exp(tile - new))[-1])
        maximum = new
    return float(np.log(np.float64(mass)))


def exact_log_sum(z):
    wide = z.astype(np.float64)
    return float(np.log(np.exp(wide - wide.max()).sum()))


@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_bounds_take_the_law(tiny, precision):
    """Whatever the sums left of mass one is divided out."""
    law = enumerate_law(tiny, PROMPTS, CANDIDATES, precision)
    measured = law.measured()
    assert mass_error(measured) <= 1e-14
    np.testing.assert_allclose(bounds.kl_divergence(measured, measured), 0, atol=1e-12)
    assert law.log_mass.shape == (len(PROMPTS),)
    found, exact, _ = law.in_both_precisions()
    assert 0 < np.abs(found - exact).max() < 0.1
    shifted = measured + law.log_mass.numpy()[:, None]
    np.testing.assert_allclose(shifted, found, rtol=0, atol=1e-13)


def test_a_law_in_float64_is_not_divided(tiny):
    law = law_in(torch.float64, tiny)
    found, exact, _ = law.in_both_precisions()
    np.testing.assert_array_equal(law.measured(), found)
    np.testing.assert_array_equal(found, exact)
    assert law.log_mass is None


def test_another_precision_is_refused(tiny):
    with pytest.raises(ValueError, match=r"precision is torch\.float16; choose one of torch\.flo"):
        enumerate_law(tiny, PROMPTS, CANDIDATES, torch.float16)


class Rounded(EnumeratedLaw):
    """Hidden states and weights are rounded as in the law's precision, and all else is float64."""

    def _law(self, hidden, weight, bias):
        return super()._law(hidden.to(weight.dtype).double(), weight.double(), bias)


def of_one_response(law, model):
    """(log p of the first prompt's second response, gradients of the head and of the embeddings)."""
    value = law()[0, 1]
    parameters = [model.head.weight, model.causal.get_input_embeddings().weight]
    return value, torch.autograd.grad(value, parameters)


@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_the_gradient_is_that_of_the_law(tiny, precision):
    """Against the rounded law in float64, once more rounded itself; that of float64, with what rounding moves."""
    arguments = (tiny, encoded(tiny, PROMPTS[:1]), SHARED_PREFIXES)
    (_, found) = of_one_response(EnumeratedLaw(*arguments, precision), tiny)
    (_, wanted) = of_one_response(Rounded(*arguments, precision), tiny)
    eps = torch.finfo(precision).eps
    for one, other in zip(found, wanted, strict=True):
        assert other.norm() > 1
        assert (one - other).norm() <= eps * other.norm() + 1e-5
    law = EnumeratedLaw(*arguments)
    (_, exact) = of_one_response(law, tiny)
    allowed = moved_by_rounding(law, tiny, precision) + eps * float(exact[0].norm()) + 1e-5
    difference = float((found[0] - exact[0]).norm())
    assert difference <= allowed < 0.1 * float(exact[0].norm())
    if precision == torch.bfloat16:
        assert difference > allowed / 100


def moved_by_rounding(law, model, precision):
    """How far rounding h and w moves the gradient of sum_e log p_e in the weights, sum_e (1[target] - p_e) h_e^T.

    With logits moved by at most m, p moves by a factor e^(+-2m) at most, so by sum_e of
    (e^(2m) - 1) |p_e| |h'_e| + |1[target] - p_e| |h_e - h'_e|, over the edges of the response.
    """
    with torch.no_grad():
        hidden, weight = law._hidden_states().double(), model.head.weight
        wide, low = weight.double(), weight.to(precision).double()
        rounded = hidden.to(precision).double()
        logits = hidden @ wide.T
        m = (rounded @ low.T - logits).abs().amax(dim=1)
        p = torch.softmax(logits, dim=1)
        pull = torch.nn.functional.one_hot(law.batch.target, p.shape[1]) - p
        moved = torch.expm1(2 * m) * p.norm(dim=1) * rounded.norm(dim=1)
        moved += pull.norm(dim=1) * (hidden - rounded).norm(dim=1)
        return float(law.batch.to_candidates[1] @ moved)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
def test_a_head_that_is_not_trained_is_read_as_it_is(precision):
    """Whether its values are loaded, or set past the version counter of its tensor, as a merge of adapters does."""
    texts = [*PROMPTS, *(text for some in CANDIDATES for text in some)]
    model, other = tiny_qwen3(texts, seed=0), tiny_qwen3(texts, seed=1)
    model.model.requires_grad_(False)
    law = law_in(precision, model)
    law.measured()
    model.model.load_state_dict(other.model.state_dict())
    np.testing.assert_array_equal(law.measured(), law_in(precision, other).measured())
    for one in (model, other):
        one.head.weight.data.mul_(1.5)
    np.testing.assert_array_equal(law.measured(), law_in(precision, other).measured())


@pytest.mark.slow  # Triton's interpreter, in a process of its own
def test_the_laws_of_the_triton_kernels(tmp_path):
    pytest.importorskip("triton")
    from tests.kernels.test_triton_interpreter import run_interpreted

    counts = run_interpreted(tmp_path / "report.xml", str(HERE / "interpreted_law.py"))
    assert counts["passed"] >= 5
