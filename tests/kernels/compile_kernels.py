"""Compile every shipped Triton configuration for GPUs that are not here, and fail if one spills registers.

    python tests/kernels/compile_kernels.py                            # all kernels, sm_80, sm_90, sm_100
    python tests/kernels/compile_kernels.py --architectures 90 --dtypes bf16 --variants every
    python tests/kernels/compile_kernels.py --kernels stats_forward --override 128,256,32,8,3    # spills: exit 1

Needs Triton, no GPU. Exit code 0: all compile, fit in shared memory and spill nothing. This shows that the kernels
can be built and what they use. It does not show races, tensor-core rounding or speed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_ALWAYS_COMPILE"] = "1"
os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nondecoupling.kernels import triton_kernels
from nondecoupling.kernels.triton_launch import GROUP, PRECISIONS, Configuration, configuration

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# The flags of each kernel; a variant is the set of those that are on, such as "bias+softcap", or "plain".
FLAGS = {
    "stats_forward": ("bias", "softcap", "exclude"),
    "stats_backward": ("bias", "softcap", "exclude"),
    "kl_forward": ("bias", "softcap"),
    "kl_backward": ("bias", "softcap"),
    "accumulate": ("add",),
}
CONSTANTS = {
    "bias": ("HAS_BIAS", "HAS_BIAS_P", "HAS_BIAS_Q"),
    "softcap": ("HAS_SOFTCAP",),
    "exclude": ("HAS_EXCLUDE",),
    "add": ("ADD",),
}
# Spill stores in bytes for sm_80 / sm_90 / sm_100 of others' kernels, compiled with the same flags.
ANCHORS = {
    "verl forward 128x256x32": (856, 824, 1124),
    "CCE forward 128x256x32": (0, 0, 68),
    "CCE backward 128x128x32": (56, 12, 4),
    "a minimal lse + logprob 128x128x64, 8 warps": (8, 0, 0),
}
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of one compiled kernel; sizes in bytes."""

    kernel: str
    dtype: str
    variant: str
    tile: str
    architecture: int
    registers: int
    spill_stores: int
    spill_loads: int
    shared: int

    @property
    def fits(self) -> bool:
        limit = SHARED_LIMIT[self.architecture]
        return self.spill_stores == self.spill_loads == 0 and self.shared <= limit


def compile_one(
    kernel: str, dtype: str, flags: tuple[str, ...], architecture: int, tile: Configuration
) -> Resources:
    """Compile ``kernel`` as the launcher would for aligned inputs of ``dtype``."""
    function = getattr(triton_kernels, kernel)
    names = function.arg_names
    precision = PRECISIONS[DTYPES[dtype]]
    buffer = "bf16" if precision.buffer == torch.bfloat16 else "fp32"
    constants: dict[str, object]
    if kernel == "accumulate":
        constants = {
            "BLOCK_M": tile.rows,
            "BLOCK_N": tile.columns,
            "BLOCK_K": tile.depth,
            "GROUP": GROUP,
            "PRECISION": precision.gradients,
        }
    else:
        constants = {
            "BLOCK_T": tile.rows,
            "BLOCK_V": tile.columns,
            "BLOCK_D": tile.depth,
            "PRECISION": precision.logits,
        }
    on = {constant for flag in flags for constant in CONSTANTS[flag]}
    signature, attributes, constexprs = {}, {}, {}
    for index, name in enumerate(names):
        if name.isupper():
            signature[name] = "constexpr"
            constexprs[(index,)] = constants.get(name, name in on)
            continue
        if name in ("targets", "exclude"):
            signature[name] = "*i64"
        elif name in ("hidden", "weight", "b") or name.startswith(("hidden_", "weight_", "bias")):
            signature[name] = "i32" if name.endswith("_stride") else f"*{dtype}"
        elif name == "a" or (name.startswith("gradient_") and name.endswith("out")):
            signature[name] = f"*{buffer}"
        elif name.endswith(("_out", "_in", "out")):
            signature[name] = "*fp32"
        elif name.endswith("_scale"):
            signature[name] = "fp32"
        else:
            signature[name] = "i32"
        aligned = signature[name].startswith("*") or name in ("width", "width_p", "width_q")
        if aligned or name.endswith("_stride"):
            attributes[(index,)] = [["tt.divisibility", 16]]
    if kernel == "accumulate":
        # The rows of ``a`` are contiguous for the hidden states (ADD), its columns for the head.
        unit = names.index("a_depth_stride" if "add" in flags else "a_row_stride")
        signature[names[unit]] = "constexpr"
        constexprs[(unit,)] = 1
        attributes.pop((unit,), None)
    source = ASTSource(function, signature=signature, constexprs=constexprs, attrs=attributes)
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    log = io.StringIO()
    with contextlib.redirect_stdout(log):
        built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    spills = SPILLS.search(log.getvalue())
    registers = REGISTERS.search(log.getvalue())
    if spills is None or registers is None:
        raise RuntimeError(f"ptxas reported no resources for {kernel}; its log: {log.getvalue()!r}")
    return Resources(
        kernel=kernel,
        dtype=dtype,
        variant="+".join(flags) or "plain",
        tile="x".join(map(str, tile[:3])) + f" {tile.num_warps}w{tile.num_stages}s",
        architecture=architecture,
        registers=int(registers[1]),
        spill_stores=int(spills[2]),
        spill_loads=int(spills[3]),
        shared=built.metadata.shared,
    )


