"""Time and peak memory of the CPU path, against a bare matrix product and what else there is.

    python experiments/benchmarks/cpu_kernels.py --output experiments/results/kernels

Each route runs in a process of its own, on the same random inputs, and reports the median over its repetitions and
the peak of its resident memory beyond the inputs (for a backward, also beyond the gradients). Right before each
repetition the bare product is timed: a route's ratio is the median over these pairs, so that a machine that is faster
at one time than at another does not move it, and targets compare such ratios. The default sizes are those of
Qwen3-0.6B: T = 1024, V = 151,936, D = 1024, float32.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUTES = (
    "gemm",
    "gemm into a buffer",
    "eager forward",
    "linear_cross_entropy forward",
    "trl forward",
    "token_stats forward",
    "eager forward+backward",
    "linear_cross_entropy forward+backward",
    "trl forward+backward",
    "token_stats forward+backward",
    "token_stats forward+backward, logits kept",
    "two gemms",
    "eager kl forward",
    "trl kl forward",
    "token_kl forward",
    "token_kl forward, one head",
    "token_kl forward, tiny divergence",
    "eager kl forward+backward",
    "token_kl forward+backward",
    "token_kl forward+backward, logits kept",
)
# What each is compared with, and the target. A backward takes two products for each model, and the
# one of the forward again where its logits are not kept: four, or three, in all for one model.
TARGETS = (
    ("token_stats forward", "gemm", 0.95),
    ("token_stats forward+backward", "gemm", 1.1 * 4),
    ("token_stats forward+backward", "eager forward+backward", 1.0),
    ("token_stats forward+backward, logits kept", "gemm", 1.1 * 3),
    ("token_stats forward+backward, logits kept", "eager forward+backward", 0.85),
    ("token_kl forward", "two gemms", 1.3),
    ("token_kl forward+backward", "two gemms", 1.1 * 4),
    ("token_kl forward+backward, logits kept", "two gemms", 1.1 * 3),
    ("token_kl forward+backward, logits kept", "eager kl forward+backward", 0.85),
)
# At most these GB beyond inputs and gradients; one array of the default sizes' logits is 0.62.
MEMORY_TARGETS = {
    "token_stats forward": 0.15,
    "token_stats forward+backward": 0.25,
    "token_stats forward+backward, logits kept": 0.7,
    "token_kl forward+backward, logits kept": 1.35,
}

TRL_CHUNK = 32_768  # columns per tile in TRL's trainers
# A repetition during which other processes used more of the machine than this is made again.
QUIET = 0.03
# Seconds from which on a route is repeated no more.
LONG = 60.0


def status_bytes(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def peak_beyond_now(function: Callable[[], Any]) -> int:
    """Peak resident memory during ``function`` minus that before it, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = status_bytes("VmRSS")
    keep = function()
    peak = status_bytes("VmHWM")
    del keep
    return peak - before


def busy_seconds() -> float:
    """CPU seconds used by the whole machine since it started."""
    user, nice, system, _, _, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """(seconds, share of the machine that other processes used meanwhile)."""
    start, busy, own = time.perf_counter(), busy_seconds(), time.process_time()
    function()
    seconds = time.perf_counter() - start
    others = busy_seconds() - busy - (time.process_time() - own)
    return seconds, max(0.0, others / seconds / (os.cpu_count() or 1))


