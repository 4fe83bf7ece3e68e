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

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from validate.options import parse_arguments
from validate.presets import ENUMERATED, make_config, run_name

OUTCOMES = {"holds": 0, "violated": 1, "undecided": 3}
EXIT_USAGE, EXIT_LOST, EXIT_STOPPED = 2, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    asked, out, resume = parse_arguments(arguments, (__doc__ or "").split("\n\n")[0])
    # Read when CUDA starts; makes its matrix products reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    # torch takes seconds to import: only now, so that --help and usage errors are immediate.
    from validate.errors import RunError
    from validate.processes import Processes

    processes = Processes()
    console = Console(quiet=not processes.is_first)

    def complain(message: object) -> None:
        Console(stderr=True, soft_wrap=True, quiet=not processes.is_first).print(
            f"qwen_validate: {message}", markup=False, highlight=False
        )

    try:
        folder = _folder(asked, out, resume, processes)
        train, write_report = _protocol(folder.config["protocol"])
    except (RunError, ValueError, OSError) as error:
        complain(error)
        return EXIT_USAGE
    try:
        train(folder, console, processes, resumed=resume)
    except (RunError, ValueError, OSError) as error:
        complain(error)
        return EXIT_USAGE
    except KeyboardInterrupt:
        complain(f"stopped; go on with --out {folder.path} --resume")
        return EXIT_STOPPED
    except RuntimeError as error:
        if processes.count == 1:
            raise
        first_line = str(error).splitlines()[0]
        Console(stderr=True, soft_wrap=True).print(
            f"qwen_validate: process {processes.rank} lost the others ({first_line}); what was measured is kept: "
            f"launch again with --out {folder.path} --resume",
            markup=False,
            highlight=False,
        )
        return EXIT_LOST
    if not processes.is_first:
        return 0
    console.print("Writing the report ...")
    report = write_report(folder)
    report.print_summary(console)
    folder.drop_checkpoint()
    return OUTCOMES[report.outcome]


def _folder(asked: dict[str, Any], out: Path | None, resume: bool, processes: Any) -> Any:
    from validate.run_folder import RunFolder, free_folder, newest_folder

    if resume:
        path = out or newest_folder(run_name(asked))
        return RunFolder.resume(path, asked, writes=processes.is_first)
    config = make_config(asked)
    path = out or processes.from_first(free_folder(run_name(asked)))
    return RunFolder.create(path, config, writes=processes.is_first)


def _protocol(name: str) -> tuple[Any, Any]:
    """The two functions of a protocol: train what is left of a run, and write its report."""
    if name == ENUMERATED:
        from validate.enumerated.report import write_report
        from validate.enumerated.run import train
    else:
        from validate.sampled.report import write_report
        from validate.sampled.run import train
    return train, write_report


if __name__ == "__main__":
    sys.exit(main())
