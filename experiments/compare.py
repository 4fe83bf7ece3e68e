#!/usr/bin/env python
"""Recipes of RL and schedules of SFT and RL after one SFT: what each reached and paid, beside what was predicted.

    python experiments/compare.py                              # tiny Qwen3, one seed
    python experiments/compare.py --seed 0 1 2 --out runs/three
    python experiments/compare.py --out runs/three             # go on with one that was stopped
    python experiments/compare.py --method k3-in-loss weights -- --model smollm2-135m

The enumerated protocol: exact sums, exact expected gradients. Per seed the model is trained by SFT once; every method
starts from its result. Options after ``--`` are those of qwen_validate.py. The folder receives results.jsonl as
methods end, then table.md, comparison.svg and, where cycles of several lengths were made, fineness.svg; the same folder
again does what is missing.

comparison.json holds the seeds, methods and options that a folder is of, from when the first model is loaded, and a
digest of the file of --task, which must stay as it was.

Exit status: 0 done, 2 usage error, or a run that could not go on, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validate.configuration import EnumeratedConfiguration, configuration, option
from validate.disk import append_line, lock, read_json, read_lines, replace_file
from validate.errors import InputError, RunError, RunFolderError
from validate.options import folder_path
from validate.options import parse_arguments as parse_run
from validate.output import Output, console_on
from validate.requirements import ANY_RUN, must_be_installed, must_have_address_space

if TYPE_CHECKING:
    from comparisons.methods import Method

EXIT_USAGE, EXIT_STOPPED = 2, 130
DEFAULT_FOLDER = Path("runs/comparison")
SETTINGS, RESULTS = "comparison.json", "results.jsonl"
# In comparison.json where something comes from outside: name -> SHA-256.
INPUTS = "inputs"
# What methods set themselves.
OF_METHODS = (
    "order",
    "recipe",
    "advantage",
    "group_size",
    "entropy_bonus",
    "cycles",
    "sft_share",
    "finish",
    "replay_share",
    "best_of",
    "weights",
    "beta",
    "weight",
    "seed",
)
# What no method has a use for: the data are the experts', no method warms up, and nothing is measured on the way.
UNUSED = ("data_law", "warmup_steps", "checkpoint_every")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Options after -- are those of qwen_validate.py, but for those that methods set.",
    )
    parser.add_argument("--seed", nargs="+", type=int, metavar="N", help="[0]")
    parser.add_argument(
        "--method", nargs="+", metavar="WORDS", help="only methods whose names contain one of these"
    )
    parser.add_argument(
        "--out",
        type=folder_path,
        default=DEFAULT_FOLDER,
        metavar="FOLDER",
        help=f"[{DEFAULT_FOLDER}]",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options = parse_arguments(given[:cut])
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    held = None
    try:
        must_be_installed(ANY_RUN)
        must_have_address_space()
        asked = _asked(given[cut + 1 :])
        held = lock(options.out)
        settings = _settings(options, asked)
        _compare(options.out, settings)
        return 0
    except KeyboardInterrupt:
        if (options.out / SETTINGS).exists():
            return _complain(f"stopped; go on with --out {options.out}", EXIT_STOPPED)
        return _complain("stopped before anything was trained", EXIT_STOPPED)
    except RunError as error:
        return _complain(str(error), EXIT_USAGE)
    finally:
        if held is not None:
            held.close()


def _complain(message: str, status: int) -> int:
    print(f"compare: {message}", file=sys.stderr)
    return status


def _asked(words: Sequence[str]) -> dict[str, Any]:
    """
    Raises:
        InputError: an option that methods set or have no use for, or of another protocol or command.
    """
    run = parse_run(list(words), "Options of qwen_validate.py.")
    if run.out or run.resume:
        raise InputError("--out and --resume go before the --: they are about the comparison")
    for name in OF_METHODS:
        if name in run.asked:
            raise InputError(f"{option(name)} is set by the methods; choose them with --method")
    for name in UNUSED:
        if name in run.asked:
            raise InputError(
                f"{option(name)} is {run.asked[name]!r}, which no method of a comparison has a use for; leave it away"
            )
    if not isinstance(configuration(run.asked), EnumeratedConfiguration):
        raise InputError("--protocol: a comparison is of the enumerated protocol")
    return dict(run.asked)


def _settings(options: argparse.Namespace, asked: dict[str, Any]) -> dict[str, Any]:
    """Of a new folder what was given, of an old one what it has, with which anything given must agree.

    Raises:
        RunFolderError: it does not.
    """
    given = {"seed": options.seed, "method": options.method, "run": asked or None}
    place = options.out / SETTINGS
    if not place.exists():
        return {"seed": options.seed or [0], "method": options.method or [], "run": asked}
    settings = read_json(place)
    for name, value in given.items():
        if value is not None and value != settings.get(name):
            raise RunFolderError(
                f"{name} is {value!r}, but the comparison in {options.out} has {settings.get(name)!r}; leave it away "
                "to go on, or choose another --out"
            )
    return settings


def _compare(folder: Path, settings: dict[str, Any]) -> None:
    """Train what is missing, then write the table and the figure."""
    from comparisons.methods import left_out, methods_for
    from comparisons.outcomes import MethodOutcome, outcomes
    from comparisons.summary import figure, figure_of_fineness, table
    from validate.enumerated.inputs import inputs_of
    from validate.enumerated.means import PromptMeans

    from nondecoupling.lm import LanguageModelError

    console = console_on(Output(sys.stdout))
    configs = [_configuration({**settings["run"], "seed": seed}) for seed in settings["seed"]]
    inputs = inputs_of(configs[0])
    task = inputs.task
    _must_have(folder, settings, inputs.digests)
    of_task = task.reward, task.log_d
    methods = _chosen(methods_for(configs[0], *of_task), settings["method"], left_out(*of_task))
    pairs = [(config.seed, method.name) for config in configs for method in methods]
    order = {pair: place for place, pair in enumerate(pairs)}
    results = folder / RESULTS
    done = (
        [MethodOutcome.from_json(line) for line in read_lines(results)] if results.exists() else []
    )
    for config in configs:
        kept = [outcome for outcome in done if outcome.seed == config.seed]
        have = {outcome.method for outcome in kept}
        missing = [method for method in methods if method.name not in have]
        if not missing:
            continue
        try:
            found = outcomes(config, inputs, missing, kept)
            _begin(folder, settings, inputs.digests)
            for outcome in found:
                append_line(results, outcome.as_json())
                done.append(outcome)
                console.print(_line(outcome), highlight=False)
        except LanguageModelError as error:
            raise RunError(str(error)) from error
    done = sorted(
        (outcome for outcome in done if (outcome.seed, outcome.method) in order),
        key=lambda outcome: order[outcome.seed, outcome.method],
    )
    mean = PromptMeans(task.log_d, task.reward, configs[0].beta, configs[0].weight)
    (folder / "table.md").write_text(table(done))
    if any(outcome.trained for outcome in done):
        replace_file(folder / "comparison.svg", figure(done, mean).encode())
    if drawn := figure_of_fineness(done):
        replace_file(folder / "fineness.svg", drawn.encode())
    console.print(f"Table: {folder / 'table.md'}")


def _configuration(asked: Mapping[str, Any]) -> EnumeratedConfiguration:
    config = configuration(asked)
    assert isinstance(config, EnumeratedConfiguration)
    return config


def _chosen(
    methods: Sequence[Method], words: Sequence[str], without: Mapping[str, str]
) -> list[Method]:
    """Those whose names contain one of the words, or all; ``without`` says why others are not among them.

    Raises:
        InputError: a word is in no name.
    """
    names = [method.name for method in methods]
    for word in words:
        if not any(word in name for name in names):
            for name, why in without.items():
                if word in name:
                    raise InputError(
                        f"--method {word!r} is left out for this task: {why}; name others, or change the task"
                    )
            raise InputError(f"--method {word!r} is in no method's name: {'; '.join(names)}")
    return [m for m in methods if not words or any(word in m.name for word in words)]


def _must_have(folder: Path, settings: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """
    Raises:
        RunFolderError: an input is not what it was when the comparison began; those of earlier versions do not say.
    """
    for name, then in settings.get(INPUTS, {}).items():
        if digests.get(name) != then:
            raise RunFolderError(
                f"{option(name)} {settings['run'][name]} is not what it was when the comparison in {folder} began: "
                "bring that back, or choose another --out"
            )


def _begin(folder: Path, settings: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    """Write the settings, with the digests of what comes from outside, if the comparison is new."""
    place = folder / SETTINGS
    if place.exists():
        return
    written = {**settings, INPUTS: digests} if digests else settings
    replace_file(place, (json.dumps(written, indent=1) + "\n").encode())


def _line(outcome: Any) -> str:
    from comparisons.summary import number_or_dash

    if outcome.refused:
        return f"seed {outcome.seed}  {outcome.method}: not trained"
    p = outcome.trained
    times, dear = (number_or_dash(value, ".3f") for value in (p.times, p.tilt_times))
    return (
        f"seed {outcome.seed}  {outcome.method:42s} J {p.reward:.3f}  paid {p.paid:.3f}  x {times}  "
        f"tilt x {dear}  {outcome.seconds:.0f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
