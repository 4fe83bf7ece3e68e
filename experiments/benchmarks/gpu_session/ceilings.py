"""Step 0: what the machine is, and the rates that nothing here can exceed.

Copy bandwidth, a square bfloat16 product, and the product that a head's logits need, at each width.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.gpu_session.cases import Case
from benchmarks.gpu_session.measure import clock, device, measured
from benchmarks.gpu_session.problem import Sizes

__all__ = ["cases", "machine"]

PACKAGES = ("torch", "triton", "transformers", "liger-kernel", "cut-cross-entropy", "trl")


def machine() -> Iterator[dict[str, Any]]:
    """What the session runs on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    name, processors, capability = "cpu (a rehearsal)", 0, ""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        name, processors = properties.name, properties.multi_processor_count
        capability = f"{properties.major}.{properties.minor}"
    yield {
        "device": name,
        "processors": processors,
        "capability": capability,
        "versions": versions,
        "clock": clock(),
    }


def copy(sizes: Sizes) -> Iterator[dict[str, Any]]:
    source = torch.randn(sizes.square * sizes.square * 8, device=device())
    target = torch.empty_like(source)
    fields = measured(lambda: target.copy_(source), seconds=0.3)
    yield fields | {"tb_per_s": 2 * source.nbytes / fields["ms"] / 1e9}


def product(
    rows: int, columns: int, depth: int, out_dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    """bfloat16 [rows, depth] @ [depth, columns], the result in ``out_dtype``."""
    a = torch.randn(rows, depth, device=device(), dtype=torch.bfloat16)
    b = torch.randn(columns, depth, device=device(), dtype=torch.bfloat16)
    out = torch.empty(rows, columns, device=device(), dtype=out_dtype)
    if out_dtype == torch.bfloat16:
        fields = measured(lambda: torch.mm(a, b.T, out=out), seconds=0.6)
    else:
        fields = measured(lambda: torch.mm(a, b.T, out_dtype=out_dtype, out=out), seconds=0.6)
    yield fields | {"tflops": 2e-9 * rows * columns * depth / fields["ms"]}


def cases(sizes: Sizes) -> list[Case]:
    side = sizes.square
    results = [
        Case("copy", lambda: copy(sizes)),
        Case("square product", lambda: product(side, side, side, torch.bfloat16)),
    ]
    for width in sizes.widths:
        for dtype in (torch.bfloat16, torch.float32):

            def run(width: int = width, dtype: torch.dtype = dtype) -> Iterator[dict[str, Any]]:
                for fields in product(sizes.tokens, sizes.vocabulary, width, dtype):
                    yield fields | {"width": width}

            name = str(dtype).removeprefix("torch.")
            results.append(Case(f"head's product, D = {width}, to {name}", run))
    return results
