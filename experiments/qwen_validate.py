#!/usr/bin/env python
"""Check the non-decoupling statements on a language model that is trained by SFT and RL.

    python experiments/qwen_validate.py                                     # tiny Qwen3, all orders
    python experiments/qwen_validate.py --protocol sampled                  # by free generation
    python experiments/qwen_validate.py --model Qwen/Qwen3-0.6B --order sft-rl
    python experiments/qwen_validate.py --model smollm2-135m                # real pretrained weights
    python experiments/qwen_validate.py --resume                            # go on with the newest run

A model is trained by SFT, then by RL, then by SFT again; once with RL first, after a short warm-up SFT; and once by
both at a time. In the enumerated protocol its probabilities of every listed response and of "anything else" are
exact, so both sides of every statement are finite sums; SFT uses the known data law itself and RL the exact gradient.
In the sampled protocol SFT sees draws of experts' responses, RL draws rollouts (TRL), and the statements get verdicts
from responses to held-out prompts. The run folder receives report.html, report.json and plots.

What deviates from the paper (arXiv:2601.07389, of which only the abstracts are at hand): the hypotheses, constants and
proofs are this library's; prompts are plain text, without a chat template; responses are short; ref is the policy at
the start of RL; pretrained models are trained with LoRA unless --training full.

Exit status: 0 no statement is violated, 2 usage error or a run that could not go on, 3 a row stayed undecided
(enumerated), 4 another process of the run was lost, 5 a statement is violated, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from validate.configuration import (
    EnumeratedConfiguration,
    RunConfiguration,
    SampledConfiguration,
    configuration,
    run_name,
)
from validate.errors import RunError
from validate.options import Given, parse_arguments
from validate.output import Output, console_on
from validate.requirements import (
    ANY_RUN,
    PROTOCOL,
    must_be_installed,
    must_have_address_space,
)

if TYPE_CHECKING:
    from validate.run_folder import RunFolder
    from validate.session import RunProtocol

    from nondecoupling.lm.processes import Processes

OUTCOMES = {"holds": 0, "undecided": 3, "violated": 5}
EXIT_USAGE, EXIT_LOST, EXIT_STOPPED = 2, 4, 130


def main(arguments: Sequence[str] | None = None) -> int:
    given = parse_arguments(arguments, (__doc__ or "").split("\n\n")[0])
    # Read when CUDA starts; makes its matrix products reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

    output = Output(sys.stdout)
    try:
        must_be_installed(ANY_RUN)
        must_have_address_space()
        # torch takes seconds to import: only now, so that --help and usage errors are immediate.
        from validate.session import Session

        from nondecoupling.lm import LanguageModelError
        from nondecoupling.lm.processes import Processes
    except RunError as error:
        _say(error)
        return EXIT_USAGE
    except (ImportError, OSError, MemoryError) as error:
        _say(
            f"torch or transformers could not be loaded ({_first_line(error)}); raise a limit on memory (ulimit -v), "
            "or install them anew: pip install 'nondecoupling[experiments]'"
        )
        return EXIT_USAGE

    processes = Processes()
    if processes.count > 1:
        # A launcher ends the others when one is lost, often before they have noticed. Each finds out at its next
        # exchange and says how to go on; the launcher kills what has not ended after its grace.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    console = console_on(output, quiet=not processes.is_first)

    def complain(message: object) -> None:
        _say(message, "" if processes.count == 1 else f" process {processes.rank}")

    folder = None
    try:
        protocol, folder = _protocol_and_folder(given, processes)
        if processes.from_first(folder.is_complete()):
            console.print(f"{folder.path} is complete; only its report is written again")
        else:
            protocol.train(Session(folder, console, processes, given.resume))
        if not processes.is_first:
            return 0
        console.print("Writing the report ...")
        report = protocol.write_report(folder)
        report.print_summary(console)
        folder.finish()
        output.flush()
        if output.problem:
            complain(
                f"the output could not be written ({output.problem}); the report is in {folder.path}"
            )
        return OUTCOMES[report.outcome]
    except (RunError, LanguageModelError) as error:
        complain(error)
        return EXIT_USAGE
    except KeyboardInterrupt:
        if folder is not None and folder.has_begun:
            complain(f"stopped; go on with --out {folder.path} --resume")
        else:
            complain("stopped before anything was measured")
        return EXIT_STOPPED
    except (MemoryError, RuntimeError) as error:
        if _is_out_of_memory(error):
            complain(
                f"the memory did not suffice ({_first_line(error)}); what was measured is kept: free some, or raise "
                f"the limit, then go on with --out {folder.path if folder else given.out} --resume; or take a smaller "
                "model or batch"
            )
            return EXIT_USAGE
        if not isinstance(error, RuntimeError) or not processes.lost_others(error):
            raise
        complain(
            f"lost the others ({_first_line(error)}); what was measured is kept: launch again with "
            f"--out {folder.path if folder else given.out} --resume"
        )
        return EXIT_LOST
    finally:
        if folder is not None:
            folder.release()


def _say(message: object, who: str = "") -> None:
    stream = Output(sys.stderr)
    stream.write(f"qwen_validate:{who and who + ':'} {message}\n")
    stream.flush()


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, torch on a CPU or torch on a GPU says so."""
    words = ("allocate memory", "out of memory", "bad_alloc")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _protocol_and_folder(given: Given, processes: Processes) -> tuple[RunProtocol, RunFolder]:
    """The run and its folder, which the first process makes or finds for all, and keeps others out of."""
    from validate.places import free_folder, newest_folder
    from validate.run_folder import RunFolder

    def found() -> tuple[RunProtocol, RunFolder]:
        if not given.resume:
            config = configuration(given.asked)
            folder = RunFolder(given.out or free_folder(run_name(given.asked)))
            folder.must_be_free()
            return _protocol(config), folder
        folder = RunFolder(given.out or newest_folder(run_name(given.asked)))
        try:
            folder.must_have_begun()
            folder.lock()
            protocol = _protocol(folder.configuration(given.asked))
            if given.restart_from:
                folder.restart_from(given.restart_from, protocol.configuration, protocol.planned)
        except RunError:
            folder.release()
            raise
        return protocol, folder

    mine, answer, problem = None, None, None
    if processes.is_first:
        try:
            mine = found()
            answer = mine[0].configuration, mine[1].path
        except RunError as error:
            problem = str(error)
    answer, problem = processes.from_first((answer, problem))
    if answer is None:
        raise RunError(problem)
    config, path = answer
    return mine or (_protocol(config), RunFolder(path, writes=False))


def _protocol(config: RunConfiguration) -> RunProtocol:
    """The protocol that the configuration is of."""
    must_be_installed(PROTOCOL[config.protocol])
    if isinstance(config, EnumeratedConfiguration):
        from validate.enumerated.run import EnumeratedRun

        return EnumeratedRun(config)
    assert isinstance(config, SampledConfiguration)
    from validate.sampled.run import SampledRun

    return SampledRun(config)


if __name__ == "__main__":
    sys.exit(main())
