"""Compiled files, kept from one run of the tests to the next.

What a compiled file is made from stands in its name: the digest of its text, of the names of those that it requires,
of coqc's version and options, and of the standard libraries' files as they lie on the disk. So a file is taken only
where coqc would get the same input again. CI audits from nothing as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path


class Kept:
    """A folder of compiled files; ``prover`` says all that they depend on besides the development's sources."""

    def __init__(self, folder: Path, prover: Sequence[str]) -> None:
        self._folder = folder
        self._prover = list(prover)
        self._names: dict[str, str] = {}

    def take(self, build: Path, file: str, required: Iterable[str]) -> bool:
        """Put the compiled form of ``file`` into ``build`` if it is here; those it requires were asked for before."""
        text = (build / file).read_text(encoding="utf-8")
        made_from = [self._prover, file, text, sorted(self._names[name] for name in required)]
        self._names[file] = hashlib.sha256(json.dumps(made_from).encode()).hexdigest()
        if not self._place(file).is_file():
            return False
        shutil.copy(self._place(file), _compiled(build, file))
        return True

    def keep(self, build: Path, file: str) -> None:
        """Keep what coqc made of ``file``; another process may do the same at the same time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        place = self._place(file)
        unfinished = place.with_suffix(f".{os.getpid()}")
        shutil.copy(_compiled(build, file), unfinished)
        unfinished.replace(place)

    def _place(self, file: str) -> Path:
        return self._folder / f"{Path(file).stem}-{self._names[file]}.vo"


def libraries(where: Path) -> str:
    """A digest of the names, sizes and times of the compiled files that come with the prover."""
    found = sorted((str(path), path.stat()) for path in where.rglob("*.vo"))
    lines = [f"{path} {stat.st_size} {stat.st_mtime_ns}" for path, stat in found]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _compiled(build: Path, file: str) -> Path:
    return (build / file).with_suffix(".vo")
