"""What the committed table of compiled kernels is of: where one of these files changes, it is made again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "nondecoupling" / "kernels"
# What users call; the launcher, and so the compiled kernels, know nothing of it.
FACE = ("__init__", "arguments", "operators", "ranks", "token_stats")
# What is launched with which constants, and how the result is counted.
SOURCES = (
    *(path for path in sorted(KERNELS.glob("*.py")) if path.stem not in FACE),
    HERE / "compile_kernels.py",
    HERE / "instructions.py",
)


def digests(files: Iterable[Path] = SOURCES) -> dict[str, str]:
    """SHA-256 of each file, by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
