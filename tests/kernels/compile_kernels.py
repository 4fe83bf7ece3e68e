"""Compile what the launcher launches, for GPUs that are not here, and fail if a kernel spills registers.

    python tests/kernels/compile_kernels.py --write experiments/results/kernels    # all kernels, sm_80, sm_90, sm_100
    python tests/kernels/compile_kernels.py --architectures 90 --dtypes bf16 --variants every
    python tests/kernels/compile_kernels.py --kernels stats_forward --override 128,256,32,8,3,1    # spills: exit 1
    PYTHONPATH=triton-3.6 python tests/kernels/compile_kernels.py    # another Triton, by pip install --no-deps --target

The launcher itself runs, on small inputs on the CPU, with a driver that says it has a GPU of the architecture; each
launch is compiled and not run. So dtypes, constants, alignment and divisibility are those of real launches: of aligned
inputs, and of odd sizes with odd addresses. Exit code 0: all compile, fit in shared memory and spill nothing. This
shows that the kernels can be built and what they use. It does not show races, tensor-core rounding or speed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_ALWAYS_COMPILE"] = "1"
os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
os.environ["TRITON_DEFAULT_FP_FUSION"] = "1"

import torch
import triton
from compiled_from import digests
from instructions import instructions_per_logit
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from triton.tools.disasm import path_to_cuobjdump

from nondecoupling.kernels import triton_configurations, triton_launch
from nondecoupling.kernels.head import Head
from nondecoupling.kernels.triton_configurations import Configuration

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
PROCESSORS = {80: 108, 90: 132, 100: 148}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
# The flags of each operator; a variant is the set of those that are on, such as "bias+softcap", or "plain".
FLAGS = {
    "stats": ("bias", "softcap", "exclude"),
    "kl": ("bias", "softcap", "one-head"),
    "rival": ("bias", "softcap", "exclude"),
}
KERNELS = (
    "stats_forward",
    "stats_finalise",
    "stats_backward",
    "kl_forward",
    "kl_finalise",
    "kl_backward",
    "accumulate",
)
# Of the GPU session alone.
RIVAL = "reduce_logits"
# T, V, D of the inputs: aligned, and with nothing that divides anything.
SIZES = {"aligned": (128, 512, 64), "odd": (125, 509, 61)}
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTERS = re.compile(r"Used (\d+) registers")
TENSOR_CORES = re.compile(r"wgmma\.mma_async\S*|tcgen05\.mma\S*|mma\.sync\S*")


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of one compiled kernel, sizes in bytes, and what its machine code says."""

    kernel: str
    dtype: str
    variant: str
    inputs: str
    tile: str
    architecture: int
    registers: int
    spill_stores: int
    spill_loads: int
    shared: int
    tensor_cores: str
    # Beside the product; of a divergence for each pair. None where no tensor core makes logits.
    per_logit: float | None

    @property
    def fits(self) -> bool:
        limit = SHARED_LIMIT[self.architecture]
        return self.spill_stores == self.spill_loads == 0 and self.shared <= limit


class AbsentGPU:
    """As much of a driver as compiling needs: the current device is numbered by its architecture."""

    architecture = 90

    def get_current_device(self) -> int:
        return self.architecture

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.architecture, 32)


Launch = tuple[str, Any, dict[str, Any], str]


