"""Start the script, kill it at a place, and read what it wrote."""

import json
import os
import signal
import subprocess
import sys
import time


def start_and_kill(script, options, folder, file, words, resume):
    """Start the script, kill it with SIGKILL once ``file`` contains ``words``; returns what the file held."""
    command = [sys.executable, str(script), *options, "--out", str(folder)]
    place = folder / file
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen(
            [*command, *["--resume"] * resume], stdout=nothing, stderr=nothing, env=environment
        )
        try:
            deadline = time.monotonic() + 200
            while words not in (place.read_text() if place.is_file() else ""):
                assert process.poll() is None, "the run ended before it could be killed"
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    return place.read_text()


def lines_of(place):
    return [json.loads(line) for line in place.read_text().splitlines()]
