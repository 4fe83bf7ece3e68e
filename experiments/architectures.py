#!/usr/bin/env python
"""The enumerated protocol and cross-prompt coupling on tiny models of several families.

    python experiments/architectures.py                       # all families, results in runs/architectures
    python experiments/architectures.py --family llama mamba2 --out FOLDER -- --rl-steps 100

Per family: ``qwen_validate.py --model tiny-FAMILY``, all orders. Then, at the results of the warm-up and of SFT, an
RL step on each prompt is held against its effect on the SFT loss of every other prompt, and against the predictions of
the kernel (P6, D1). Writes table.md, results.json and coupling.svg. Options after ``--`` go to every run; those that
would take away what is measured are refused before anything is trained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import qwen_validate
import torch
from matplotlib.colors import SymLogNorm
from validate.checksums import read_sealed_lines
from validate.configuration import ENUMERATED, FACTS, EnumeratedConfiguration, configuration, option
from validate.enumerated.coupling import Coupling, KernelView, couple, features, kernel_view
from validate.enumerated.inputs import EnumeratedInputs, inputs_of
from validate.enumerated.run import encoded_task
from validate.errors import InputError, RunError
from validate.models import model_of_run
from validate.options import folder_path
from validate.options import parse_arguments as parse_run
from validate.run_folder import RunFolder

from nondecoupling import plot
from nondecoupling.lm.enumerated_law import EnumeratedLaw

# Where coupling is measured: away from the optimum of SFT, and near it.
REFS = ("warm-up", "sft")
# What the runs must have, and why.
NEEDED = {
    "protocol": (ENUMERATED, "couplings are exact sums over listed responses"),
    "order": ("all", "the table has RL after SFT, RL from the warm-up and joint training"),
    "data_law": ("expert", "couplings are with the SFT loss on the experts' data"),
    "task": (FACTS, "couplings are of its capitals and sums"),
    "precision": ("float64", "the rounding of others is as large as the couplings measured"),
}
# Two prompts of a kind.
LEAST_PROMPTS = 3
# Eigenvectors of the kernel that P6's bound keeps.
KEPT = 8
KINDS = {
    "qwen3": "attention",
    "llama": "attention",
    "gemma2": "attention, capped logits",
    "mamba2": "state space",
    "falcon-h1": "attention and state space",
}


def run_protocol(family: str, folder: Path, seed: int, shared: Sequence[str]) -> dict[str, Any]:
    """The report of the enumerated protocol, with what ``shared`` changes."""
    given = ["--model", f"tiny-{family}", "--seed", str(seed), *shared]
    resume = ["--resume"] if (folder / "config.json").exists() else []
    status = qwen_validate.main([*given, "--out", str(folder), *resume])
    report = folder / "report.json"
    if status == qwen_validate.EXIT_USAGE or not report.exists():
        raise SystemExit(f"tiny-{family}: qwen_validate.py ended with exit status {status}")
    return json.loads(report.read_text())


def configuration_of(family: str, seed: int, shared: Sequence[str]) -> EnumeratedConfiguration:
    """That of a family's run.

    Raises:
        InputError: ``shared`` has an option that is not for every run, or one without which nothing could be measured.
    """
    run = parse_run(shared, "options of every run")
    if run.out or run.resume:
        raise InputError("--out goes before the --; a run that was stopped goes on by itself")
    for name, instead in (("model", "--family"), ("seed", "--seed")):
        if name in run.asked:
            raise InputError(f"{option(name)} is set for each family; give {instead} before the --")
    for name, (value, why) in NEEDED.items():
        if run.asked.get(name, value) != value:
            raise InputError(f"{option(name)} is {run.asked[name]!r}, but {why}; leave it away")
    config = configuration({**run.asked, "model": f"tiny-{family}", "seed": seed})
    assert isinstance(config, EnumeratedConfiguration)
    if config.prompts < LEAST_PROMPTS:
        raise InputError(
            f"--prompts is {config.prompts}; couplings within a kind of prompts need at least {LEAST_PROMPTS}"
        )
    return config


def policy_at(
    stage: str, config: EnumeratedConfiguration, inputs: EnumeratedInputs, folder: Path, layout: str
) -> EnumeratedLaw:
    """The policy at the end of a stage, whose law must be the recorded one."""
    language_model = model_of_run(config, inputs.texts)
    language_model.model.cpu()  # what is measured here is worked out in NumPy
    policy = EnumeratedLaw(language_model, encoded_task(language_model, inputs.task), layout)
    policy.load_state_dict(RunFolder(folder, writes=False).load_policy(stage), strict=False)
    lines = read_sealed_lines(folder / "metrics.jsonl")
    recorded = [line for line in lines if line["stage"] == stage][-1]["log_p"]
    if not np.allclose(policy.measured(), recorded, atol=1e-4):
        raise SystemExit(f"{folder}: policies/{stage}.pt is not the policy that the run recorded")
    return policy


def coupling_numbers(found: Coupling) -> dict[str, float]:
    """Capitals and sums alternate: prompts of one kind share words and a template."""
    count = len(found.cosine)
    own = np.eye(count, dtype=bool)
    kind = np.add.outer(np.arange(count), np.arange(count)) % 2 == 0
    parts = {"own": own, "same_kind": kind & ~own, "other_kind": ~kind}
    numbers = {}
    for name, mask in parts.items():
        numbers[f"cosine_{name}"] = float(np.abs(found.cosine[mask]).mean())
        numbers[f"change_{name}"] = float(found.measured[mask].mean())
        numbers[f"size_{name}"] = float(np.abs(found.measured[mask]).mean())
    numbers["by_gradients"] = found.explained(found.by_gradients)
    return numbers | {"by_kernel": found.explained(found.by_kernel)}


def measure(
    family: str, out: Path, seed: int, shared: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Coupling]]:
    folder = out / family
    report = run_protocol(family, folder, seed, shared)
    config = configuration_of(family, seed, shared)
    inputs = inputs_of(config)
    couplings: dict[str, Coupling] = {}
    views: dict[str, KernelView] = {}
    capitals = np.arange(config.prompts) % 2 == 0
    for stage in REFS:
        policy = policy_at(stage, config, inputs, folder, report["layout"])
        log_p, phi = features(policy)
        couplings[stage] = couple(policy, inputs.task, log_p, phi)
        views[stage] = kernel_view(inputs.task, log_p, phi, capitals, KEPT)
    margins = {
        s["statement"]: s["tightest_inequality"]["margin"]
        for s in report["statements"]
        if s["tightest_inequality"]
    }
    eps = {line["stage"]: line["eps"] for line in report["checkpoints"]}
    numbers = {
        "family": family,
        "kind": KINDS[family],
        "parameters": sum(p.numel() for p in policy.model.parameters()),
        "layout": report["layout"],
        "outcome": report["outcome"],
        "counts": report["counts"],
        "eps": {stage: eps[stage] for stage in REFS},
        "changes": report["changes"],
        "margins": margins,
        "coupling": {stage: coupling_numbers(couplings[stage]) for stage in REFS},
        "kernel": {stage: vars(views[stage]) for stage in REFS},
    }
    return numbers, couplings


# A line of a table: its title, and what it says of a family.
Cell = tuple[str, Callable[[dict[str, Any]], str]]


def table(results: Sequence[dict[str, Any]]) -> str:
    """Markdown: the protocol and its smallest margins, then the coupling at each ref."""

    def lines(rows: Sequence[Cell]) -> list[str]:
        names = [r["family"] for r in results]
        text = [f"|  | {' | '.join(names)} |", f"| --- |{' --- |' * len(names)}"]
        return text + [f"| {title} | {' | '.join(f(r) for r in results)} |" for title, f in rows]

    def change(r: dict[str, Any], stage: str) -> str:
        (one,) = [c for c in r["changes"] if c["stage"] == stage]
        return f"{one['loss_change']:+.3f} ({one['predicted_loss_change']:+.3f})"

    protocol: list[Cell] = [
        ("architecture", lambda r: r["kind"]),
        ("parameters", lambda r: f"{r['parameters']:,}"),
        ("rows of the batch", lambda r: r["layout"]),
        ("checks that hold", lambda r: str(r["counts"]["HOLDS"])),
        ("violated, undecided", lambda r: f"{r['counts']['REFUTED']}, {r['counts']['UNDECIDED']}"),
        ("KL(d‖ref) after SFT", lambda r: f"{r['eps']['sft']:.4f}"),
        ("SFT loss change by RL after SFT (predicted, S1)", partial(change, stage="rl")),
        ("by joint training (predicted, J1)", partial(change, stage="joint")),
        ("by RL from the warm-up (predicted, S1)", partial(change, stage="rl-first")),
    ]
    for name in sorted({name for r in results for name in r["margins"]}):
        protocol.append((f"smallest margin, {name}", partial(_margin, name=name)))
    text = lines(protocol)
    for stage in REFS:
        text += ["", f"Coupling at the result of {stage}:", "", *lines(_coupling_rows(stage))]
    return "\n".join(text) + "\n"


def _margin(result: dict[str, Any], name: str) -> str:
    return f"{result['margins'][name]:.2g}" if name in result["margins"] else ""


def _coupling_rows(stage: str) -> list[Cell]:
    def number(name: str, form: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: format(r["coupling"][stage][name], form)

    def kernel(name: str, form: str) -> Callable[[dict[str, Any]], str]:
        return lambda r: format(r["kernel"][stage][name], form)

    return [
        ("mean abs. cosine of SFT and RL gradients, own prompt", number("cosine_own", ".3f")),
        ("same kind of prompt", number("cosine_same_kind", ".3f")),
        ("other kind", number("cosine_other_kind", ".3f")),
        ("mean abs. change of the SFT loss, own prompt", number("size_own", ".1e")),
        ("same kind", number("size_same_kind", ".1e")),
        ("other kind", number("size_other_kind", ".1e")),
        ("cross-prompt changes explained by gradients", number("by_gradients", ".3f")),
        ("explained by the kernel and P4", number("by_kernel", ".3f")),
        ("cosine, RL on capitals and SFT on sums", kernel("cosine", "+.3f")),
        (f"P6's bound with {KEPT} eigenvectors", kernel("bound", ".3f")),
        ("intrinsic dimension of K", kernel("intrinsic_dimension", ".1f")),
        ("of", kernel("size", "d")),
    ]


def figure(results: Sequence[tuple[dict[str, Any], dict[str, Coupling]]]) -> str:
    """At the warm-up: the loss changes by RL steps, capitals before sums, and predicted against measured."""
    measured = [couplings[REFS[0]].measured for _, couplings in results]
    count, largest = len(measured[0]), max(np.abs(changes).max() for changes in measured)
    order = np.argsort(np.arange(count) % 2, kind="stable")
    others = ~np.eye(count, dtype=bool)
    with plot.in_style():
        drawn, axes = plot.subplots(2, len(results), size=(2.4 * len(results), 5.6), squeeze=False)
        for (numbers, couplings), top, bottom in zip(results, *axes, strict=True):
            coupling = couplings[REFS[0]]
            scale = SymLogNorm(largest / 100, vmin=-largest, vmax=largest)
            picture = top.imshow(coupling.measured[np.ix_(order, order)], cmap="RdBu_r", norm=scale)
            top.set_title(f"{numbers['family']}\n{numbers['kind']}", fontsize=9)
            top.set_xlabel("RL step on prompt")
            predicted, measured = 1e3 * coupling.by_gradients, 1e3 * coupling.measured
            bottom.plot(predicted[others], measured[others], ".", ms=2)
            ends = [predicted[others].min(), predicted[others].max()]
            bottom.plot(ends, ends, lw=0.8, color=plot.BLACK)
            bottom.locator_params(nbins=4)
            bottom.set_xlabel("predicted by gradients")
        axes[0, 0].set_ylabel("SFT loss of prompt")
        axes[1, 0].set_ylabel("change on other prompts  [1e-3 nats]")
        drawn.colorbar(picture, ax=list(axes[0]), shrink=0.8, label="change  [nats]")
        return plot.svg(drawn)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        epilog="Options after -- go to every run of qwen_validate.py.",
    )
    parser.add_argument("--family", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=folder_path, default=Path("runs/architectures"), metavar="FOLDER"
    )
    given = list(sys.argv[1:] if arguments is None else arguments)
    cut = given.index("--") if "--" in given else len(given)
    options, shared = parser.parse_args(given[:cut]), given[cut + 1 :]
    try:
        for family in options.family:
            inputs_of(configuration_of(family, options.seed, shared))
    except InputError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        results = [measure(family, options.out, options.seed, shared) for family in options.family]
    except RunError as error:
        raise SystemExit(str(error)) from None
    numbers = [one for one, _ in results]
    (options.out / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (options.out / "table.md").write_text(table(numbers))
    (options.out / "coupling.svg").write_text(figure(results))
    print(table(numbers))
    return 0


if __name__ == "__main__":
    sys.exit(main())
