"""What the committed table of compiled kernels is of: compiler and sources. Where these change, it is made again."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = HERE.parents[1] / "nondecoupling" / "kernels"


def compiled_from() -> dict[str, str]:
    """Triton's version, and the SHA-256 of each file that decides what is compiled or how it is counted."""
    ours = [KERNELS / "head.py", KERNELS / "pair.py", *sorted(KERNELS.glob("triton_*.py"))]
    files = [*ours, HERE / "compile_kernels.py", HERE / "instructions.py"]
    return {"triton": version("triton")} | {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
