#!/usr/bin/env python
"""A rehearsal of Qwen3-0.6B at full size where its weights cannot be had.

    python experiments/full_size.py write FOLDER       # random weights, exactly Qwen3-0.6B's configuration
    python experiments/full_size.py rehearse FOLDER    # a few steps of every stage, memory and seconds per step

``write`` makes a checkpoint in Hugging Face format (bfloat16, 1.2 GB): 28 layers, hidden 1024, 16 heads, 8 KV heads,
head dim 128, FFN 3072, vocabulary 151,936, tied embeddings, rope theta 1e6. Its tokenizer is byte-level BPE, trained on
the embedded prompts, with Qwen's end-of-sequence token at Qwen's place. ``rehearse`` runs
``qwen_validate.py --model FOLDER``, the very path of ``--model Qwen/Qwen3-0.6B``; writes measured.json and table.md.

With random weights the numbers of the report mean nothing; memory, time and the path itself are what is rehearsed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCRIPT = Path(__file__).with_name("qwen_validate.py")
CONFIG: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000},
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "bos_token_id": 151_643,
    "eos_token_id": 151_645,
}
END, PAD = "<|im_end|>", "<|endoftext|>"
STEPS = {"sft-steps": 3, "rl-steps": 3, "warmup-steps": 2, "checkpoint-every": 3}
# Peak rates in TFLOP/s without sparsity (NVIDIA's data sheets): fp32, and fp64 (tensor cores), which the head uses.
GPUS = {"A100 80GB": (19.5, 19.5), "H100 SXM": (67.0, 67.0)}
# The share of the peak that a run may hope for: an assumption, not a measurement.
UTILISATION = 0.3


def write(place: Path) -> None:
    import torch
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    with torch.device("cpu"):
        model = Qwen3ForCausalLM(Qwen3Config(**CONFIG)).bfloat16()
    model.save_pretrained(place)
    PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(), eos_token=END, pad_token=PAD
    ).save_pretrained(place)
    size = sum(p.numel() for p in model.parameters())
    print(f"{place}: {size:,} parameters with random weights")


def _tokenizer() -> Tokenizer:
    """Byte-level BPE on the embedded prompts, with special tokens at Qwen's ids."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from validate.enumerated.facts import vocabulary_texts

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = splitter
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(vocabulary_texts(), trainer)
    learned = json.loads(learner.to_str())["model"]
    vocabulary = {
        **learned["vocab"],
        PAD: CONFIG["bos_token_id"],
        END: CONFIG["eos_token_id"],
    }
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = splitter, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in (PAD, END)])
    return tokenizer


def rehearse(place: Path, out: Path) -> int:
    """Run a few steps of every stage in a process of its own, and write down what they took."""
    folder = out / "run"
    steps = [word for name, value in STEPS.items() for word in (f"--{name}", str(value))]
    resume = ["--resume"] if (folder / "config.json").exists() else []
    command = [sys.executable, str(SCRIPT), "--model", str(place), *steps, "--out", str(folder)]
    status = subprocess.run([*command, *resume]).returncode
    if not (folder / "report.json").exists():
        print(
            f"the rehearsal ended with {status} and no report; repeat the command to go on",
            file=sys.stderr,
        )
        return 1
    numbers = measured(place, folder)
    (out / "measured.json").write_text(json.dumps(numbers, indent=1) + "\n")
    (out / "table.md").write_text(table(numbers))
    print(table(numbers))
    return 0


