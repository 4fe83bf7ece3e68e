#!/usr/bin/env python
"""Recipes and schedules on several models: what compare.py found for each, in one table.

    python experiments/compare.py --method "k1-in-reward, beta 0.4" k3-in-loss --out runs/llama -- --model tiny-llama
    python experiments/compare.py --method "k1-in-reward, beta 0.4" k3-in-loss --out runs/mamba2 -- --model tiny-mamba2
    python experiments/comparison_of_models.py runs/llama runs/mamba2 --write runs/models

Per folder those of its methods that are asked for, as in its own table, behind the model's name and sizes. Only the
model, the prompts and the steps may differ between folders, and what is another model's default, such as LoRA: numbers
under other rewards or tasks say nothing about models.

Exit status: 0 done, 2 usage error, or a folder without a complete comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from compare import INPUTS, OF_METHODS, RESULTS, SETTINGS, UNUSED
from comparisons.outcomes import MethodOutcome
from comparisons.summary import ComparedModel, table_of_models
from validate.configuration import EnumeratedConfiguration, configuration, option
from validate.disk import read_json, read_lines, replace_file
from validate.errors import RunError
from validate.options import folder_path

# What a line says, and so may differ between the folders of a table.
SAID = ("model", "prompts", "sft_steps", "rl_steps")
NOT_SAID = [
    one.name
    for one in fields(EnumeratedConfiguration)
    if one.name not in (*SAID, *OF_METHODS, *UNUSED)
]


class ComparisonFolder(NamedTuple):
    """A folder of compare.py: its configuration, and the digests of what came from outside."""

    folder: Path
    config: EnumeratedConfiguration
    digests: Mapping[str, str]
    compared: ComparedModel


def comparison_in(folder: Path, words: Sequence[str]) -> ComparisonFolder:
    """The model of a comparison, and what its methods reached whose names contain one of ``words``, or all.

    Raises:
        RunError: there is no comparison in the folder, it is not complete, or it has no such method.
    """
    if not (folder / "table.md").exists():
        raise RunError(f"{folder} has no complete comparison in it; give a folder of compare.py")
    found = [MethodOutcome.from_json(line) for line in read_lines(folder / RESULTS)]
    if words:
        found = [outcome for outcome in found if any(word in outcome.method for word in words)]
    if not found:
        raise RunError(f"{folder} has none of these methods; leave it away, or ask for others")
    settings = read_json(folder / SETTINGS)
    config = configuration(settings["run"])
    assert isinstance(config, EnumeratedConfiguration)
    steps = f"{config.sft_steps}, {config.rl_steps}"
    compared = ComparedModel(config.model, config.prompts, steps, found)
    return ComparisonFolder(folder, config, settings.get(INPUTS, {}), compared)


def must_fit(one: ComparisonFolder, other: ComparisonFolder) -> None:
    """
    Raises:
        RunError: they differ in more than ``SAID`` and what is the default of either model; the message names it.
    """
    for name in NOT_SAID:
        if _differ(name, one, other):
            a, b = getattr(one.config, name), getattr(other.config, name)
            raise RunError(
                f"{option(name)} is {a!r} in {one.folder} and {'another ' if a == b else ''}{b!r} in {other.folder}, "
                "and one table is of one task, reward and training; leave one of the folders away"
            )


def _differ(name: str, one: ComparisonFolder, other: ComparisonFolder) -> bool:
    if name in one.digests and name in other.digests:
        return one.digests[name] != other.digests[name]
    values = [getattr(each.config, name) for each in (one, other)]
    presets = [configuration({"model": each.config.model}) for each in (one, other)]
    return values[0] != values[1] and values != [getattr(preset, name) for preset in presets]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "folders", nargs="+", type=folder_path, metavar="FOLDER", help="of compare.py"
    )
    parser.add_argument(
        "--method", nargs="+", default=[], metavar="WORDS", help="only methods with these in it"
    )
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write table.md")
    given = parser.parse_args(arguments)
    compared: dict[str, ComparedModel] = {}
    earlier: list[ComparisonFolder] = []
    try:
        for folder in given.folders:
            found = comparison_in(folder, given.method)
            if found.config.model in compared:
                raise RunError(
                    f"{folder} is a second comparison of {found.config.model}; give one of them"
                )
            for other in earlier:
                must_fit(other, found)
            earlier.append(found)
            compared[found.config.model] = found.compared
        methods = dict.fromkeys(o.method for one in compared.values() for o in one.outcomes)
        for word in given.method:
            if not any(word in method for method in methods):
                raise RunError(f"--method {word!r} is in no method's name in these folders")
    except RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    text = table_of_models(list(compared.values()))
    print(text)
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        replace_file(given.write / "table.md", text.encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
