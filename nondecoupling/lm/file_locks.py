"""Locks that end with the process that holds them, so that nobody has to clear up after a killed one."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from nondecoupling.lm.errors import CollectError

__all__ = ["locked"]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
logger = logging.getLogger(__name__)


@contextmanager
def locked(place: Path, refusal: str, seconds: float = 0.0) -> Iterator[None]:
    """Holds the lock at ``place``, a file that stays, until the block or the process ends.

    Where the file system has no locks, as some of clusters, the block runs without one, and a warning says so: to
    refuse would leave a run that is interrupted nowhere to go on, against two calls at once that few ever start.

    Raises:
        CollectError: another call holds it, for longer than ``seconds``; the message is ``refusal``.
    """
    lock = FileLock(place)
    try:
        if not _acquired(lock, seconds):
            logger.warning(
                "%s: the file system has no locks, so that nothing refuses two calls at once; start only one, or use "
                "a local disk",
                place,
            )
    except Timeout:
        raise CollectError(f"{place}: {refusal}") from None
    try:
        yield
    finally:
        lock.release()


def _acquired(lock: BaseFileLock, seconds: float) -> bool:
    """Not where the file system has no locks, which versions of filelock tell in different ways."""
    try:
        lock.acquire(timeout=seconds)
    except NotImplementedError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return False
        raise
    if isinstance(lock, SoftFileLock):  # it would outlive a killed process
        lock.release()
        return False
    return True