def build(route: str, tokens: int, vocabulary: int, width: int) -> tuple[Callable[[], Any], int]:
    """The function to measure and the bytes of the gradients it returns."""
    import torch
    import torch.nn.functional as F

    from nondecoupling.kernels import token_kl, token_stats

    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.empty(*shape).normal_(generator=generator)

    hidden, weight = normal(tokens, width), normal(vocabulary, width).mul_(2.5 / width**0.5)
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    upstream = normal(3, tokens)
    two = " kl " in route or route.startswith(("token_kl", "two"))
    backward = "backward" in route
    options: dict[str, Any] = {"impl": "chunked", "keep_logits": route.endswith("kept")}
    if two:
        size = 1e-4 if "tiny" in route else 0.1
        hidden_q = hidden + size * normal(tokens, width)
        weight_q = weight
        if "one head" not in route:
            weight_q = normal(vocabulary, width).mul_(2.5 / width**0.5 * size).add_(weight)
        leaves = [hidden, weight, hidden_q, weight_q]
    else:
        leaves = [hidden, weight]
    for leaf in leaves:
        leaf.requires_grad_(backward)

    def eager_stats() -> Any:
        log_p = torch.log_softmax(hidden @ weight.T, dim=1)
        return log_p.gather(1, targets[:, None])[:, 0], -(log_p.exp() * log_p).sum(dim=1)

    def eager_kl() -> Any:
        log_p = torch.log_softmax(hidden @ weight.T, dim=1)
        log_q = torch.log_softmax(hidden_q @ weight_q.T, dim=1)
        return ((log_p.exp() * (log_p - log_q)).sum(dim=1),)

    def torch_fused() -> Any:
        options = torch.nn.LinearCrossEntropyOptions()
        return (F.linear_cross_entropy(hidden, weight, targets, reduction="none", options=options),)

    def trl_stats() -> Any:
        from trl.kernels import ChunkedLogProbFunction

        # The call of TRL's trainers, with their chunk size; its entropy is an output on request.
        return ChunkedLogProbFunction.apply(
            hidden, weight, None, targets, 1.0, TRL_CHUNK, None, 1.0, ("entropy",)
        )[:2]

    def trl_kl() -> Any:
        from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

        return ChunkedDivergenceFunction.apply(hidden_q, weight_q, None, hidden, weight, None, 0.0)[
            :1
        ]

    forward: Callable[[], Any]
    if route == "gemm into a buffer":
        product = torch.zeros(tokens, vocabulary)
        forward = lambda: (torch.mm(hidden, weight.T, out=product),)  # noqa: E731
    elif route == "gemm":
        forward = lambda: (hidden @ weight.T,)  # noqa: E731
    elif route.startswith("two gemms"):
        forward = lambda: (hidden @ weight.T, hidden_q @ weight_q.T)  # noqa: E731
    elif route.startswith("token_stats"):
        forward = lambda: token_stats(hidden, weight, targets, **options)[:3]  # noqa: E731
    elif route.startswith("token_kl"):
        forward = lambda: (token_kl(hidden, weight, hidden_q, weight_q, **options),)  # noqa: E731
    else:
        forward = {
            "eager kl": eager_kl,
            "trl kl": trl_kl,
            "eager": eager_stats,
            "linear_cross_entropy": torch_fused,
            "trl": trl_stats,
        }[route.removesuffix("+backward").removesuffix(" forward")]
    if not backward:

        def without_graph() -> Any:
            with torch.no_grad():
                return forward()

        return without_graph, 0

    def both() -> Any:
        values = forward()
        loss = sum(
            (value * weights).sum() for value, weights in zip(values, upstream, strict=False)
        )
        return torch.autograd.grad(loss, leaves)

    return both, sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def measure(route: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One route, in this process."""
    import torch

    torch.set_num_threads(arguments.threads)
    try:
        function, gradients = build(route, arguments.tokens, arguments.vocabulary, arguments.width)
        # Peak memory is that of the first full-size call: later ones reuse what the allocator kept.
        build(route, 8, 64, 8)[0]()
        extra = peak_beyond_now(function) - gradients
        product, _ = build("gemm", arguments.tokens, arguments.vocabulary, arguments.width)
        product()
        seconds: list[float] = []
        products: list[float] = []
        shares: list[float] = []
        disturbed = 0
        while len(seconds) < arguments.repetitions:
            beside, share_beside = timed(product)
            duration, share = timed(function)
            share = max(share, share_beside)
            if share > QUIET and disturbed < arguments.patience:
                disturbed += 1
                time.sleep(2)
                continue
            seconds.append(duration)
            products.append(beside)
            shares.append(share)
            if duration > LONG:
                break
    except (ImportError, NotImplementedError) as error:
        return {"route": route, "skipped": str(error)}
    return {
        "route": route,
        "seconds": seconds,
        "gemm_seconds": products,
        "others_share": shares,
        "discarded": disturbed,
        "extra_bytes": extra,
    }


def environment(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on."""
    import importlib.metadata

    import torch

    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    for package in ("trl",):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "cpu": model,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": arguments.threads,
        "load_average_at_start": os.getloadavg()[0],
        "versions": versions,
    }


