"""Two processes of one run as two threads: what one leaves waiting shows as an error, after a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nondecoupling.lm import processes

PATIENCE = 20.0  # seconds


class _State:
    """What accelerate knows of a process."""

    def __init__(self, rank: int, meeting: threading.Barrier) -> None:
        self.num_processes, self.process_index, self.meeting = 2, rank, meeting

    def wait_for_everyone(self) -> None:
        self.meeting.wait()


def in_two_processes(monkeypatch: Any, work: Callable[[int], Any]) -> list[Any]:
    """``work(rank)`` in both: what it returned, or the exception that ended it.

    Where one waits for a process that has left, that is a ``threading.BrokenBarrierError``.
    """
    meeting = threading.Barrier(2, timeout=PATIENCE)
    own, given, results = threading.local(), [[], []], [None, None]

    def gathered(items: list[Any]) -> list[Any]:
        given[own.rank] = items
        meeting.wait()
        whole = given[0] + given[1]
        meeting.wait()  # before the next exchange overwrites what was given
        return whole

    def process(rank: int) -> None:
        own.rank = rank
        try:
            results[rank] = work(rank)
        except BaseException as error:
            results[rank] = error

    monkeypatch.setattr(processes, "gather_object", gathered)
    monkeypatch.setattr(processes, "PartialState", lambda cpu: _State(own.rank, meeting))
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
