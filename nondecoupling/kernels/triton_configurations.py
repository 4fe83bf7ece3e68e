"""Tiles and resources of the Triton kernels, by dtype and by what the GPU and the inputs allow.

Without descriptors: any GPU from compute capability 8.0 on, and any inputs. With TMA: Hopper and Blackwell, for inputs
whose rows begin at multiples of 16 bytes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CONFIGURATIONS",
    "INTERPRETED",
    "PRECISIONS",
    "TMA_CONFIGURATIONS",
    "Configuration",
    "Precision",
    "capability",
    "configuration",
    "fits_descriptors",
    "splits_of",
]

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class Configuration(NamedTuple):
    """Tile sizes of a kernel and the resources Triton gives each program.

    ``rows`` and ``columns`` are those of the tile that a program accumulates, ``depth`` the step of its sum; ``slices``
    of columns are reduced one by one.
    """

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int
    slices: int = 1


# "extended" is with a bias, a cap or excluded tokens, for accumulate with adding to what is there; "unaligned" is of
# low precision, in rows that begin anywhere. All of them spill no register on the architectures that they are for,
# under triton 3.9 and 3.6 (tests/kernels/compile_kernels.py). None has been tuned on a GPU.
_SINGLE = Configuration(64, 64, 16, 8, 2)
# Where rows begin anywhere, every element has an address of its own, which takes registers.
_UNALIGNED = Configuration(64, 64, 32, 8, 2)
CONFIGURATIONS: dict[str, dict[str, Configuration]] = {
    "stats_forward": {
        "bfloat16": Configuration(128, 128, 32, 8, 3, slices=2),
        "bfloat16, extended": Configuration(64, 128, 32, 8, 3),
        "float16": Configuration(128, 128, 32, 8, 3, slices=2),
        "float16, extended": Configuration(64, 128, 32, 8, 3),
        "float32": Configuration(64, 64, 16, 8, 1),
        "float32, extended": Configuration(64, 64, 16, 8, 2, slices=2),
        "float32, unaligned": _SINGLE,
        "unaligned": _UNALIGNED,
    },
    "stats_backward": {
        "bfloat16": Configuration(128, 256, 64, 8, 3),
        "bfloat16, extended": Configuration(64, 128, 64, 8, 3),
        "float16": Configuration(128, 128, 64, 8, 3),
        "float16, extended": Configuration(64, 128, 64, 8, 3),
        "float32": _SINGLE,
        "unaligned": _UNALIGNED,
    },
    "kl_forward": {
        "bfloat16": Configuration(64, 128, 32, 8, 3),
        "float16": Configuration(64, 128, 32, 8, 3),
        "float32": _SINGLE,
        "float32, unaligned": Configuration(64, 32, 16, 8, 2),
        "unaligned": _UNALIGNED,
    },
    "kl_backward": {
        "bfloat16": Configuration(64, 128, 64, 8, 3),
        "bfloat16, extended": Configuration(64, 64, 64, 8, 3),
        "float16": Configuration(64, 64, 64, 8, 3),
        "float32": _SINGLE,
        "float32, extended": Configuration(64, 32, 16, 8, 2),
        "unaligned": _UNALIGNED,
    },
    "accumulate": {"float16": Configuration(128, 64, 32, 8, 3)},
}
# By the major number of the compute capability.
TMA_CONFIGURATIONS: dict[int, dict[str, dict[str, Configuration]]] = {
    9: {
        "stats_forward": {
            "bfloat16": Configuration(128, 256, 64, 8, 3, slices=4),
            "float16": Configuration(128, 256, 64, 8, 3, slices=4),
        },
        "stats_backward": {
            "bfloat16": Configuration(128, 128, 64, 8, 3),
        },
    },
    10: {
        "stats_forward": {
            "bfloat16": Configuration(128, 128, 64, 8, 3, slices=4),
            "float16": Configuration(128, 128, 64, 8, 3, slices=4),
        },
    },
}


def configuration(
    kernel: str,
    dtype: torch.dtype,
    *,
    extended: bool = False,
    aligned: bool = True,
    descriptors: int = 0,
) -> tuple[Configuration, bool]:
    """(the shipped configuration of ``kernel`` for inputs of ``dtype``, whether it is for descriptors).

    ``aligned`` is whether inputs fit TMA descriptors, and ``descriptors`` the major number of the compute capability, 0
    for any.

    >>> configuration("stats_forward", torch.bfloat16, extended=True)[0].rows
    64
    >>> configuration("stats_forward", torch.bfloat16, descriptors=9)
    (Configuration(rows=128, columns=256, depth=64, num_warps=8, num_stages=3, slices=4), True)
    """
    name = str(dtype).removeprefix("torch.")
    names = [f"{name}, extended", name] if extended else [name]
    cases = CONFIGURATIONS[kernel]
    if not aligned:
        # Those of float32 are small enough, but for two.
        unaligned = (
            [f"{name}, unaligned", *names] if dtype == torch.float32 else ["unaligned", *names]
        )
        return next(cases[key] for key in unaligned if key in cases), False
    # What is plain with descriptors may spill with more to do: extended is looked up under its own name.
    tiles = TMA_CONFIGURATIONS.get(descriptors, {}).get(kernel, {})
    if names[0] in tiles:
        return tiles[names[0]], True
    return next(cases[key] for key in names if key in cases), False


class Precision(NamedTuple):
    """How a dtype enters the tensor cores: products of ``logits``, and gradients of logits in ``buffer``.

    bfloat16 and float16 are exact in the products of logits. The gradients of logits are rounded to bfloat16, or
    for float16 inputs to the 11 bits and wide range of tf32, which holds float16 exactly.
    """

    logits: str
    buffer: torch.dtype


PRECISIONS = {
    # The interpreter's dot takes bfloat16 for the integers that hold it.
    torch.bfloat16: Precision("upcast" if INTERPRETED else "ieee", torch.bfloat16),
    torch.float16: Precision("ieee", torch.float32),
    torch.float32: Precision("ieee", torch.float32),
}


def capability(device: torch.device) -> tuple[int, int]:
    """(major number of the compute capability, processors) of a GPU; Hopper's with 4 processors in the interpreter."""
    if device.type != "cuda":
        return 9, 4
    properties = torch.cuda.get_device_properties(device)
    return properties.major, properties.multi_processor_count


def fits_descriptors(matrix: Tensor) -> bool:
    """Whether TMA can load blocks of ``matrix``: contiguous rows that begin at multiples of 16 bytes.

    >>> fits_descriptors(torch.zeros(3, 8)), fits_descriptors(torch.zeros(3, 7))
    (True, False)
    """
    aligned = matrix.data_ptr() % 16 == 0 and matrix.stride(0) * matrix.element_size() % 16 == 0
    return aligned and matrix.stride(1) == 1 and matrix.stride(0) > 0 and matrix.numel() > 0


MOST_SPLITS = 16


def splits_of(blocks: int, tiles: int, processors: int) -> int:
    """Into how many splits to cut ``tiles`` of the vocabulary for ``blocks`` of tokens.

    A processor runs one program at a time. Programs run in waves, and a wave takes as long as its longest program: the
    fewest waves times tiles per program.

    >>> splits_of(blocks=64, tiles=594, processors=132)
    2
    >>> splits_of(blocks=132, tiles=594, processors=132)
    1
    """

    def time(splits: int) -> tuple[int, int]:
        waves = -(-blocks * splits // processors)
        return waves * -(-tiles // splits), splits

    return min(range(1, min(MOST_SPLITS, max(tiles, 1)) + 1), key=time)
