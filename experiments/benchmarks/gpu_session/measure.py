"""Time, peak memory and clocks on the GPU; on a CPU, for rehearsals, the time alone."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["clock", "device", "measured"]

# More than the L2 cache of any GPU so far.
FLUSHED_BYTES = 1 << 28


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> str:
    """SM clock, its limit, power and temperature now, as the driver reports them."""
    query = "clocks.sm,clocks.max.sm,power.draw,temperature.gpu"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    lines = done.stdout.splitlines()
    return lines[0].strip() if lines else "unknown"


def _milliseconds_on_gpu(function: Callable[[], Any], repetitions: int) -> list[float]:
    """Of each repetition, by CUDA events, the L2 cache flushed before each."""
    flush = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda")
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


def _milliseconds_on_cpu(function: Callable[[], Any], repetitions: int) -> list[float]:
    results = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        results.append(1e3 * (time.perf_counter() - start))
    return results


def measured(
    function: Callable[[], Any], *, seconds: float = 1.0, warm_up: int = 2
) -> dict[str, Any]:
    """Fields of a row: median and spread of the milliseconds of ``function``, and its peak memory beyond what is held.

    The number of repetitions, 3 to 30, is what fits into ``seconds``.
    """
    on_gpu = torch.cuda.is_available()
    time_each = _milliseconds_on_gpu if on_gpu else _milliseconds_on_cpu
    fields: dict[str, Any] = {}
    for _ in range(warm_up):
        function()
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        fields["extra_bytes"] = torch.cuda.max_memory_allocated() - held
    first = time_each(function, 1)[0]
    count = max(3, min(30, int(1e3 * seconds / max(first, 1e-3))))
    times = sorted(time_each(function, count))
    fields |= {
        "ms": statistics.median(times),
        "ms_lowest": times[0],
        "ms_highest": times[-1],
        "repetitions": count,
    }
    if on_gpu:
        fields["clock"] = clock()
    return fields