def variants(kernel: str, which: str) -> list[tuple[str, ...]]:
    """Sets of flags to compile ``kernel`` with."""
    flags = FLAGS[kernel]
    sizes = {"plain": (0,), "ends": (0, len(flags)), "every": range(len(flags) + 1)}[which]
    return [chosen for size in sizes for chosen in itertools.combinations(flags, size)]


def table(rows: list[Resources]) -> str:
    """The figures as aligned text, one line per kernel and architecture."""
    lines = [
        f"{'kernel':15} {'dtype':5} {'variant':20} {'tile':17} {'sm':>4} {'regs':>5} "
        f"{'spill st':>8} {'spill ld':>8} {'shared KiB':>10} {'limit':>6}"
    ]
    for r in rows:
        lines.append(
            f"{r.kernel:15} {r.dtype:5} {r.variant:20} {r.tile:17} {r.architecture:4} {r.registers:5} "
            f"{r.spill_stores:8} {r.spill_loads:8} {r.shared / 1024:10.1f} "
            f"{SHARED_LIMIT[r.architecture] // 1024:6}{'' if r.fits else '   <-- does not fit'}"
        )
    lines.append("")
    lines.append("for comparison, spill stores in bytes on sm_80 / sm_90 / sm_100:")
    for name, stores in ANCHORS.items():
        lines.append(f"    {name:45} {' / '.join(map(str, stores))}")
    for kernel in dict.fromkeys(r.kernel for r in rows):
        worst = [
            max(
                (r.spill_stores for r in rows if r.kernel == kernel and r.architecture == a),
                default=None,
            )
            for a in sorted(SHARED_LIMIT)
        ]
        shown = " / ".join("-" if value is None else str(value) for value in worst)
        lines.append(f"    {'this package, ' + kernel + ' (worst above)':45} {shown}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=tuple(FLAGS), default=tuple(FLAGS))
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=tuple(DTYPES))
    parser.add_argument(
        "--variants",
        choices=("plain", "ends", "every"),
        default="ends",
        help="no flags, none and all of them, or every set",
    )
    parser.add_argument(
        "--architectures", nargs="+", type=int, choices=tuple(SHARED_LIMIT), default=(80, 90, 100)
    )
    parser.add_argument("--override", help="rows,columns,depth,num_warps,num_stages")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    override = None
    if arguments.override:
        override = Configuration(*map(int, arguments.override.split(",")))
    rows = []
    for kernel in arguments.kernels:
        for dtype in arguments.dtypes:
            for flags in variants(kernel, arguments.variants):
                extended = bool(flags)
                tile = override or configuration(kernel, DTYPES[dtype], extended=extended)
                for architecture in arguments.architectures:
                    rows.append(compile_one(kernel, dtype, flags, architecture, tile))
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    failed = [row for row in rows if not row.fits]
    print(f"{len(rows)} compiled, {len(failed)} spill or do not fit")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
