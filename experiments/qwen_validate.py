#!/usr/bin/env python
"""Check the non-decoupling statements on a language model whose responses are enumerated.

    python experiments/qwen_validate.py                                     # tiny Qwen3, all orders
    python experiments/qwen_validate.py --model Qwen/Qwen3-0.6B --order sft-rl
    python experiments/qwen_validate.py --model smollm2-135m                # real pretrained weights
    python experiments/qwen_validate.py --resume                            # go on with the newest run

What happens: a model is trained by SFT on data whose law is known, then by RL, then by SFT again (and once with RL
first, after a short warm-up SFT). Its probabilities of every listed response and of "anything else" are exact, so
both sides of every statement are finite sums. The run folder receives report.html, report.json and plots.

What deviates from the paper (arXiv:2601.07389, of which only the abstracts are at hand): the hypotheses, constants
and proofs checked here are this library's; the responses are a short list and one atom for all the rest; the data law
is known and SFT uses it exactly instead of samples; RL follows the exact gradient of J - beta KL(p || ref) over the
enumeration, with ref the policy at the start of RL, instead of sampled rollouts; every step uses all prompts.
Pretrained models are trained with LoRA.

Exit status: 0 every applicable statement holds, 1 one is violated, 2 usage error, 3 one stayed undecided,
130 stopped by Ctrl-C (go on with --resume).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from validate.presets import PRESETS, TINY, make_config

OUTCOMES = {"holds": 0, "violated": 1, "undecided": 3}
EXIT_USAGE, EXIT_STOPPED = 2, 130


def _positive_int(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive finite number")
    return value


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Defaults in [brackets]: tiny-qwen3 / pretrained models.",
    )

    def add(name: str, kind: Any, explanation: str, metavar: str = "N") -> None:
        key = name.strip("-").replace("-", "_")
        shown = " / ".join(str(preset[key]) for preset in PRESETS.values())
        parser.add_argument(name, type=kind, metavar=metavar, help=f"{explanation} [{shown}]")

    parser.add_argument(
        "--model",
        help="tiny-qwen3, smollm2-135m, a folder written by save_pretrained, or a hub id such as "
        "Qwen/Qwen3-0.6B [tiny-qwen3]",
    )
    parser.add_argument(
        "--order",
        choices=("sft-rl", "rl-sft", "cycle", "all"),
        help="which stages to train; all = the three orders, sharing SFT and RL [all]",
    )
    parser.add_argument(
        "--beta", type=_positive, metavar="X", help="weight of KL(p || ref) in RL [0.2]"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of the initial weights [0]")
    add("--prompts", _positive_int, "how many of the 32 embedded prompts")
    add("--sft-steps", _positive_int, "steps of each SFT stage")
    add("--rl-steps", _positive_int, "steps of each RL stage")
    add("--warmup-steps", _positive_int, "steps of the SFT before RL in rl-sft")
    add("--sft-rate", _positive, "largest learning rate of SFT", "X")
    add("--rl-rate", _positive, "largest learning rate of RL", "X")
    add("--checkpoint-every", _positive_int, "steps between checkpoints")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="run folder [runs/MODEL-NUMBER]")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, or with the newest one of this model",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = vars(parse_arguments(arguments))
    out, resume = options.pop("out"), options.pop("resume")
    asked = {name: value for name, value in options.items() if value is not None}
    # Read when CUDA starts; makes its matrix products reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    console = Console()

    # torch takes seconds to import: only now, so that --help and usage errors are immediate.
    from validate.data import embedded_task
    from validate.models import ModelError
    from validate.report import write_report
    from validate.run import train
    from validate.run_folder import RunFolder, RunFolderError, free_folder, newest_folder
    from validate.stages import TrainingFailed

    def complain(message: object) -> None:
        Console(stderr=True, soft_wrap=True).print(
            f"qwen_validate: {message}", markup=False, highlight=False
        )

    model = asked.get("model", TINY)
    try:
        if resume:
            folder = RunFolder.resume(out or newest_folder(model), asked)
        else:
            config = make_config(asked)
            embedded_task(config["prompts"])
            folder = RunFolder.create(out or free_folder(model), config)
    except (RunFolderError, ValueError, OSError) as error:
        complain(error)
        return EXIT_USAGE
    try:
        train(folder, console, resumed=resume)
    except (ModelError, TrainingFailed, ValueError, OSError) as error:
        complain(error)
        return EXIT_USAGE
    except KeyboardInterrupt:
        complain(f"stopped; go on with --out {folder.path} --resume")
        return EXIT_STOPPED

    console.print("Writing the report ...")
    report = write_report(folder)
    report.print_summary(console)
    folder.drop_checkpoint()
    return OUTCOMES[report.outcome]


if __name__ == "__main__":
    sys.exit(main())