@contextlib.contextmanager
def launches(architecture: int) -> Iterator[list[Launch]]:
    """Within it, kernels are compiled for ``architecture`` and not run: (name, compiled, arguments, ptxas's log)."""
    found: list[Launch] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        log = io.StringIO()
        with contextlib.redirect_stdout(log):
            built = run(self, *args, grid=grid, warmup=True, **kwargs)
        found.append((self.fn.__name__, built, kwargs, log.getvalue()))
        return built

    gpu = AbsentGPU()
    gpu.architecture = architecture
    capability = (architecture // 10, PROCESSORS[architecture])
    driver.set_active(gpu)
    with (
        mock.patch.object(JITFunction, "run", compile_only),
        mock.patch.object(triton_launch, "_on_device", return_value=contextlib.nullcontext()),
        mock.patch.object(triton_launch, "capability", return_value=capability),
    ):
        yield found


def head_of(
    inputs: str, dtype: torch.dtype, flags: tuple[str, ...]
) -> tuple[Head, Tensor, Tensor | None]:
    """(head, targets, exclude)."""
    tokens, vocabulary, width = SIZES[inputs]

    def matrix(*shape: int) -> Tensor:
        size = torch.Size(shape).numel()
        shift = 0 if inputs == "aligned" else 1
        return torch.zeros(size + shift, dtype=dtype)[shift:].view(shape)

    bias = matrix(vocabulary) if "bias" in flags else None
    softcap = 10.0 if "softcap" in flags else None
    head = Head(matrix(tokens, width), matrix(vocabulary, width), bias, 0.7, softcap)
    exclude = torch.zeros(tokens, 3, dtype=torch.int64) if "exclude" in flags else None
    return head, torch.zeros(tokens, dtype=torch.int64), exclude


def launch_all(operator: str, inputs: str, dtype: torch.dtype, flags: tuple[str, ...]) -> None:
    """Forward and backward of ``operator`` by the launcher, so that every kernel of it is launched."""
    head, targets, exclude = head_of(inputs, dtype, flags)
    tokens, needs = head.tokens, (True, True, head.bias is not None)
    if operator == "stats":
        saved = triton_launch.token_stats_forward(head, targets, exclude, -100)
        upstream = [torch.zeros(tokens, dtype=torch.float64) for _ in range(4)]
        triton_launch.token_stats_backward(
            upstream, head, targets, exclude, -100, saved, needs, synchronize=False
        )
    elif operator == "rival":
        from benchmarks.gpu_session import cublas_chunks

        cublas_chunks.token_stats_forward(head, targets, exclude, -100)
    else:
        other, _, _ = head_of(inputs, dtype, flags)
        if "one-head" in flags:
            other = other._replace(weight=head.weight)
        kl, origins = triton_launch.token_kl_forward(head, other, synchronize=False)
        triton_launch.token_kl_backward(
            torch.zeros_like(kl), head, other, kl, origins, needs, needs, synchronize=False
        )


def resources(
    operator: str, inputs: str, dtype: str, flags: tuple[str, ...], architecture: int
) -> list[Resources]:
    """One row for each kernel that the launcher compiles anew for these inputs."""
    with launches(architecture) as found:
        launch_all(operator, inputs, DTYPES[dtype], flags)
    rows = []
    for name, built, arguments, log in found:
        # Compiled for an earlier launch of this process.
        if not log:
            continue
        spills, registers = SPILLS.search(log), REGISTERS.search(log)
        if spills is None or registers is None:
            raise RuntimeError(f"ptxas reported no resources for {name}; its log: {log!r}")
        sizes = [arguments[key] for key in arguments if key.startswith("BLOCK_")]
        tile = "x".join(map(str, sizes)) + f" {arguments['num_warps']}w"
        tile += f"{arguments['num_stages']}s" if "num_stages" in arguments else ""
        tile += f" /{arguments['SLICES']}" if "SLICES" in arguments else ""
        tensor_cores = TENSOR_CORES.search(built.asm["ptx"])
        rows.append(
            Resources(
                kernel=name,
                dtype=dtype,
                variant="+".join(flags) or "plain",
                inputs="TMA" if arguments.get("TMA") else inputs,
                tile=tile,
                architecture=architecture,
                registers=int(registers[1]),
                spill_stores=int(spills[2]),
                spill_loads=int(spills[3]),
                shared=built.metadata.shared,
                tensor_cores=tensor_cores[0].split(".")[0] if tensor_cores else "none",
                per_logit=per_logit(built, arguments),
            )
        )
    return rows


def per_logit(built: Any, arguments: dict[str, Any]) -> float | None:
    """``instructions_per_logit`` of a kernel that makes logits."""
    if "BLOCK_D" not in arguments:
        return None
    logits = arguments["BLOCK_T"] * arguments["BLOCK_V"]
    return instructions_per_logit(
        machine_code(built.asm["cubin"]), 32 * arguments["num_warps"], logits
    )


def machine_code(cubin: bytes) -> str:
    """What ``cuobjdump``, which comes with Triton, says of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [path_to_cuobjdump(), "-sass", file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


def variants(operator: str, which: str) -> list[tuple[str, ...]]:
    """Sets of flags to compile ``operator`` with."""
    flags = FLAGS[operator]
    if which == "ends":
        # A policy with adapters shares its head with the model it started from.
        return [(), flags, *([("one-head",)] if operator == "kl" else [])]
    sizes = {"plain": (0,), "every": range(len(flags) + 1)}[which]
    return [chosen for size in sizes for chosen in itertools.combinations(flags, size)]


def table(rows: list[Resources]) -> str:
    """The figures as aligned text, one line per kernel and architecture."""
    lines = [
        f"triton {triton.__version__}",
        f"{'kernel':15} {'dtype':5} {'variant':20} {'inputs':8} {'tile':20} {'sm':>4} {'regs':>5} "
        f"{'spill st':>8} {'spill ld':>8} {'shared KiB':>10} {'limit':>6} {'per logit':>9} tensor cores",
    ]
    for r in rows:
        lines.append(
            f"{r.kernel:15} {r.dtype:5} {r.variant:20} {r.inputs:8} {r.tile:20} {r.architecture:4} {r.registers:5} "
            f"{r.spill_stores:8} {r.spill_loads:8} {r.shared / 1024:10.1f} "
            f"{SHARED_LIMIT[r.architecture] // 1024:6} {'-' if r.per_logit is None else f'{r.per_logit:.1f}':>9} "
            f"{r.tensor_cores}{'' if r.fits else '   <-- does not fit'}"
        )
    return "\n".join(lines)


def write(folder: Path, rows: list[Resources], options: dict[str, Any]) -> None:
    """The table, and the figures with what they are of: they say nothing of other kernels or another compiler."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "triton": triton.__version__,
        "options": options,
        "sources": digests(),
        "rows": [asdict(row) for row in rows],
    }
    (folder / "compiled.json").write_text(json.dumps(record, indent=0) + "\n")
    (folder / "compiled.txt").write_text(table(rows) + "\n")


