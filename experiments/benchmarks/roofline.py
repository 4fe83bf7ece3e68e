"""Roofline ESTIMATE of the shipped Triton configurations on an H100: arithmetic, not a measurement.

    python experiments/benchmarks/roofline.py --tokens 8192 --vocabulary 151936 --width 4096

For each kernel: its floating-point operations, the bytes it must move from HBM (each input read and each output
written once), the bytes its tiles load through the L2 cache, and which of the three bounds is the largest. The
bounds assume perfect overlap and full occupancy; a real kernel is slower. Needs Triton installed, but no GPU.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

# H100 SXM5 80 GB: dense tensor-core and HBM3 rates from the data sheet; the L2 rate is the order of magnitude that
# microbenchmarks report. fp32 with ieee products runs on the CUDA cores.
DEVICE = "H100 SXM5"
PEAK_FLOPS = {"bf16": 989e12, "fp16": 989e12, "tf32": 494e12, "fp32": 67e12}
HBM_BYTES_PER_SECOND = 3.35e12
L2_BYTES_PER_SECOND = 5.5e12


@dataclass(frozen=True)
class KernelWork:
    """Work of one kernel over the whole problem."""

    kernel: str
    tile: str
    rate: str
    flops: float
    hbm_bytes: float
    tile_bytes: float

    @property
    def seconds(self) -> dict[str, float]:
        """The time that each resource alone would take."""
        return {
            "compute": self.flops / PEAK_FLOPS[self.rate],
            "HBM": self.hbm_bytes / HBM_BYTES_PER_SECOND,
            "L2": self.tile_bytes / L2_BYTES_PER_SECOND,
        }

    @property
    def bound(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


def product_bytes(height: int, width: int, depth: int, rows: int, columns: int, size: int) -> float:
    """Bytes that the tiles of a [height, depth] @ [depth, width] product load."""
    blocks = -(-height // rows) * -(-width // columns)
    return float(blocks * (rows + columns) * depth * size)


def estimates(tokens: int, vocabulary: int, width: int, dtype: str) -> list[KernelWork]:
    """One estimate per kernel, and for the two products that turn gradients of logits into gradients."""
    import torch

    from nondecoupling.kernels.triton_configurations import PRECISIONS, configuration

    torch_dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    size = torch_dtype.itemsize
    precision = PRECISIONS[torch_dtype]
    buffer = precision.buffer.itemsize
    product = 2.0 * tokens * vocabulary * width
    inputs = float((tokens + vocabulary) * width * size)
    logits = float(tokens * vocabulary * buffer)
    results = []
    for kernel, models in (("stats", 1), ("kl", 2)):
        for direction in ("forward", "backward"):
            tile, _ = configuration(f"{kernel}_{direction}", torch_dtype, descriptors=9)
            results.append(
                KernelWork(
                    f"{kernel}_{direction}",
                    f"{tile.rows}x{tile.columns}x{tile.depth}",
                    dtype,
                    models * product,
                    models * (inputs + (logits if direction == "backward" else 0)),
                    models
                    * product_bytes(tokens, vocabulary, width, tile.rows, tile.columns, size),
                )
            )
    # cuBLAS's products, and for fp16 a kernel of tf32; cuBLAS's tiles are taken to be 128 x 256.
    rate = "tf32" if dtype == "fp16" else dtype
    for name, height, depth, out in (
        ("product (hidden)", tokens, vocabulary, tokens * width * 4),
        ("product (head)", vocabulary, tokens, vocabulary * width * size),
    ):
        results.append(
            KernelWork(
                name,
                "128x256",
                rate,
                product,
                logits + inputs / 2 + out,
                product_bytes(height, width, depth, 128, 256, (buffer + size) // 2),
            )
        )
    return results


def render(rows: list[KernelWork], dtype: str, sizes: str) -> str:
    """Aligned text, labelled as an estimate."""
    lines = [
        f"ESTIMATE, not a measurement: roofline on {DEVICE}, {dtype}, {sizes}",
        f"{'kernel':20} {'tile':12} {'TFLOP':>7} {'HBM GB':>7} {'L2 GB':>8} "
        f"{'compute ms':>10} {'HBM ms':>7} {'L2 ms':>7}  bound",
    ]
    for row in rows:
        seconds = row.seconds
        lines.append(
            f"{row.kernel:20} {row.tile:12} {row.flops / 1e12:7.2f} {row.hbm_bytes / 1e9:7.2f} "
            f"{row.tile_bytes / 1e9:8.1f} {1e3 * seconds['compute']:10.2f} "
            f"{1e3 * seconds['HBM']:7.2f} {1e3 * seconds['L2']:7.2f}  {row.bound}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--dtypes", nargs="+", choices=("bf16", "fp16", "fp32"), default=("bf16",))
    arguments = parser.parse_args()
    sizes = f"T = {arguments.tokens}, V = {arguments.vocabulary:,}, D = {arguments.width}"
    for dtype in arguments.dtypes:
        rows = estimates(arguments.tokens, arguments.vocabulary, arguments.width, dtype)
        print(render(rows, dtype, sizes) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
