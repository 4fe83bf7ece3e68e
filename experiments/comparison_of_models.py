#!/usr/bin/env python
"""Recipes and schedules on several models: what compare.py found for each, in one table.

    python experiments/compare.py --method "k1-in-reward, beta 0.4" k3-in-loss --out runs/llama -- --model tiny-llama
    python experiments/compare.py --method "k1-in-reward, beta 0.4" k3-in-loss --out runs/mamba2 -- --model tiny-mamba2
    python experiments/comparison_of_models.py runs/llama runs/mamba2 --write runs/models

Per folder those of its methods that are asked for, as in its own table, behind the model's name and sizes.

Exit status: 0 done, 2 usage error, or a folder without a complete comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from compare import RESULTS, SETTINGS
from comparisons.outcomes import MethodOutcome
from comparisons.summary import ComparedModel, table_of_models
from validate.configuration import EnumeratedConfiguration, configuration
from validate.disk import read_json, read_lines, replace_file
from validate.errors import RunError


def compared_in(folder: Path, words: Sequence[str]) -> ComparedModel:
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
    config = configuration(read_json(folder / SETTINGS)["run"])
    assert isinstance(config, EnumeratedConfiguration)
    steps = f"{config.sft_steps}, {config.rl_steps}"
    return ComparedModel(config.model, config.prompts, steps, found)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of compare.py")
    parser.add_argument(
        "--method", nargs="+", default=[], metavar="WORDS", help="only methods with these in it"
    )
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write table.md")
    given = parser.parse_args(arguments)
    models: dict[str, ComparedModel] = {}
    try:
        for folder in given.folders:
            found = compared_in(folder, given.method)
            if found.model in models:
                raise RunError(
                    f"{folder} is a second comparison of {found.model}; give one of them"
                )
            models[found.model] = found
        methods = dict.fromkeys(o.method for one in models.values() for o in one.outcomes)
        for word in given.method:
            if not any(word in method for method in methods):
                raise RunError(f"--method {word!r} is in no method's name in these folders")
    except RunError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    text = table_of_models(list(models.values()))
    print(text)
    if given.write:
        given.write.mkdir(parents=True, exist_ok=True)
        replace_file(given.write / "table.md", text.encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
