#!/usr/bin/env python
"""What a step of the enumerated protocol costs, forward and backward: against prompts, candidates, length, vocabulary.

    python experiments/cost_model.py --out FOLDER

One quantity varies at a time around a middle size, with both layouts of the batch: every candidate a row of its own,
and candidates as a trie that shares the prompt. Each size is a process of its own, so that its peak memory is its own;
model and tokens are random. Writes cost_model.json, cost_model.md and cost_model.svg. Run it on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nondecoupling import plot
from nondecoupling.lm.tries import ONE_ROW_EACH, SHARED_PREFIXES

MIDDLE = {"prompts": 8, "candidates": 8, "length": 128, "vocabulary": 32_000}
SIZES = {
    "prompts": (2, 4, 8, 16, 32),
    "candidates": (2, 4, 8, 16, 32),
    "length": (32, 64, 128, 256, 512),
    "vocabulary": (8_000, 16_000, 32_000, 64_000, 128_000),
}
RESPONSE_LENGTH, REPEATS = 8, 5
LAYERS, HIDDEN = 4, 256


def measure(size: dict[str, int], layout: str) -> dict[str, float]:
    """Seconds of a forward and backward pass, and peak memory above that of the loaded model."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from nondecoupling.lm.enumerated_law import EnumeratedLaw
    from nondecoupling.lm.language_model import LanguageModel
    from nondecoupling.lm.tiny import word_tokenizer
    from nondecoupling.lm.tries import Candidates

    config = Qwen3Config(
        vocab_size=size["vocabulary"],
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=HIDDEN // 8,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    tokenizer = word_tokenizer(["a"])  # not used: the tokens are random numbers
    language_model = LanguageModel(Qwen3ForCausalLM(config).float().eval(), tokenizer, "random")
    draw = torch.randint(1, size["vocabulary"], (size["prompts"], size["length"])).tolist()
    shape = (size["prompts"], size["candidates"], RESPONSE_LENGTH - 1)
    responses = torch.randint(1, size["vocabulary"], shape).tolist()
    encoded = [
        Candidates(prompt, [[*tokens, 0] for tokens in some])
        for prompt, some in zip(draw, responses, strict=True)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    policy = EnumeratedLaw(language_model, encoded, layout)
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        policy()[:, :-1].mean().backward()
        language_model.model.zero_grad()
        seconds.append(time.perf_counter() - started)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": statistics.median(seconds[1:]),
        "gib": (after - before) / 2**20,
        "places": policy.batch.places,
        "threads": torch.get_num_threads(),
    }


def in_a_process(size: dict[str, int], layout: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps({"size": size, "layout": layout})]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def growth(lines: Sequence[dict[str, Any]], name: str, what: str) -> float:
    """The exponent between the two largest sizes: 1 is proportional."""
    import math

    a, b = (line for line in lines[-2:])
    return math.log(b[what] / a[what]) / math.log(b[name] / a[name])


def table(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    text = []
    for name, by_layout in found.items():
        before, after = by_layout[ONE_ROW_EACH], by_layout[SHARED_PREFIXES]
        text += [
            f"**{name}**, others "
            + ", ".join(f"{k} {v:,}" for k, v in MIDDLE.items() if k != name),
            "",
            f"| {name} | token places, one row each | shared | seconds, one row each | shared | ratio | "
            "GiB, one row each | shared |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        for one, two in zip(before, after, strict=True):
            times = f"{one['seconds']:.3f} | {two['seconds']:.3f} | {one['seconds'] / two['seconds']:.2f}"
            memory = f"{one['gib']:.2f} | {two['gib']:.2f}"
            text.append(
                f"| {one[name]:,} | {one['places']:,} | {two['places']:,} | {times} | {memory} |"
            )
        exponents = [growth(lines, name, "seconds") for lines in (before, after)]
        text += [
            "",
            f"Exponent of the time between the two largest: {exponents[0]:.2f} (one row each), "
            f"{exponents[1]:.2f} (shared).",
            "",
        ]
    return "\n".join(text)


def figure(found: dict[str, dict[str, list[dict[str, Any]]]]) -> str:
    with plot.in_style():
        drawn, axes = plot.subplots(2, len(found), size=(3.0 * len(found), 5.4))
        for (name, by_layout), top, bottom in zip(found.items(), *axes, strict=True):
            for layout, color in ((ONE_ROW_EACH, plot.VERMILION), (SHARED_PREFIXES, plot.BLUE)):
                xs = [line[name] for line in by_layout[layout]]
                top.loglog(
                    xs,
                    [line["seconds"] for line in by_layout[layout]],
                    "o-",
                    color=color,
                    ms=3,
                    label=layout,
                )
                bottom.loglog(
                    xs,
                    [max(line["gib"], 1e-3) for line in by_layout[layout]],
                    "o-",
                    color=color,
                    ms=3,
                )
            top.set_ylabel("seconds, forward and backward")
            bottom.set_ylabel("GiB above the model")
            bottom.set_xlabel(name)
        axes[0][0].legend()
        return plot.svg(drawn)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/cost-model"), metavar="FOLDER")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(**json.loads(options.one))))
        return 0
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, sizes in SIZES.items():
        found[name] = {ONE_ROW_EACH: [], SHARED_PREFIXES: []}
        for value in sizes:
            size = {**MIDDLE, name: value}
            for layout, lines in found[name].items():
                lines.append({**size, **in_a_process(size, layout)})
                print(name, value, layout, lines[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "cost_model.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "cost_model.md").write_text(table(found))
    (options.out / "cost_model.svg").write_text(figure(found))
    print(table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
