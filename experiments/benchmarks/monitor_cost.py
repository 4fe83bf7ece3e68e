"""What `nondecoupling.monitor` costs: a training with TRL with a monitor at default settings, and without one.

    python experiments/benchmarks/monitor_cost.py --write

A tiny Qwen3 is trained by GRPO from the same start in pairs, with and without the monitor in turn, once for each length
of completions. There are two figures. One is the monitor's own clock: the training's time over that time without the
monitor's calls. It repeats to a hundredth, and whether the limit is met goes by it. The other is the ratio of the two
trainings of a pair, from the first step to the end, in processor seconds on one thread: it would show what the monitor
costs outside its calls, but trainings alike differ by a tenth, so that only its median over many says something. What
the monitor does once, before the first step, is a column of its own, less what the trainer does then without it: a
longer training does not pay more for it.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from nondecoupling.lm import collect, tiny_qwen3
from nondecoupling.monitor import CouplingMonitor
from nondecoupling.monitor.during_training import watch_of

RESULT = Path(__file__).parent.parent / "results" / "monitor_cost.md"
PROMPTS = [f"{a} + {b} =" for a in range(16) for b in range(8)]
WORDS = [f" {n}" for n in range(23)]
TOKENS, STEPS, PAIRS = (2, 24), 80, 7
ROLLOUTS, GROUP, RESPONSES = 64, 8, 4
MOST = 1.1


class Clock(TrainerCallback):
    """Processor seconds of a training, after what other callbacks do at its begin and its end.

    ``share``: of the time, what a monitor says that it took.
    """

    def __init__(self, monitor: CouplingMonitor | None) -> None:
        self.monitor, self.share = monitor, 0.0
        self.before = time.process_time()
        self.preparing = self.training = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        now = time.process_time()
        self.preparing, self.before = now - self.before, now

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.training = time.process_time() - self.before
        if self.monitor is not None:
            self.share = watch_of(self.monitor).share_of_time


@dataclass
class Length:
    """The trainings with completions of so many tokens: seconds by pair, also before the first step, and shares."""

    tokens: int
    plain: list[float] = field(default_factory=list)
    watched: list[float] = field(default_factory=list)
    prepared: list[float] = field(default_factory=list)
    prepared_watched: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def by_its_clock(self) -> list[float]:
        return [1 / (1 - share) for share in self.shares]

    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.watched, self.plain, strict=True)]

    def once(self) -> list[float]:
        return [a - b for a, b in zip(self.prepared_watched, self.prepared, strict=True)]


def share_of_tokens(tokens: int) -> Any:
    """A reward for long completions."""

    def length(prompts: list[str], completion_ids: list[list[int]], **columns: Any) -> list[float]:
        return [len(ids) / tokens for ids in completion_ids]

    return length


def trained(folder: Path, tokens: int, steps: int, monitor: CouplingMonitor | None) -> Clock:
    model, reward = tiny_qwen3([*PROMPTS, *WORDS], seed=0), share_of_tokens(tokens)
    clock = Clock(monitor)
    trainer = GRPOTrainer(
        model=model.model,
        reward_funcs=reward if monitor is None else monitor.wrap(reward),
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            per_device_train_batch_size=ROLLOUTS,
            num_generations=GROUP,
            max_completion_length=tokens,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=model.tokenizer,
        callbacks=[clock] if monitor is None else [monitor.callback, clock],
    )
    clock.before = time.process_time()
    trainer.train()
    return clock


def measured(folder: Path, tokens: int, steps: int, pairs: int) -> Length:
    start, found = tiny_qwen3([*PROMPTS, *WORDS], seed=0), Length(tokens)
    collect(
        start.model,
        start.tokenizer,
        PROMPTS,
        share_of_tokens(tokens),
        k=RESPONSES,
        reward_bounds=(0, 1),
        max_tokens=tokens,
        out=folder / f"{tokens}.parquet",
    )
    trained(folder / "rl", tokens, 1, None)  # what is loaded at first
    for pair in range(pairs):
        for watched in (False, True) if pair % 2 == 0 else (True, False):
            monitor = CouplingMonitor(folder / f"{tokens}.parquet") if watched else None
            clock = trained(folder / "rl", tokens, steps, monitor)
            (found.watched if watched else found.plain).append(clock.training)
            (found.prepared_watched if watched else found.prepared).append(clock.preparing)
            if monitor is not None:
                found.shares.append(clock.share)
                assert monitor.readings, "the monitor has looked at nothing"
    return found


def render(lengths: Sequence[Length], steps: int, load: float) -> str:
    packages = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "transformers", "trl"))
    pairs = len(lengths[0].plain)
    lines = [
        "# What the monitor costs",
        "",
        f"A tiny Qwen3, GRPO with {ROLLOUTS} rollouts a step, {steps} steps; `CouplingMonitor` at its defaults, on "
        f"{RESPONSES} responses to each of {len(PROMPTS)} prompts. The time of the training over that without the "
        f"monitor's calls, by the monitor's clock; and processor seconds on one thread, with the monitor over without, "
        f"{pairs} {'pair' if pairs == 1 else 'pairs'} in turn: medians, lowest and highest. "
        f"{platform.machine()}, {os.cpu_count()} cores, one-minute load average {load:.1f} at the start and "
        f"{os.getloadavg()[0]:.1f} at the end. Python {platform.python_version()}, {packages}.",
        "",
        "| tokens of a completion | by its clock | from | to | with / without | from | to | seconds without "
        f"| once, before the first step | at most {MOST:g}, by its clock |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for length in lengths:
        median = statistics.median
        own, pair = (
            f"{median(ratios):.3f} | {min(ratios):.3f} | {max(ratios):.3f}"
            for ratios in (length.by_its_clock(), length.ratios())
        )
        met = "yes" if median(length.by_its_clock()) <= MOST else "**no**"
        lines.append(
            f"| {length.tokens} | {own} | {pair} | {median(length.plain):.2f} | {median(length.once()):.2f} s | {met} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> list[Length]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--tokens", type=int, nargs="+", default=TOKENS, help="lengths of completions"
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of trainings, for each length")
    parser.add_argument("--write", action="store_true", help=f"write results/{RESULT.name}")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        lengths = [
            measured(Path(folder), tokens, options.steps, options.pairs)
            for tokens in options.tokens
        ]
    torch.set_num_threads(threads)
    text = render(lengths, options.steps, load)
    print(text)
    if options.write:
        RESULT.write_text(text, encoding="utf-8")
    return lengths


if __name__ == "__main__":
    main()
