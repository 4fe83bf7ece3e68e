"""Checksums that files carry themselves, so that what a run reads is what it wrote.

    a JSON object   a field ``sha256`` over all its other fields
    JSON lines      each line a field ``sha256`` over itself and the one of the line before, so that a line that is
                    changed, twice there, missing or elsewhere does not fit; what is lost at the end is for the plan
                    of the run to notice
    a torch file    the comment of the zip archive that torch writes, over all bytes before it

Each covers the file's name, so that one file cannot stand for another. A file carries its own checksum because a run
may be killed between two writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from validate.disk import Line, append_line, read_json, read_lines, replacing, whole_lines
from validate.errors import RunFolderError

__all__ = [
    "DamagedLine",
    "append_sealed_line",
    "file_digest",
    "load_sealed",
    "read_sealed_json",
    "read_sealed_lines",
    "save_sealed",
    "sealed",
]

FIELD = "sha256"
# Of hexadecimal digits.
WHOLE, SHORT = 64, 16
ANOTHER = "its checksum says that it is not what the run wrote"


class DamagedLine(RunFolderError):
    """A line is not what the run wrote; ``before`` are the ones before it, which are."""

    def __init__(self, message: str, before: Sequence[Line]) -> None:
        super().__init__(message)
        self.before = before


def sealed(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The object with its checksum, to be written to a file of that name."""
    return {**values, FIELD: _digest(name, values)}


def read_sealed_json(place: Path) -> dict[str, Any]:
    """The object that ``sealed`` was made of.

    Raises:
        RunFolderError: the file is missing or not what was written.
    """
    values = read_json(place)
    checksum = values.pop(FIELD, None)
    if checksum is None:
        raise RunFolderError(
            f"{place} is damaged (it has no checksum: an earlier version of this program wrote it, or a part is lost)"
        )
    if checksum != _digest(place.name, values):
        raise RunFolderError(f"{place} is damaged ({ANOTHER})")
    return values


def append_sealed_line(place: Path, line: Line) -> None:
    """Add a line with its checksum."""
    last = whole_lines(place).rsplit(b"\n", 2)[-2:-1]
    previous = json.loads(last[0])[FIELD] if last else place.name
    append_line(place, {**line, FIELD: _digest(previous, line)[:SHORT]})


def read_sealed_lines(place: Path) -> list[Line]:
    """The whole lines, without their checksums.

    Raises:
        DamagedLine: one is not what was written.
    """
    found: list[Line] = []
    previous = place.name
    try:
        for number, line in enumerate(read_lines(place), start=1):
            content = {name: value for name, value in line.items() if name != FIELD}
            if line.get(FIELD) != _digest(previous, content)[:SHORT]:
                raise RunFolderError(f"{place}, line {number} is damaged ({ANOTHER})")
            previous = line[FIELD]
            found.append(content)
    except RunFolderError as error:
        raise DamagedLine(str(error), found) from None
    return found


def save_sealed(place: Path, state: Any) -> None:
    """Tensors and plain data in a torch file, whole or not at all."""
    with replacing(place) as file:
        torch.save(state, file)
        # The archive ends in the length of its comment, which is none.
        file.seek(-2, os.SEEK_END)
        file.write(WHOLE.to_bytes(2, "little"))
        file.write(_digest_of_rest(place.name, file, 0).encode())


def load_sealed(place: Path) -> Any:
    """What ``save_sealed`` wrote. Nothing in the file is executed.

    Raises:
        RunFolderError: the file is missing or not what was written, or holds more than tensors and plain data.
    """
    try:
        with place.open("rb") as file:
            file.seek(0, os.SEEK_END)
            size = file.tell() - WHOLE
            if size < 0:
                raise RunFolderError(f"{place} is damaged (most of it is missing)")
            checksum = _digest_of_rest(place.name, file, WHOLE)
            if file.read() != checksum.encode():
                raise RunFolderError(f"{place} is damaged ({ANOTHER})")
    except FileNotFoundError:
        raise RunFolderError(f"{place} is missing") from None
    except OSError as error:
        raise RunFolderError(f"{place} could not be read ({error.strerror or error})") from None
    try:
        return torch.load(place, weights_only=True)
    except pickle.UnpicklingError:
        raise RunFolderError(
            f"{place} holds more than tensors and plain data, which this program does not load: it could run code"
        ) from None


def file_digest(place: Path) -> str:
    with place.open("rb") as file:
        return _digest_of_rest(place.name, file, 0)


def _digest(name: str, values: Mapping[str, Any]) -> str:
    text = json.dumps([name, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _digest_of_rest(name: str, file: BinaryIO, but: int) -> str:
    """Of the file's name and all its bytes but the last ``but``, where it stands afterwards."""
    file.seek(0, os.SEEK_END)
    left = file.tell() - but
    file.seek(0)
    digest = hashlib.sha256(name.encode())
    while left:
        block = file.read(min(left, 2**20))
        digest.update(block)
        left -= len(block)
    return digest.hexdigest()