def measured(place: Path, folder: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    stages = {
        name: sum(line["seconds"] for line in lines if line["stage"] == name)
        / sum(line["steps"] for line in lines if line["stage"] == name)
        for name in dict.fromkeys(line["stage"] for line in lines)
    }
    config = json.loads((folder / "config.json").read_text())
    environment = json.loads((folder / "environment.json").read_text())["sessions"][-1]
    report = json.loads((folder / "report.json").read_text())
    work = flops_per_step(place, config, report["layout"])
    return {
        "model": report["model"],
        "device": environment["device"],
        "cpus": environment["cpus"],
        "prompts": config["prompts"],
        "layout": report["layout"],
        "stages": stages,
        "peak_gib": max(line["peak_gib"] for line in lines),
        **work,
        "achieved_gflops": (work["network_flops"] + work["head_flops"])
        / min(stages.values())
        / 1e9,
        "estimated_seconds_per_step": {
            gpu: (work["network_flops"] / fp32 + work["head_flops"] / fp64) / UTILISATION / 1e12
            for gpu, (fp32, fp64) in GPUS.items()
        },
    }


def flops_per_step(place: Path, config: dict[str, Any], layout: str) -> dict[str, float]:
    """Multiply-adds count two. LoRA: forward and the gradient of activations, 2 + 2 per parameter and token place.

    The head is applied in float64 to one place per trie edge: forward, again in the backward pass, and its gradient.
    """
    import torch
    from transformers import AutoTokenizer
    from validate.enumerated.facts import embedded_task

    from nondecoupling.lm.tries import encode, make_batch

    tokenizer = AutoTokenizer.from_pretrained(place)
    prompts = embedded_task(config["prompts"]).prompts
    batch = make_batch(
        [encode(tokenizer, p.text, p.responses) for p in prompts], layout, torch.float32
    )
    c = json.loads((place / "config.json").read_text())
    attention = (
        c["hidden_size"] * c["head_dim"] * 2 * (c["num_attention_heads"] + c["num_key_value_heads"])
    )
    layer = attention + 3 * c["hidden_size"] * c["intermediate_size"]
    edges = batch.source.numel()
    return {
        "token_places": batch.places,
        "edges": edges,
        "layer_parameters": c["num_hidden_layers"] * layer,
        "network_flops": 4.0 * c["num_hidden_layers"] * layer * batch.places,
        "head_flops": 6.0 * edges * c["vocab_size"] * c["hidden_size"],
    }


def table(numbers: dict[str, Any]) -> str:
    lines = [
        f"{numbers['model']}.",
        "",
        f"{numbers['prompts']} prompts, {numbers['token_places']} token places, {numbers['edges']} trie edges; "
        f"{numbers['device']}, {numbers['cpus']} cores.",
        "",
        "| measured |  |",
        "| --- | --- |",
        *(f"| seconds per step, {stage} | {s:.1f} |" for stage, s in numbers["stages"].items()),
        f"| peak memory of the process | {numbers['peak_gib']:.1f} GiB |",
        f"| achieved, fastest stage, at least | {numbers['achieved_gflops']:.0f} GFLOP/s |",
        "",
        "A stage is a few steps long, and its seconds include the first, slower step and one checkpoint: a forward "
        "pass, the law written down, the adapter and the optimizer's state saved.",
        "",
        "Estimated for one GPU, not measured: the FLOPs below at "
        f"{UTILISATION:.0%} of the data sheet's peak. The tensors are the same, so the peak memory above, which "
        "includes Python and its libraries, should be enough there too.",
        "",
        "| GPU | seconds per step |",
        "| --- | --- |",
        *(f"| {gpu} | {s:.2f} |" for gpu, s in numbers["estimated_seconds_per_step"].items()),
        "",
        f"FLOPs per step: {numbers['network_flops']:.2e} in the network (fp32), {numbers['head_flops']:.2e} in the "
        "head (fp64).",
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("write", "make the checkpoint"), ("rehearse", "run a few steps from it")):
        one = commands.add_parser(name, help=text)
        one.add_argument("folder", type=Path, help="of the checkpoint")
        if name == "rehearse":
            one.add_argument("--out", type=Path, default=Path("runs/full-size"), metavar="FOLDER")
    options = parser.parse_args(arguments)
    if options.command == "write":
        write(options.folder)
        return 0
    return rehearse(options.folder, options.out)


if __name__ == "__main__":
    sys.exit(main())
