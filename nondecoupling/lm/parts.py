"""Work on many prompts in parts: shared among processes, and written down part by part.

Whatever ends a run, the next one goes on from the parts that are there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from nondecoupling.lm.processes import Processes

__all__ = ["parts_of", "work_through", "write_whole"]


def parts_of(prompts: int, responses: int, rows_at_once: int) -> list[range]:
    """Places of the prompts that are worked on together: as many as fill ``rows_at_once`` rows, at least one."""
    size = max(1, rows_at_once // responses)
    return [range(start, min(start + size, prompts)) for start in range(0, prompts, size)]


def work_through(
    processes: Processes, parts: list[range], do: Callable[[range], None], what: str
) -> None:
    """Each process does its share of the parts; the first one shows its progress, under ``what``.

    Raises:
        LanguageModelError: another process stopped, see ``Processes.failing_together``.
    """
    with (
        processes.failing_together(),
        Progress(console=Console(stderr=True), disable=not processes.is_first) as bar,
    ):
        for part in bar.track(processes.share(parts), description=what):
            do(part)


def write_whole(place: Path, text: str) -> None:
    """In one step: a part is there or not."""
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(place)
