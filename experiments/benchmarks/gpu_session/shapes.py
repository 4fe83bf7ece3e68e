"""Step 2, second half: what only a GPU shows at full size.

Large, unaligned and non-contiguous inputs, CUDA graphs and ``torch.compile``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import device
from benchmarks.gpu_session.problem import HeadProblem, Sizes, stats_error
from torch import Tensor

from nondecoupling.kernels import TokenStats, token_kl, token_stats

__all__ = ["cases"]

# Values are float32 whatever the inputs are.
VALUE_TOLERANCE = 1e-4
DTYPE = torch.bfloat16


def _small(error: float, what: str) -> float:
    if not error <= VALUE_TOLERANCE:
        raise ArithmeticError(f"{what} is off by {error:.2e}, over {VALUE_TOLERANCE:g}")
    return error


def _compared(problem: HeadProblem, hidden: Tensor, weight: Tensor) -> dict[str, Any]:
    """Errors of the values that ``hidden`` and ``weight``, equal to the problem's, give; gradients must be finite."""
    stats = token_stats(hidden, weight, problem.targets, impl="triton")
    kl = token_kl(hidden, weight, problem.hidden_q, problem.weight_q, impl="triton")
    loss = (stats.logprob * problem.upstream[0] + kl * problem.upstream[1]).sum()
    for gradient in torch.autograd.grad(loss, [problem.hidden, problem.weight, problem.weight_q]):
        if not bool(gradient.isfinite().all()):
            raise ArithmeticError("a gradient is not finite")
    logprob, entropy, divergence = problem.exact()
    return {
        "logprob_error": _small(stats_error(stats.logprob.detach(), logprob), "logprob"),
        "entropy_error": _small(stats_error(stats.entropy.detach(), entropy), "entropy"),
        "kl_error": _small(stats_error(kl.detach(), divergence), "kl"),
    }


def full_size(sizes: Sizes) -> Iterator[dict[str, Any]]:
    problem = HeadProblem(sizes.tokens, sizes.vocabulary, sizes.widths[0], DTYPE)
    yield _compared(problem, problem.hidden, problem.weight)


def unaligned(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Odd T, V and D, and a first element that no 16 bytes divide."""
    problem = HeadProblem(sizes.tokens - 13, sizes.vocabulary - 17, sizes.widths[0] - 3, DTYPE)

    def shifted(tensor: Tensor) -> Tensor:
        room = tensor.new_empty(tensor.numel() + 1)[1:].view(tensor.shape)
        return room.copy_(tensor)

    yield _compared(problem, shifted(problem.hidden), shifted(problem.weight))


def strided(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Transposed memory, and rows of a wider array."""
    problem = HeadProblem(sizes.tokens // 2, sizes.vocabulary, sizes.widths[0], DTYPE)
    wide = torch.cat([problem.hidden, problem.hidden.detach()], dim=1)
    yield _compared(problem, wide[:, : sizes.widths[0]], problem.weight.T.contiguous().T)


def graph(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Forward and backward of both operators captured in a CUDA graph, replayed on other inputs."""
    problem = HeadProblem(sizes.tokens, sizes.vocabulary, sizes.widths[0], DTYPE)
    leaves = [problem.hidden, problem.weight, problem.weight_q]

    def step() -> list[Tensor]:
        stats = token_stats(
            problem.hidden, problem.weight, problem.targets, impl="triton", synchronize=False
        )
        kl = token_kl(
            problem.hidden,
            problem.weight,
            problem.hidden_q,
            problem.weight_q,
            impl="triton",
            synchronize=False,
        )
        loss = (stats.logprob * problem.upstream[0] + kl * problem.upstream[1]).sum()
        return [stats.logprob.detach(), kl.detach(), *torch.autograd.grad(loss, leaves)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        results = step()
    with torch.no_grad():
        problem.hidden.copy_(problem.hidden.flip(0))
    captured.replay()
    torch.cuda.synchronize()
    for place, (replayed, direct) in enumerate(zip(results, step(), strict=True)):
        if not torch.equal(replayed, direct):
            raise ArithmeticError(f"result {place} of the replayed graph differs from a direct run")
    yield {"results": len(results)}


def compiled(sizes: Sizes) -> Iterator[dict[str, Any]]:
    """``torch.compile(fullgraph=True)`` around the operator gives what it gives alone."""
    problem = HeadProblem(sizes.tokens // 4, sizes.vocabulary, sizes.widths[0], DTYPE)

    def stats(hidden: Tensor, weight: Tensor, targets: Tensor) -> TokenStats:
        return token_stats(hidden, weight, targets, impl="triton")

    arguments = (problem.hidden, problem.weight, problem.targets)
    fused = torch.compile(stats, fullgraph=True)(*arguments)
    alone = stats(*arguments)
    for name in ("logprob", "logsumexp", "entropy"):
        if not torch.equal(getattr(fused, name), getattr(alone, name)):
            raise ArithmeticError(f"{name} differs under torch.compile")
    yield {"device": str(device())}


CASES: dict[str, Callable[[Sizes], Iterator[dict[str, Any]]]] = {
    "full size": full_size,
    "unaligned": unaligned,
    "non-contiguous": strided,
    "CUDA graph": graph,
    "torch.compile": compiled,
}


def cases(sizes: Sizes) -> list[Case]:
    return [Case(name, partial(function, sizes), 40.0) for name, function in CASES.items()]
