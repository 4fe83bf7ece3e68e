"""One step of a GPU session: its cases, in a child process that is replaced when it dies.

PYTHONPATH=.:experiments python -m benchmarks.gpu_session smoke --rows rows.jsonl --seconds 20 [--tiny]
"""

from __future__ import annotations

import argparse
import importlib
import math
import signal
import sys
from pathlib import Path

from benchmarks.gpu_session.cases import Case, python_module, run_here, supervise
from benchmarks.gpu_session.record import RowFile, machine_row, read_rows

STEPS = ("ceilings", "smoke", "build", "shapes", "sweep", "rivals", "training")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--rows", type=Path, required=True, help="the file that rows are added to")
    parser.add_argument("--until", type=float, default=math.inf, help="when to end, as `date +%%s`")
    parser.add_argument("--tiny", action="store_true", help="sizes for a rehearsal without a GPU")
    parser.add_argument("--child", action="store_true", help="run the cases here")
    parser.add_argument("--skip", action="append", default=[], help="a case that is not to be run")
    parser.add_argument("--named", help="the step's name in the rows, where it is not its own")
    arguments = parser.parse_args()
    file = RowFile(arguments.rows, arguments.named or arguments.step)
    if arguments.child:
        # The parent does without torch, which takes seconds to import.
        from benchmarks.gpu_session.ceilings import machine
        from benchmarks.gpu_session.problem import FULL, TINY

        module = importlib.import_module(f"benchmarks.gpu_session.{arguments.step}")
        cases = module.cases(TINY if arguments.tiny else FULL)
        # Without it no row can be committed: the first step that gets to it writes it.
        if machine_row(read_rows(arguments.rows)[0]) is None:
            cases = [Case("machine", machine), *cases]
        return run_here(cases, file, arguments.skip)
    options = ["--rows", str(arguments.rows), "--child"]
    if arguments.tiny:
        options.append("--tiny")
    # `timeout` ends this process alone: it must get to ending its child.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    supervise(python_module(arguments.step, *options), file, arguments.until)
    return 0


if __name__ == "__main__":
    sys.exit(main())