def render(record: dict[str, Any]) -> str:
    """The Markdown table."""
    measured = {row["route"]: row for row in record["rows"] if "seconds" in row}
    of_a_gemm = {
        route: statistics.median(
            own / product for own, product in zip(row["seconds"], row["gemm_seconds"], strict=True)
        )
        for route, row in measured.items()
    }
    environment_, sizes = record["environment"], record["sizes"]
    lines = [
        "# CPU path: measured time and memory",
        "",
        f"`{record['command']}`",
        "",
        f"T = {sizes['tokens']}, V = {sizes['vocabulary']:,}, D = {sizes['width']}, float32, "
        f"{environment_['threads']} threads; {environment_['cpu']} ({environment_['capability']}), "
        + ", ".join(f"{name} {version}" for name, version in environment_["versions"].items())
        + f". Median of {sizes['repetitions']} after a warm-up (of one, if it takes over {LONG:.0f} s), each "
        "route in its own process, and of its ratio to a bare GEMM right before; "
        f"a repetition during which other processes used more than {QUIET:.0%} of the machine is made "
        "again (the last column is the worst share that was accepted). "
        "GB beyond the inputs and, for a backward, beyond the gradients.",
        "",
        "| route | median s | range s | of a GEMM | extra GB | others |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in record["rows"]:
        if "skipped" in row:
            lines.append(f"| {row['route']} | not measured: {row['skipped']} | | | | |")
            continue
        seconds = row["seconds"]
        lines.append(
            f"| {row['route']} | {statistics.median(seconds):.2f} | {min(seconds):.2f} - {max(seconds):.2f} | "
            f"{of_a_gemm[row['route']]:.2f} | {row['extra_bytes'] / 1e9:.3f} | {max(row['others_share']):.1%} |"
        )
    products = [value for row in measured.values() for value in row["gemm_seconds"]]
    if products:
        lines += [
            "",
            f"The {len(products)} bare GEMMs beside took {min(products):.2f} to {max(products):.2f} s, "
            f"median {statistics.median(products):.2f} s.",
        ]
    lines += ["", "| target | measured | met |", "| --- | --- | --- |"]
    for route, other, most in TARGETS:
        if route in measured and (other in measured or other == "gemm"):
            ratio = of_a_gemm[route] / (1.0 if other == "gemm" else of_a_gemm[other])
            met = "yes" if ratio <= most else "**no**"
            lines.append(f"| {route} <= {most:.2f} x {other} | {ratio:.2f} x | {met} |")
    for route, memory in MEMORY_TARGETS.items():
        if route in measured:
            extra = measured[route]["extra_bytes"] / 1e9
            met = "yes" if extra <= memory else "**no**"
            lines.append(f"| {route}: <= {memory} GB extra | {extra:.3f} GB | {met} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--patience", type=int, default=30, help="disturbed repetitions to discard")
    parser.add_argument("--routes", nargs="+", choices=ROUTES, default=ROUTES, metavar="ROUTE")
    parser.add_argument("--output", type=Path, help="folder for cpu.md and cpu.json")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments)))
        return 0
    record: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "environment": environment(arguments),
        "sizes": {
            name: getattr(arguments, name)
            for name in ("tokens", "vocabulary", "width", "repetitions")
        },
        "rows": [],
    }
    for route in dict.fromkeys(arguments.routes):
        command = [sys.executable, __file__, "--one", route]
        for name in ("tokens", "vocabulary", "width", "threads", "repetitions", "patience"):
            command += [f"--{name}", str(getattr(arguments, name))]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(result.stdout.splitlines()[-1])
        record["rows"].append(row)
        shown = row.get("skipped") or (
            f"{statistics.median(row['seconds']):.2f} s, {row['extra_bytes'] / 1e9:.3f} GB extra, "
            f"others {max(row['others_share']):.1%}, {row['discarded']} discarded"
        )
        print(f"{route:42} {shown}", flush=True)
    text = render(record)
    print("\n" + text)
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / "cpu.md").write_text(text)
        (arguments.output / "cpu.json").write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
