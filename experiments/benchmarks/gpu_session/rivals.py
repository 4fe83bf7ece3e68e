"""Step 4: the kernels against the bare product and against what else is installed.

Each route gives log-probabilities (some of them also entropies, or a divergence) of the same bfloat16 inputs. A route
whose package is missing is a row that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import measured
from benchmarks.gpu_session.problem import HeadProblem, Sizes, stats_error
from torch import Tensor

from nondecoupling.kernels import token_kl, token_stats
from nondecoupling.kernels.head import Head

__all__ = ["cases"]

TRL_CHUNK = 32_768
# No target of the problem.
IGNORE_INDEX = -100
DTYPE = torch.bfloat16
COMPILE_SECONDS = 60.0
# For the repetitions of one pass.
SECONDS = 0.6


class Route(NamedTuple):
    """``run`` gives results of which the first is the log-probability, or the divergence, of every token."""

    name: str
    run: Callable[[HeadProblem], tuple[Tensor, ...]]
    seconds: float = 30.0
    divergence: bool = False
    # TRL's divergence has gradients of the student alone.
    one_model: bool = False
    # Only the forward is another; its results know no gradient.
    forward_only: bool = False


def eager_stats(p: HeadProblem) -> tuple[Tensor, ...]:
    log_p = torch.log_softmax((p.hidden @ p.weight.T).float(), dim=1)
    return log_p.gather(1, p.targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=1)


def eager_kl(p: HeadProblem) -> tuple[Tensor, ...]:
    log_p = torch.log_softmax((p.hidden @ p.weight.T).float(), dim=1)
    log_q = torch.log_softmax((p.hidden_q @ p.weight_q.T).float(), dim=1)
    return ((log_p.exp() * (log_p - log_q)).sum(dim=1),)


def our_stats(p: HeadProblem) -> tuple[Tensor, ...]:
    stats = token_stats(p.hidden, p.weight, p.targets, impl="triton")
    return stats.logprob, stats.entropy, stats.logsumexp


def cublas_stats(p: HeadProblem) -> tuple[Tensor, ...]:
    # Triton is imported where it is used: without it this is a row that says so.
    from benchmarks.gpu_session import cublas_chunks

    head = Head(p.hidden.detach(), p.weight.detach(), None, 1.0, None)
    logprob, logsumexp, entropy, _, _ = cublas_chunks.token_stats_forward(
        head, p.targets, None, IGNORE_INDEX
    )
    return logprob, entropy, logsumexp


def our_kl(p: HeadProblem) -> tuple[Tensor, ...]:
    return (token_kl(p.hidden, p.weight, p.hidden_q, p.weight_q, impl="triton"),)


def our_kl_shared(p: HeadProblem) -> tuple[Tensor, ...]:
    return (token_kl(p.hidden, p.weight, p.hidden_q, p.weight, impl="triton"),)


def liger(p: HeadProblem) -> tuple[Tensor, ...]:
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    loss = liger_fused_linear_cross_entropy(p.hidden, p.weight, p.targets, reduction="none")
    return (-loss,)


def cce(p: HeadProblem, **options: Any) -> tuple[Tensor, ...]:
    from cut_cross_entropy import linear_cross_entropy

    return (-linear_cross_entropy(p.hidden, p.weight, p.targets, reduction="none", **options),)


def trl_stats(p: HeadProblem) -> tuple[Tensor, ...]:
    from trl.kernels import ChunkedLogProbFunction

    return ChunkedLogProbFunction.apply(
        p.hidden, p.weight, None, p.targets, 1.0, TRL_CHUNK, None, 1.0, ("entropy",)
    )[:2]


def trl_kl(p: HeadProblem) -> tuple[Tensor, ...]:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    return ChunkedDivergenceFunction.apply(
        p.hidden_q, p.weight_q, None, p.hidden, p.weight, None, 0.0
    )[:1]


@cache
def _compiled(function: Callable[[HeadProblem], tuple[Tensor, ...]]) -> Any:
    return torch.compile(function)


ROUTES = (
    Route("token_stats, triton: logprob, logsumexp, entropy", our_stats),
    Route("cuBLAS chunks: logprob, logsumexp, entropy", cublas_stats, forward_only=True),
    Route("eager: logprob, entropy", eager_stats),
    Route("Liger: logprob", liger),
    Route("CCE: logprob", cce),
    Route("CCE, filter_eps=None: logprob", lambda p: cce(p, filter_eps=None)),
    Route("TRL: logprob, entropy", trl_stats),
    Route("token_kl, triton", our_kl, divergence=True),
    Route("token_kl, triton, one head", our_kl_shared, divergence=True),
    Route("eager: kl", eager_kl, divergence=True),
    Route("TRL: kl (one model's gradient)", trl_kl, divergence=True, one_model=True),
    Route("torch.compile: logprob, entropy", lambda p: _compiled(eager_stats)(p), COMPILE_SECONDS),
    Route("torch.compile: kl", lambda p: _compiled(eager_kl)(p), COMPILE_SECONDS, divergence=True),
)


def products(p: HeadProblem) -> Iterator[dict[str, Any]]:
    """What is needed at the least: the product of logits forward, it again and two more backward."""
    logits = torch.empty(p.hidden.shape[0], p.weight.shape[0], dtype=DTYPE, device=p.hidden.device)
    hidden, weight = p.hidden.detach(), p.weight.detach()

    def one() -> None:
        torch.mm(hidden, weight.T, out=logits)

    yield {"pass": "forward"} | measured(one, seconds=SECONDS)
    gradients = torch.empty_like(hidden), torch.empty_like(weight)

    def three() -> None:
        torch.mm(hidden, weight.T, out=logits)
        torch.mm(logits, weight, out=gradients[0])
        torch.mm(logits.T, hidden, out=gradients[1])

    def four() -> None:
        one()
        three()

    yield {"pass": "backward"} | measured(three, seconds=SECONDS)
    yield {"pass": "forward+backward"} | measured(four, seconds=SECONDS)


def route_rows(route: Route, p: HeadProblem) -> Iterator[dict[str, Any]]:
    """Forward, forward with backward, and backward alone; what gradients take is not counted as extra memory."""
    leaves = [p.hidden, p.weight]
    if route.divergence:
        leaves = [p.hidden_q, p.weight_q] if route.one_model else [*leaves, p.hidden_q]
        if not (route.one_model or route.run is our_kl_shared):
            leaves.append(p.weight_q)

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return route.run(p)

    def loss() -> Tensor:
        values = route.run(p)
        total = sum((v * g).sum() for v, g in zip(values, p.upstream, strict=False))
        assert isinstance(total, Tensor)
        return total

    def forward_fields() -> dict[str, Any]:
        fields = measured(forward, seconds=SECONDS)
        if route.run is not our_kl_shared:
            exact = kl if route.divergence else logprob
            fields["error"] = stats_error(forward()[0], exact, relative=route.divergence)
        return fields

    def backward_fields() -> dict[str, Any]:
        held = loss()
        return measured(
            lambda: torch.autograd.grad(held, leaves, retain_graph=True), seconds=SECONDS
        )

    def both_fields() -> dict[str, Any]:
        return measured(lambda: torch.autograd.grad(loss(), leaves), seconds=SECONDS)

    logprob, _, kl = p.exact()
    # Backward alone comes last: a route that cannot do it twice has been measured without it.
    passes = {"forward": forward_fields}
    if not route.forward_only:
        passes |= {"forward+backward": both_fields, "backward": backward_fields}
    for name, measure in passes.items():
        try:
            fields = measure()
            if name != "forward" and "extra_bytes" in fields:
                fields["extra_bytes"] -= sum(leaf.nbytes for leaf in leaves)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            fields = {"skipped": "out of memory"}
        except RuntimeError as error:
            # Some graphs, such as those of torch.compile, can be gone through once only.
            if name != "backward" or "retain_graph" not in str(error):
                raise
            fields = {"skipped": "cannot be repeated"}
        yield {"pass": name, "divergence": route.divergence} | fields


def cases(sizes: Sizes) -> list[Case]:
    # One problem at a time: the last width asked for.
    @cache
    def problem(width: int) -> HeadProblem:
        problem.cache_clear()
        return HeadProblem(sizes.tokens, sizes.vocabulary, width, DTYPE)

    results = []
    # The dearest compilations come last: what is cut off by the step's end is least missed there.
    for width in sizes.widths:

        def bare(width: int = width) -> Iterator[dict[str, Any]]:
            for fields in products(problem(width)):
                yield {"width": width, "route": "bare products"} | fields

        results.append(Case(f"D = {width}, bare products", bare))
    for group in (ROUTES[:-2], ROUTES[-2:]):
        for width in sizes.widths:
            for route in group:

                def run(route: Route = route, width: int = width) -> Iterator[dict[str, Any]]:
                    for fields in route_rows(route, problem(width)):
                        yield {"width": width, "route": route.name} | fields

                results.append(Case(f"D = {width}, {route.name}", run, route.seconds))
    return results
