"""The command line of ``qwen_validate.py``; what it stands for is in ``configuration``."""

from __future__ import annotations

import argparse
import errno
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from validate.configuration import (
    ADVANTAGES,
    ENUMERATED,
    FINISHES,
    PRECISIONS,
    PRESETS,
    PROMPT_FORMATS,
    RECIPES,
    RECIPES_OF_TRL,
    SAMPLED,
    TINY_MODELS,
    WEIGHTS,
    WHOLE,
    Asked,
    RunConfiguration,
)
from validate.orders import ORDERS, STAGES

__all__ = ["Given", "folder_path", "parse_arguments", "positive", "positive_int"]


def positive_int(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return value


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive finite number")
    return value


def probability(text: str) -> float:
    value = positive(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def folder_path(text: str) -> Path:
    """A path that the file system can have."""
    try:
        os.lstat(text)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(
                f"{text} cannot be a folder ({error.strerror}); choose a shorter name"
            ) from None
    return Path(text)


def _defaults(name: str) -> str:
    """The defaults of an option in brackets, per protocol, tiny / pretrained."""
    texts: list[str] = []
    for protocol in (ENUMERATED, SAMPLED):
        values = [
            getattr(preset, name)
            for (one, _), preset in PRESETS.items()
            if one == protocol and hasattr(preset, name)
        ]
        if values:
            shown = " / ".join(map(str, values)) if len(set(values)) > 1 else str(values[0])
            texts.append(shown if shown in "".join(texts) else f"{protocol} {shown}")
    return f"[{'; '.join(texts)}]"


@dataclass(frozen=True)
class Given:
    """A command line: what was asked for, by the names of the configuration, and how to go about it."""

    asked: Asked
    out: Path | None
    resume: bool
    restart_from: str | None


def parse_arguments(arguments: Sequence[str] | None, description: str) -> Given:
    parser = argparse.ArgumentParser(
        description=description,
        epilog="Defaults in [brackets], by protocol where they differ: tiny / pretrained models.",
    )
    run = parser.add_argument_group("what to run")
    run.add_argument(
        "--model",
        help=f"{', '.join(TINY_MODELS)}, smollm2-135m, gemma3-270m, a folder written by save_pretrained, a .gguf file, "
        f"or a hub id such as Qwen/Qwen3-0.6B [{RunConfiguration.model}]",
    )
    run.add_argument(
        "--protocol",
        choices=(ENUMERATED, SAMPLED),
        help=f"exact sums over listed responses, or free generation with TRL [{ENUMERATED}]",
    )
    run.add_argument(
        "--order",
        choices=(*ORDERS, "all"),
        help=f"which stages to train; all = {', '.join(WHOLE)}, sharing what they share [all]",
    )
    run.add_argument(
        "--data-law",
        choices=("expert", "self"),
        help="what the SFT loss is measured on, and SFT after RL trains on: the experts' responses, or the "
        f"policy's own before RL, so that SFT is at its optimum there [{RunConfiguration.data_law}]",
    )
    run.add_argument(
        "--beta",
        type=positive,
        metavar="X",
        help=f"weight of KL(p||ref) in RL [{RunConfiguration.beta}]",
    )
    run.add_argument(
        "--lambda",
        type=positive,
        metavar="X",
        dest="weight",
        help=f"weight of the SFT loss in joint training [{RunConfiguration.weight}]",
    )
    run.add_argument(
        "--best-of",
        type=positive_int,
        metavar="N",
        help=f"best-of-n: how many draws of ref SFT gets the best of [{RunConfiguration.best_of}]",
    )
    run.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="weighted-sft: of ref's responses, beta/(mu - r) or e^(r/beta), normalised "
        f"[{RunConfiguration.weights}]",
    )
    run.add_argument(
        "--cycles",
        type=positive_int,
        metavar="N",
        help=f"alternate: how many cycles the steps of RL make up {_defaults('cycles')}",
    )
    run.add_argument(
        "--sft-share",
        type=probability,
        metavar="X",
        help="alternate: the share of SFT in the steps of a cycle, whole ones "
        f"[{RunConfiguration.sft_share}]",
    )
    run.add_argument(
        "--finish",
        choices=FINISHES,
        help="alternate: after SFT, after one more RL phase, or after half of it "
        f"[{RunConfiguration.finish}]",
    )
    run.add_argument(
        "--reward",
        metavar="NAME",
        help="enumerated: right-and-format, right, format; sampled: strict, last-label, combined, or "
        f"module:function {_defaults('reward')}",
    )
    run.add_argument(
        "--training",
        choices=("full", "lora"),
        help=f"all parameters, or LoRA of rank 16 on all linear layers {_defaults('training')}",
    )
    run.add_argument("--seed", type=int, metavar="N", help="of all random numbers [0]")

    run.add_argument(
        "--task",
        metavar="FILE",
        help="enumerated: a file of JSON lines with prompts, candidate responses, data law and rewards of your own "
        f"{_defaults('task')}",
    )

    size = parser.add_argument_group("how much")

    def add(name: str, kind: Callable[[str], float], explanation: str, metavar: str = "N") -> None:
        key = name.strip("-").replace("-", "_")
        size.add_argument(name, type=kind, metavar=metavar, help=f"{explanation} {_defaults(key)}")

    add("--prompts", positive_int, "how many prompts, the first ones; of a --task all")
    add("--train-prompts", positive_int, "sentences to train on; the others are held out")
    add("--pilot-prompts", positive_int, "held-out prompts that plan the evaluation")
    add("--eval-prompts", positive_int, "held-out prompts that the verdicts rest on")
    add("--responses", positive_int, "responses per prompt in the evaluation")
    add("--max-tokens", positive_int, "longest response, its end-of-sequence token included")
    add("--sft-batch", positive_int, "examples per SFT step")
    add("--rl-prompts", positive_int, "prompts per RL step")
    add("--generations", positive_int, "rollouts per prompt in an RL step")
    add("--sft-steps", positive_int, "steps of each SFT stage")
    add("--rl-steps", positive_int, "steps of each RL or joint stage")
    add("--warmup-steps", positive_int, "steps of the SFT before RL in rl-sft")
    add("--sft-rate", positive, "largest learning rate of SFT", "X")
    add("--rl-rate", positive, "largest learning rate of RL", "X")
    add("--checkpoint-every", positive_int, "steps between checkpoints")

    run.add_argument(
        "--recipe",
        choices=RECIPES,
        help="RL's leash: how which estimator of the KL enters the update. k1-in-reward, k2-in-loss and k3-with-ratio "
        "end at the tilt, k3-in-loss on the frontier, k3-in-reward nowhere; in samples TRL trains "
        f"{', '.join(RECIPES_OF_TRL)}, as --rl says more closely {_defaults('recipe')}",
    )

    enumerated = parser.add_argument_group("the enumerated protocol")
    enumerated.add_argument(
        "--advantage",
        choices=ADVANTAGES,
        help="rewards less the mean, or divided by the standard deviation of their group too (two levels of reward "
        f"only) {_defaults('advantage')}",
    )
    enumerated.add_argument(
        "--group-size",
        type=positive_int,
        metavar="N",
        help="responses per group where advantages are normalised [the limit of large groups]",
    )
    enumerated.add_argument(
        "--entropy-bonus",
        type=positive,
        metavar="X",
        help="weight of the entropy of the policy in RL [none]",
    )

    enumerated.add_argument(
        "--replay-share",
        type=probability,
        metavar="X",
        help=f"replay: of RL's policy in what SFT trains on {_defaults('replay_share')}",
    )
    enumerated.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="what the model's head is applied in, whatever the network's own; on a GPU the last two take the fused "
        f"kernel {_defaults('precision')}",
    )

    sampled = parser.add_argument_group("the sampled protocol")
    sampled.add_argument(
        "--data",
        metavar="SOURCE",
        help="grammar (embedded sentences), cola (GLUE's, through datasets), or a TSV in CoLA's format "
        + _defaults("data"),
    )
    sampled.add_argument(
        "--eval-data",
        metavar="SOURCE",
        help="held-out prompts from here, likewise, such as GLUE's dev.tsv, and not from what --data has beyond the "
        "sentences to train on",
    )
    sampled.add_argument(
        "--prompt-format",
        choices=PROMPT_FORMATS,
        help="plain: a text that the model continues; chat: a user's turn in the tokenizer's chat template, and "
        f"responses without a space before them {_defaults('prompt_format')}",
    )
    sampled.add_argument(
        "--rl",
        choices=("rloo", "grpo", "k3-in-loss", "k3-with-ratio"),
        help="rloo maximises E[r] - beta KL; grpo is TRL's usual recipe, the others GRPO with a leash per token and "
        f"nothing else {_defaults('rl')}",
    )
    sampled.add_argument(
        "--delta",
        type=probability,
        metavar="X",
        help=f"all verdicts of a run are right together with probability 1 - delta {_defaults('delta')}",
    )

    files = parser.add_argument_group("files")
    files.add_argument(
        "--out", type=folder_path, metavar="FOLDER", help="run folder [runs/MODEL-NUMBER]"
    )
    files.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, or with the newest one of this model and protocol",
    )
    files.add_argument(
        "--restart-from",
        choices=tuple(STAGES),
        metavar="STAGE",
        help="with --resume: forget what was trained and measured from this stage on, as where a file of it is "
        f"damaged ({', '.join(STAGES)})",
    )
    found = vars(parser.parse_args(arguments))
    out, resume, restart_from = (found.pop(name) for name in ("out", "resume", "restart_from"))
    if restart_from and not resume:
        parser.error("--restart-from goes with --resume; name the run with --out")
    asked = {name: value for name, value in found.items() if value is not None}
    return Given(asked, out, resume, restart_from)
