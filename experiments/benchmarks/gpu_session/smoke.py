"""Step 1: every operator once, small and uneven, with memory that was NaN before, twice.

Nothing may be NaN (every output was written), the second run must equal the first bit by bit, and values and
gradients must be near float64's. The same cases are run under compute-sanitizer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import device
from benchmarks.gpu_session.problem import TINY, Sizes
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats

__all__ = ["cases", "check_results", "poisoned"]

# T, V, D: no block divides anything, rows begin at multiples of 16 bytes (on Hopper they come by TMA), and there are
# several blocks each way, more along D than a pipeline has stages.
SHAPE = (133, 701, 200)
TINY_SHAPE = (3, 140, 5)
# Of the largest result, for values (kept in float32 whatever the input) and for gradients (rounded to the input dtype).
VALUE_TOLERANCE = 2e-5
GRADIENT_TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float32: 1e-4}


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Within it, memory that torch hands out uninitialised is NaN (integers: the largest), torch's own default
    for its deterministic mode."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def inputs(
    shape: tuple[int, int, int], dtype: torch.dtype, seed: int, *, bias: bool
) -> list[Tensor]:
    """hidden, weight and perhaps bias; logits have a standard deviation of at most 6."""
    tokens, vocabulary, width = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(tokens, width), (vocabulary, width), (vocabulary,)][: 3 if bias else 2]
    hidden, *others = (torch.randn(*size, generator=generator) for size in sizes)
    hidden *= min(1.0, 6.0 / width**0.5)
    return [tensor.to(device(), dtype) for tensor in (hidden, *others)]


def stats(tensors: list[Tensor], impl: str, **options: Any) -> list[Tensor]:
    """Values, then gradients, of ``token_stats``."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    hidden, weight, *bias = leaves
    tokens, vocabulary = hidden.shape[0], weight.shape[0]
    targets = torch.arange(tokens, device=hidden.device) * 37 % vocabulary
    targets[1] = -100
    if options.pop("excluding", False):
        places = torch.arange(tokens, device=hidden.device)[:, None]
        options["exclude"] = torch.cat([places, (places * 11 + 3) % vocabulary, 0 * places - 1], 1)
    results = token_stats(
        hidden, weight, targets, bias=bias[0] if bias else None, impl=impl, **options
    )
    values = [value for value in results[:4] if value is not None]
    return _with_gradients(values, leaves)


def divergence(p: list[Tensor], q: list[Tensor], impl: str, **options: Any) -> list[Tensor]:
    """Value, then gradients, of ``token_kl``."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in p + q]
    (hidden_p, weight_p, *bias_p), (hidden_q, weight_q, *bias_q) = (
        leaves[: len(p)],
        leaves[len(p) :],
    )
    options |= {"bias_p": bias_p[0], "bias_q": bias_q[0]} if bias_p else {}
    kl = token_kl(hidden_p, weight_p, hidden_q, weight_q, impl=impl, **options)
    return _with_gradients([kl], leaves)


def _with_gradients(values: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, values[0].shape[0], device=values[0].device)
    loss = sum((value * weights * (k + 1)).sum() for k, value in enumerate(values))
    assert isinstance(loss, Tensor)
    return [value.detach() for value in values] + list(torch.autograd.grad(loss, leaves))


def check_results(
    runs: list[list[Tensor]], exact: list[Tensor], values: int, dtype: torch.dtype
) -> dict[str, Any]:
    """Fields of the row, of two ``runs`` and the truth; ``values`` of the tensors are values, the rest gradients.

    Raises:
        ArithmeticError: a NaN, a difference between the runs, or an error beyond tolerance.
    """
    errors = []
    for place, (one, two, truth) in enumerate(zip(*runs, exact, strict=True)):
        what = f"value {place}" if place < values else f"gradient {place - values}"
        if bool(one.isnan().any()):
            raise ArithmeticError(f"{what} has {int(one.isnan().sum())} NaN of {one.numel()}")
        if not torch.equal(one, two):
            raise ArithmeticError(f"{what} differs between two runs")
        scale = truth.abs().max().clamp(min=1e-30)
        error = float((one.double() - truth).abs().max() / scale)
        allowed = VALUE_TOLERANCE if place < values else GRADIENT_TOLERANCE[dtype]
        if not error <= allowed:
            raise ArithmeticError(f"{what} is off by {error:.2e} of its largest, over {allowed:g}")
        errors.append(error)
    return {"value_error": max(errors[:values]), "gradient_error": max(errors[values:])}


def _twice(dtype: torch.dtype, sizes: Sizes, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shape = TINY_SHAPE if sizes == TINY else SHAPE
    given = dict(options)
    bias = given.pop("bias", False)
    p, q = (inputs(shape, dtype, seed, bias=bias) for seed in (0, 1))
    exact_p, exact_q = ([tensor.double() for tensor in tensors] for tensors in (p, q))
    name = str(dtype).removeprefix("torch.")
    with poisoned():
        runs = [stats(p, "triton", **given) for _ in range(2)]
        exact = stats(exact_p, "reference", **given)
        values = 4 if "excluding" in given else 3
        yield {"operator": "token_stats", "dtype": name} | check_results(runs, exact, values, dtype)
        given.pop("excluding", None)
        runs = [divergence(p, q, "triton", **given) for _ in range(2)]
        exact = divergence(exact_p, exact_q, "reference", **given)
        yield {"operator": "token_kl", "dtype": name} | check_results(runs, exact, 1, dtype)


EVERY_OPTION = {"bias": True, "softcap": 9.0, "temperature": 0.7, "excluding": True}
OPTIONS: dict[str, dict[str, Any]] = {"plain": {}, "every option": EVERY_OPTION}
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def _build(job: tuple[str, torch.dtype, Sizes]) -> str:
    """Run a case for the kernels that it leaves in Triton's cache; why it failed, or nothing."""
    name, dtype, sizes = job
    try:
        list(_twice(dtype, sizes, OPTIONS[name]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return ""


def build_all(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """All cases at once, each in a process of its own, so that those below do not wait for the compiler."""
    jobs = [(name, dtype, sizes) for name in OPTIONS for dtype in DTYPES]
    with ProcessPoolExecutor(len(jobs), mp_context=get_context("spawn")) as pool:
        for (name, dtype, _), why in zip(jobs, pool.map(_build, jobs), strict=True):
            yield {"options": name, "dtype": str(dtype), "why": why}


def cases(sizes: Sizes) -> list[Case]:
    results = [] if sizes == TINY else [Case("build", lambda: build_all(sizes), 40.0)]
    for name, options in OPTIONS.items():
        for dtype in DTYPES:

            def run(
                dtype: torch.dtype = dtype, options: dict[str, Any] = options
            ) -> Iterator[dict[str, Any]]:
                return _twice(dtype, sizes, options)

            results.append(Case(f"{name}, {str(dtype).removeprefix('torch.')}", run))
    return results