def overridden(kernels: tuple[str, ...], tile: Configuration) -> None:
    """Every configuration of ``kernels`` becomes ``tile``."""
    tables = [
        triton_configurations.CONFIGURATIONS,
        *triton_configurations.TMA_CONFIGURATIONS.values(),
    ]
    for by_kernel in tables:
        for kernel in set(kernels) & set(by_kernel):
            by_kernel[kernel] = dict.fromkeys(by_kernel[kernel], tile)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kernels", nargs="+", choices=(*KERNELS, RIVAL), default=KERNELS)
    parser.add_argument("--dtypes", nargs="+", choices=tuple(DTYPES), default=tuple(DTYPES))
    parser.add_argument("--inputs", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    parser.add_argument(
        "--variants",
        choices=("plain", "ends", "every"),
        default="ends",
        help="no flags; none, all, and one head for two models; or every set",
    )
    parser.add_argument(
        "--architectures", nargs="+", type=int, choices=tuple(SHARED_LIMIT), default=(80, 90, 100)
    )
    parser.add_argument("--override", help="rows,columns,depth,num_warps,num_stages,slices")
    parser.add_argument(
        "--write", type=Path, metavar="FOLDER", help="also write compiled.txt and compiled.json"
    )
    arguments = parser.parse_args()
    if arguments.override:
        overridden(
            tuple(arguments.kernels), Configuration(*map(int, arguments.override.split(",")))
        )
    several = {"accumulate": ("stats", "kl"), RIVAL: ("rival",)}
    operators = dict.fromkeys(
        operator
        for kernel in arguments.kernels
        for operator in several.get(kernel, (kernel.split("_")[0],))
    )
    rows = []
    for operator, dtype, inputs, architecture in itertools.product(
        operators, arguments.dtypes, arguments.inputs, arguments.architectures
    ):
        for flags in variants(operator, arguments.variants):
            found = resources(operator, inputs, dtype, flags, architecture)
            rows += [row for row in found if row.kernel in arguments.kernels]
            print(f"# {operator} {dtype} {inputs} {architecture} {flags}", file=sys.stderr)
    print(table(rows))
    if arguments.write:
        options = {key: value for key, value in vars(arguments).items() if key != "write"}
        write(arguments.write, rows, options)
    failed = [row for row in rows if not row.fits]
    print(f"{len(rows)} compiled, {len(failed)} spill or do not fit")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
