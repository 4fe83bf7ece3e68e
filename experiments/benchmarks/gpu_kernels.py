"""Time and peak memory of the Triton kernels on a GPU, against what else is installed.

    python experiments/benchmarks/gpu_kernels.py --output experiments/results/kernels

Routes: eager torch, torch.compile, F.linear_cross_entropy, Liger, CCE (cut-cross-entropy), TRL's chunked kernels, and
this package. A route whose package is missing is listed as not installed. Each is warmed up, then timed by CUDA events
with the L2 cache flushed in between; the 20th, 50th and 80th percentile are reported with the peak of allocated
memory beyond the inputs. Before anything is timed, the kernels' results are compared with float64 on some tokens: a
wrong kernel is not timed. Without a GPU this says so and writes nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from nondecoupling.kernels import token_kl, token_stats

Route = Callable[[], tuple[torch.Tensor, ...]]
TRL_CHUNK = 32_768
CHECKED_TOKENS = 64


class Problem:
    """Inputs of one size, the same for every route."""

    def __init__(self, tokens: int, vocabulary: int, width: int, dtype: torch.dtype) -> None:
        generator = torch.Generator("cuda").manual_seed(0)

        def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
            values = torch.randn(*shape, generator=generator, device="cuda")
            return values.mul_(scale).to(dtype)

        step = 2.5 / width**0.5
        self.hidden = normal(tokens, width).requires_grad_()
        self.weight = normal(vocabulary, width, scale=step).requires_grad_()
        self.hidden_q = (self.hidden.detach() + normal(tokens, width, scale=0.1)).requires_grad_()
        self.weight_q = (
            self.weight.detach() + normal(vocabulary, width, scale=0.1 * step)
        ).requires_grad_()
        self.targets = torch.randint(0, vocabulary, (tokens,), generator=generator, device="cuda")
        self.upstream = torch.randn(3, tokens, generator=generator, device="cuda")


def eager_stats(p: Problem) -> tuple[torch.Tensor, ...]:
    log_p = torch.log_softmax((p.hidden @ p.weight.T).float(), dim=1)
    return log_p.gather(1, p.targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=1)


def eager_kl(p: Problem) -> tuple[torch.Tensor, ...]:
    log_p = torch.log_softmax((p.hidden @ p.weight.T).float(), dim=1)
    log_q = torch.log_softmax((p.hidden_q @ p.weight_q.T).float(), dim=1)
    return ((log_p.exp() * (log_p - log_q)).sum(dim=1),)


def routes(p: Problem) -> dict[str, Route | str]:
    """The functions to time by name; a string says why one cannot be."""
    result: dict[str, Route | str] = {
        "gemm": lambda: (p.hidden @ p.weight.T,),
        "eager: logprob, entropy": lambda: eager_stats(p),
        "eager: kl": lambda: eager_kl(p),
    }
    compiled_stats, compiled_kl = torch.compile(eager_stats), torch.compile(eager_kl)
    result["torch.compile: logprob, entropy"] = lambda: compiled_stats(p)
    result["torch.compile: kl"] = lambda: compiled_kl(p)
    if hasattr(F, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        result["F.linear_cross_entropy: logprob"] = lambda: (
            F.linear_cross_entropy(
                p.hidden, p.weight, p.targets, reduction="none", options=options
            ),
        )
    else:
        result["F.linear_cross_entropy: logprob"] = "needs torch >= 2.13"
    try:
        from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

        result["Liger: logprob"] = lambda: (
            liger_fused_linear_cross_entropy(p.hidden, p.weight, p.targets, reduction="none"),
        )
    except ImportError:
        result["Liger: logprob"] = "liger-kernel is not installed"
    try:
        from cut_cross_entropy import linear_cross_entropy

        result["CCE: logprob"] = lambda: (
            linear_cross_entropy(p.hidden, p.weight, p.targets, reduction="none"),
        )
    except ImportError:
        result["CCE: logprob"] = "cut-cross-entropy is not installed"
    try:
        from trl.kernels import ChunkedLogProbFunction
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

        result["TRL: logprob, entropy"] = lambda: ChunkedLogProbFunction.apply(
            p.hidden, p.weight, None, p.targets, 1.0, TRL_CHUNK, None, 1.0, ("entropy",)
        )[:2]
        result["TRL: kl (one model's gradient)"] = lambda: ChunkedDivergenceFunction.apply(
            p.hidden_q, p.weight_q, None, p.hidden, p.weight, None, 0.0
        )[:1]
    except ImportError:
        result["TRL: logprob, entropy"] = "trl is not installed, or has no chunked kernels"
    result["token_stats: logprob, logsumexp, entropy"] = lambda: token_stats(
        p.hidden, p.weight, p.targets, impl="triton"
    )[:3]
    result["token_kl: kl"] = lambda: (
        token_kl(p.hidden, p.weight, p.hidden_q, p.weight_q, impl="triton"),
    )
    return result


def check(p: Problem) -> dict[str, float]:
    """Largest error of the Triton results on a few tokens against float64, and eager's for comparison."""
    rows = slice(0, CHECKED_TOKENS)
    with torch.no_grad():
        exact = [
            t[rows].double() if t is p.hidden or t is p.hidden_q else t.double()
            for t in (p.hidden, p.weight, p.hidden_q, p.weight_q)
        ]
        truth = token_stats(exact[0], exact[1], p.targets[rows], impl="reference")
        kl = token_kl(*exact, impl="reference")
        ours = token_stats(p.hidden, p.weight, p.targets, impl="triton")
        ours_kl = token_kl(p.hidden, p.weight, p.hidden_q, p.weight_q, impl="triton")
        eager = eager_stats(p)
        eager_divergence = eager_kl(p)[0]
    errors = {
        "logprob": float((ours.logprob[rows] - truth.logprob).abs().max()),
        "logprob, eager": float((eager[0][rows] - truth.logprob).abs().max()),
        "entropy": float((ours.entropy[rows] - truth.entropy).abs().max()),
        "entropy, eager": float((eager[1][rows] - truth.entropy).abs().max()),
        "kl, relative": float(((ours_kl[rows] - kl) / kl).abs().max()),
        "kl, eager, relative": float(((eager_divergence[rows] - kl) / kl).abs().max()),
    }
    for name in ("logprob", "entropy"):
        if not errors[name] <= errors[f"{name}, eager"] + 1e-4:
            raise RuntimeError(f"the Triton {name} is less accurate than eager: {errors}")
    if not errors["kl, relative"] <= max(1e-3, errors["kl, eager, relative"]):
        raise RuntimeError(f"the Triton kl is off: {errors}")
    return errors


