#!/usr/bin/env python
"""Many validations at once: seeds x beta x lambda x order x model x reward, on Ray.

    python experiments/sweep.py --seed 0 1 2 --beta 0.1 0.2 0.5 --order sft-rl
    python experiments/sweep.py --seed 0 1 2 --lambda 0.02 0.1 --order joint --out runs/lambda
    python experiments/sweep.py --out runs/lambda                 # go on with a sweep that was stopped
    python experiments/sweep.py --model Qwen/Qwen3-0.6B --beta 0.1 0.2 --address auto -- --protocol sampled

Every combination is one run of qwen_validate.py; options after ``--`` go to all of them. Local by default; with
--address on an existing Ray cluster. A trial that fails is reported and does not stop the others; giving the same
folder again runs what has no report yet. The folder receives table.md, summary.json and sweep.svg.

Exit status: 0 every trial has a report, 1 some have none, 2 usage error, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from sweeps.grid import AXES, Trial, trials
from validate.configuration import ENUMERATED, Asked
from validate.disk import read_json, replace_file
from validate.errors import InputError, RunError, RunFolderError
from validate.options import parse_arguments as parse_run
from validate.options import positive
from validate.output import Output, console_on
from validate.progress import progress_bars
from validate.requirements import ANY_RUN, PROTOCOL, must_be_installed, must_have_address_space

EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130
KINDS: dict[str, Callable[[str], float]] = {"beta": positive, "lambda": positive, "seed": int}
# What sweep.json holds of an axis that is no name.
VALUES: dict[str, Any] = {"beta": int | float, "lambda": int | float, "seed": int}
ANEW = "start anew with another --out"
DEFAULT_FOLDER = Path("runs/sweep")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Options after -- go to every run of qwen_validate.py.",
    )
    for axis in AXES:
        parser.add_argument(
            f"--{axis}", nargs="+", type=KINDS.get(axis, str), metavar="X", help="values to try"
        )
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_FOLDER, metavar="FOLDER", help=f"[{DEFAULT_FOLDER}]"
    )
    parser.add_argument("--address", metavar="A", help="of a Ray cluster; a local one by default")
    parser.add_argument("--cpus", type=positive, default=1.0, metavar="N", help="per trial [1]")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="N", help="per trial [0]")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options, shared = parse_arguments(given[:cut]), given[cut + 1 :]
    axes = {axis: getattr(options, axis) for axis in AXES if getattr(options, axis) is not None}
    output = Output(sys.stdout)
    console = console_on(output)
    try:
        asked, planned = _plan(options.out, axes, shared)
        must_be_installed((*ANY_RUN, *PROTOCOL[asked.get("protocol", ENUMERATED)]))
        must_have_address_space()
        try:
            import ray  # noqa: F401
        except ImportError:
            return _complain("sweeps run on Ray: pip install 'nondecoupling[sweeps]'")
        failed = _run(options, planned, console)
        from sweeps.summary import write_summary

        write_summary(options.out, planned, asked)
    except KeyboardInterrupt:
        _complain(f"stopped; go on with --out {options.out}")
        return EXIT_STOPPED
    except (RunError, OSError) as error:
        return _complain(error)
    console.print((options.out / "table.md").read_text(), highlight=False)
    console.print(f"Figure: {options.out / 'sweep.svg'}")
    output.flush()
    if output.problem:
        _complain(
            f"the output could not be written ({output.problem}); the table is in {options.out}"
        )
    return EXIT_FAILED if failed else 0


def _complain(message: object) -> int:
    console_on(Output(sys.stderr)).print(f"sweep: {message}", highlight=False, soft_wrap=True)
    return EXIT_USAGE


def _plan(folder: Path, axes: dict[str, Any], shared: list[str]) -> tuple[Asked, list[Trial]]:
    """The trials of the sweep in the folder, which are those asked for, if any were.

    Raises:
        InputError: the folder holds another sweep, nothing was asked for, or what was asked for makes no sense.
    """
    place = folder / "sweep.json"
    now: dict[str, Any] = {"axes": axes, "shared": shared}
    if place.exists():
        then = _read(place)
        if (axes or shared) and now != then:
            raise InputError(
                f"{folder} holds another sweep ({place.name}); choose another --out, or give --out alone to go on"
            )
        now = then
    elif not axes:
        raise InputError(
            "nothing to do: give values for at least one axis, for instance --seed 0 1 2"
        )
    of_runs = parse_run(now["shared"], "options of every run")
    if of_runs.out or of_runs.resume:
        raise InputError(
            "--out and --resume behind the -- belong to the sweep: each trial has a folder of its own in the sweep's, "
            "and goes on where it was stopped; give --out before the --"
        )
    asked = of_runs.asked
    planned = trials(now["axes"], now["shared"], asked)
    replace_file(place, (json.dumps(now, indent=1) + "\n").encode())
    return asked, planned


def _read(place: Path) -> dict[str, Any]:
    """The sweep that was asked for when sweep.json was written.

    Raises:
        InputError: the file does not hold one.
    """
    try:
        then = read_json(place)
    except RunFolderError as error:
        raise InputError(f"{error}; {ANEW}") from None
    axes, shared = then.get("axes"), then.get("shared")
    if then.keys() != {"axes", "shared"} or not isinstance(axes, dict) or not axes:
        raise InputError(f"{place} is damaged (it holds no axes and shared options); {ANEW}")
    if not isinstance(shared, list) or not all(isinstance(word, str) for word in shared):
        raise InputError(f"{place} is damaged (shared is {shared!r}, no list of words); {ANEW}")
    for axis, values in axes.items():
        if axis not in AXES:
            raise InputError(f"{place} is damaged ({axis!r} is no axis: {', '.join(AXES)}); {ANEW}")
        kind = VALUES.get(axis, str)
        fit = isinstance(values, list) and all(
            isinstance(value, kind) and not isinstance(value, bool) for value in values
        )
        if not values or not fit:
            raise InputError(f"{place} is damaged (the values of {axis} are {values!r}); {ANEW}")
    return then


def _run(options: argparse.Namespace, planned: list[Trial], console: Console) -> int:
    """Run what has no report; how many have none afterwards."""
    from sweeps.running import OK, Runner, report_of

    left = [trial for trial in planned if report_of(options.out, trial) is None]
    console.print(f"{len(planned)} trials, {len(left)} to run")
    if left:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        runner = Runner(options.out, options.address, options.cpus, options.gpus)
        try:
            with progress_bars(console) as progress:
                bar = progress.add_task("trials", total=len(left))

                def on_result(trial: Trial, result: dict[str, Any]) -> None:
                    progress.advance(bar)
                    if result["status"] != OK:
                        last = (result["messages"].strip().splitlines() or ["no message"])[-1]
                        progress.console.print(
                            f"FAILED {trial.name} (exit {result['exit']}): {last}"
                        )

                runner.run(left, on_result)
        finally:
            runner.stop()
    return sum(report_of(options.out, trial) is None for trial in planned)


if __name__ == "__main__":
    sys.exit(main())
