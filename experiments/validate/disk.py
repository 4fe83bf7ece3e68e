"""Files that survive being stopped: each whole or not there at all, lines that are added whole, and a lock.

Nothing here follows a symbolic link when it writes: whoever may put a link into a run folder cannot make a run
overwrite another file.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from validate.errors import RunFolderError

__all__ = [
    "DISK_IS_FULL",
    "LOCK",
    "Line",
    "append_line",
    "is_leftover",
    "lock",
    "read_json",
    "read_lines",
    "remove_leftovers",
    "replace_file",
    "replacing",
    "whole_lines",
]

# A line of JSON, as metrics.jsonl and timing.jsonl hold them.
Line = Mapping[str, Any]
LOCK = ".lock"
# What the writers of checkpoints (Python, safetensors, torch) say of a full disk or a file that is too large.
DISK_IS_FULL = (
    "No space left on device",
    "File too large",
    "failed writing file",
    "unexpected pos",
)


def is_leftover(place: Path) -> bool:
    """Whether a file is what a run that was killed leaves behind, and holds nothing."""
    return place.name == LOCK or (place.name.startswith(".") and place.name.endswith(".partial"))


def remove_leftovers(folder: Path) -> None:
    """Remove the partial files of a run that was killed."""
    for place in folder.glob(".*.partial"):
        place.unlink()


@contextmanager
def replacing(place: Path) -> Iterator[BinaryIO]:
    """A file to write and read so that others see the old one or the new one, never a part."""
    temporary = place.with_name(f".{place.name}.partial")
    with _clear_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        try:
            with open(temporary, "x+b", opener=_without_links) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(place)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def replace_file(place: Path, content: bytes) -> None:
    with replacing(place) as file:
        file.write(content)


def append_line(place: Path, line: Line) -> None:
    """Add a line to a JSON-lines file and flush it to disk; if that fails, the file is as before."""
    with _clear_errors(place):
        before = len(whole_lines(place))
        try:
            with open(place, "ab", opener=_without_links) as file:
                file.truncate(before)
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.truncate(place, before)
            raise


def read_lines(place: Path) -> Iterator[Line]:
    """The whole lines; what a kill left of a last one is not counted.

    Raises:
        RunFolderError: a line is no JSON object.
    """
    for number, text in enumerate(whole_lines(place).split(b"\n")[:-1], start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise RunFolderError(f"{place}, line {number} is damaged ({error})") from None
        if not isinstance(line, dict):
            raise RunFolderError(f"{place}, line {number} is damaged (it is no JSON object)")
        yield line


def whole_lines(place: Path) -> bytes:
    """The file up to the end of its last whole line; nothing if there is no file."""
    content = read_bytes(place) if place.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def read_json(place: Path) -> dict[str, Any]:
    """
    Raises:
        RunFolderError: there is no such file, or it holds no JSON object.
    """
    try:
        found = json.loads(read_bytes(place))
    except ValueError as error:
        raise RunFolderError(f"{place} is damaged ({error})") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise RunFolderError(f"{place} is damaged (it holds a {kind} instead of an object)")
    return found


def read_bytes(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except FileNotFoundError:
        raise RunFolderError(f"{place} is missing") from None
    except OSError as error:
        raise RunFolderError(f"{place} could not be read ({error.strerror or error})") from None


def lock(folder: Path) -> TextIO:
    """Keep other runs out of the folder, which appears if there is none, until the file is closed.

    Raises:
        RunFolderError: another process works in it.
    """
    place = folder / LOCK
    with _clear_errors(place):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            file = open(place, "a", opener=_without_links)  # noqa: SIM115
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise RunFolderError(
                    f"another run works in {folder}; wait for it, or choose another --out"
                ) from None
            # A run that ends removes its lock: only the file that is still there keeps others out.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), place.lstat()):
                    return file
            file.close()


def _without_links(path: str, flags: int) -> int:
    if os.path.islink(path):
        raise RunFolderError(
            f"{path} is a symbolic link, which a run does not follow; remove it, or choose another --out"
        )
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


@contextmanager
def _clear_errors(place: Path) -> Iterator[None]:
    """An error of the disk as one that names the file and the remedy."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(w in str(error) for w in DISK_IS_FULL):
            raise
        raise RunFolderError(
            f"{place} could not be written ({_reason(error)}); what was measured before is kept: make "
            f"room or mend the disk, then go on with --resume"
        ) from error


def _reason(error: BaseException) -> str:
    """What the system said, which torch hides behind words of its own."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, OSError) and behind.strerror:
            return behind.strerror
        behind = behind.__context__
    return str(error).splitlines()[0]
