"""The enumerated law with the Triton kernels; run by ``test_law_precision.py`` in an interpreter process."""

import sys

import numpy as np
import pytest
import torch
from test_law_precision import (
    LOWER,
    checked,
    law_in,
    of_one_response,
    with_a_sibling_left_in,
    without_a_leave,
)
from yes_or_no import PROMPTS

from nondecoupling.kernels import triton_stats
from nondecoupling.lm.tolerances import mass_error, mass_tolerance

KERNELS = sys.modules["nondecoupling.kernels.token_stats"]


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """What ``impl="auto"`` is there."""
    assert type(triton_stats.stats_forward).__name__ == "InterpretedFunction"
    taken = []

    def resolve(impl, hidden, keep_logits):
        taken.append("triton" if hidden.dtype in KERNELS.TRITON_DTYPES else "chunked")
        return taken[-1]

    monkeypatch.setattr(KERNELS, "_resolve", resolve)
    yield
    assert "triton" in taken


@pytest.mark.parametrize("scale", [1.0, 50.0])
@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_law_and_mass_lie_within_their_tolerances(tiny, precision, scale):
    with torch.no_grad():
        tiny.head.weight.mul_(scale)
    try:
        allowed = checked(precision, tiny)
        law = law_in(precision, tiny, PROMPTS[:2])
        found, _, _ = law.in_both_precisions()
    finally:
        with torch.no_grad():
            tiny.head.weight.div_(scale)
    assert 0 < allowed.difference <= allowed.tolerance
    mass, tolerance = mass_error(found), mass_tolerance(found, allowed.mass_tolerance)
    assert mass <= tolerance
    # Float32 sums are seen, unless one token has all the mass, and the tolerance is not far from them.
    assert scale > 1 or mass > max(tolerance / 1e4, 1e-9)


@pytest.mark.parametrize("precision", LOWER, ids=str)
def test_it_is_the_law_and_the_gradient_of_the_other_kernels(tiny, precision, monkeypatch):
    law = law_in(precision, tiny, PROMPTS[:1])
    value, found = of_one_response(law, tiny)
    log_p = law.measured()
    with monkeypatch.context() as on_a_cpu:
        on_a_cpu.setattr(KERNELS, "_resolve", lambda *_: "chunked")
        again, wanted = of_one_response(law, tiny)
        np.testing.assert_allclose(log_p, law.measured(), rtol=0, atol=1e-5)
    assert abs(value.item() - again.item()) <= 1e-5
    assert mass_error(log_p) <= 1e-14
    # bfloat16 rounds gradients of logits too.
    for one, other in zip(found, wanted, strict=True):
        assert (one - other).norm() <= 2 * torch.finfo(precision).eps * other.norm() + 1e-5


@pytest.mark.parametrize("precision", LOWER, ids=str)
@pytest.mark.parametrize("fault", [without_a_leave, with_a_sibling_left_in])
def test_a_fault_of_the_trie_is_seen(tiny, precision, fault):
    law, sums = law_in(precision, tiny), checked(precision, tiny).mass_tolerance
    law.batch = fault(law.batch)
    found, _, _ = law.in_both_precisions()
    assert mass_error(found) > 10 * mass_tolerance(found, sums)
