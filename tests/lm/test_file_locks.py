"""Locks that end with their process, and file systems that have none."""

import errno
import fcntl
import subprocess
import sys

import pytest

from nondecoupling.lm import CollectError
from nondecoupling.lm.file_locks import locked

HOLDS = """
import sys, time
from pathlib import Path
from nondecoupling.lm.file_locks import locked
with locked(Path(sys.argv[1]), ""):
    print("held", flush=True)
    time.sleep(100)
"""


def test_a_second_holder_is_refused_until_the_first_ends(tmp_path):
    place = tmp_path / "lock"
    with locked(place, "first"):
        for seconds in (0.0, 0.1):
            with (
                pytest.raises(CollectError, match="lock: wait for it"),
                locked(place, "wait for it", seconds),
            ):
                pass
    with locked(place, "again"):
        pass


@pytest.mark.slow  # another process loads torch
def test_the_lock_of_a_killed_process_is_free(tmp_path):
    place = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(place)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(CollectError, match="refused"), locked(place, "refused"):
            pass
        process.kill()
    with locked(place, "still held"):
        pass


def flock_raises(monkeypatch, error):
    def refuse(*args):
        raise error

    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOLCK, "No locks available"),
        OSError(errno.ENOSYS, "Function not implemented"),
        OSError(errno.EOPNOTSUPP, "Operation not supported"),
        NotImplementedError("FileSystem does not appear to support flock"),
    ],
)
def test_without_locks_the_block_runs_and_a_warning_says_so(tmp_path, monkeypatch, caplog, error):
    flock_raises(monkeypatch, error)
    entered = []
    for call in range(2):  # nothing is left that a later call would take for a lock
        with locked(tmp_path / "lock", "refused"):
            entered.append(call)
            with locked(tmp_path / "lock", "refused"):
                entered.append(call)
    assert entered == [0, 0, 1, 1]
    assert [record.message.split(";")[0] for record in caplog.records] == [
        f"{tmp_path / 'lock'}: the file system has no locks, so that nothing refuses two calls at once"
    ] * 4


def test_other_errors_of_a_file_system_are_not_hidden(tmp_path, monkeypatch):
    flock_raises(monkeypatch, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "lock", "refused"):
        pass


def test_an_error_in_the_block_frees_the_lock(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "lock", "refused"):
        raise ZeroDivisionError
    with locked(tmp_path / "lock", "still held"):
        pass
