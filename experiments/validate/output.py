"""What a run says to the terminal: never a reason to lose the run.

A closed pipe (``qwen_validate.py | head``) or a full disk behind ``> log.txt`` ends the talking, not the run.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO

from rich.console import Console

__all__ = ["Output", "console_on"]


class Output:
    """A stream that swallows what cannot be written; ``problem`` says why nothing more is."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.problem = "it is closed" if stream is None else None

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except (OSError, ValueError) as error:  # ValueError: somebody has closed it
                self._stop(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._stop(error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("no stream")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return "utf-8" if self._stream is None else self._stream.encoding

    def _stop(self, error: Exception) -> None:
        stream, self._stream = self._stream, None
        self.problem = getattr(error, "strerror", None) or str(error)
        # What is left in its buffer must not be tried again when Python shuts down.
        if stream is not None:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def console_on(output: Output, *, quiet: bool = False) -> Console:
    """Prints text as it is: names of folders and models may contain brackets."""
    # rich asks for a text stream, and uses no more of it than ``Output`` has.
    return Console(file=output, markup=False, emoji=False, quiet=quiet)  # type: ignore[arg-type]