def clock() -> str:
    """SM clock, its limit, power and temperature now, as the driver reports them."""
    query = "clocks.sm,clocks.max.sm,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.splitlines()[torch.cuda.current_device()].strip()


def time_ms(function: Callable[[], Any], warm_up: int, repetitions: int) -> list[float]:
    """Milliseconds of each repetition, the L2 cache flushed before each."""
    flush = torch.empty(1 << 28, dtype=torch.int8, device="cuda")
    for _ in range(warm_up):
        function()
    events = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(repetitions)
    ]
    for start, end in events:
        flush.zero_()
        start.record()
        function()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def peak_bytes(function: Callable[[], Any]) -> int:
    """Peak of allocated memory beyond what was allocated before."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measure(
    name: str, route: Route, p: Problem, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Forward, and forward with backward, of one route."""
    leaves = [p.hidden, p.weight]
    if "kl" in name:
        leaves += [p.hidden_q, p.weight_q]
        if "one model" in name:
            leaves = leaves[2:]

    def forward() -> Any:
        with torch.no_grad():
            return route()

    def both() -> Any:
        values = route()
        loss = sum((v * g).sum() for v, g in zip(values, p.upstream, strict=False))
        return torch.autograd.grad(loss, leaves)

    rows = []
    passes = [("forward", forward)] + ([] if name == "gemm" else [("forward+backward", both)])
    for kind, function in passes:
        row: dict[str, Any] = {"route": name, "pass": kind}
        try:
            milliseconds = sorted(time_ms(function, arguments.warm_up, arguments.repetitions))
            count = len(milliseconds)
            row["ms"] = {q: milliseconds[min(count * q // 100, count - 1)] for q in (20, 50, 80)}
            row["extra_bytes"] = peak_bytes(function)
            row["clock"] = clock()
        except torch.cuda.OutOfMemoryError:
            row["skipped"] = "out of memory"
            torch.cuda.empty_cache()
        rows.append(row)
    return rows


def render(record: dict[str, Any]) -> str:
    """The Markdown table."""
    lines = [
        "# Triton kernels: measured time and memory",
        "",
        f"`{record['command']}`",
        "",
        f"{record['device']}, {record['sizes']}; "
        + ", ".join(f"{k} {v}" for k, v in record["versions"].items()),
        "",
        f"Errors against float64 on {CHECKED_TOKENS} tokens: "
        + ", ".join(f"{name} {value:.1e}" for name, value in record["errors"].items()),
        "",
        "| route | pass | ms (20 / 50 / 80 %) | extra GB | clock, limit, power, temperature |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    for row in record["rows"]:
        if "skipped" in row:
            lines.append(f"| {row['route']} | {row.get('pass', '')} | {row['skipped']} | | |")
            continue
        quantiles = " / ".join(f"{value:.2f}" for value in row["ms"].values())
        extra = row["extra_bytes"] / 1e9
        lines.append(
            f"| {row['route']} | {row['pass']} | {quantiles} | {extra:.2f} | {row['clock']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=30)
    parser.add_argument("--output", type=Path, help="folder for gpu.md and gpu.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device found: nothing was measured and nothing is written")
        return 0
    dtype = getattr(torch, arguments.dtype)
    problem = Problem(arguments.tokens, arguments.vocabulary, arguments.width, dtype)
    versions: dict[str, str] = {"torch": torch.__version__}
    for package in ("triton", "liger-kernel", "cut-cross-entropy", "trl"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    properties = torch.cuda.get_device_properties(0)
    record: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "device": f"{properties.name}, {properties.multi_processor_count} processors, "
        f"compute capability {properties.major}.{properties.minor}",
        "sizes": f"T = {arguments.tokens}, V = {arguments.vocabulary}, D = {arguments.width}, "
        f"{arguments.dtype}",
        "versions": versions,
        "errors": check(problem),
        "rows": [],
    }
    for name, route in routes(problem).items():
        if isinstance(route, str):
            rows = [{"route": name, "skipped": route}]
        else:
            rows = measure(name, route, problem, arguments)
        record["rows"] += rows
        print(json.dumps(rows), flush=True)
    text = render(record)
    print("\n" + text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "gpu.md").write_text(text)
        (arguments.output / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
