"""Names of the models and the defaults of a run: settings only, nothing heavy is imported."""

from __future__ import annotations

from typing import Any

from validate.errors import InputError

__all__ = [
    "ENUMERATED",
    "PRESETS",
    "SAMPLED",
    "STYLE_WEIGHTS",
    "TINY",
    "make_config",
    "run_name",
]

TINY = "tiny-qwen3"
ENUMERATED, SAMPLED = "enumerated", "sampled"
COMMON = {
    "model": TINY,
    "protocol": ENUMERATED,
    "order": "all",
    "data_law": "expert",
    "beta": 0.2,
    "weight": 0.05,
    "seed": 0,
}
# How often experts use each of their three styles; prompts take these laws in turn.
STYLE_WEIGHTS = ((0.50, 0.30, 0.20), (0.25, 0.45, 0.30), (0.35, 0.25, 0.40), (0.60, 0.15, 0.25))
# (protocol, kind of model) -> lengths and learning rates that reach the optima; a pretrained model costs far more
# per step.
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    (ENUMERATED, "tiny"): {
        "training": "full",
        "prompts": 32,
        "reward": "right-and-format",
        "sft_steps": 300,
        "rl_steps": 300,
        "warmup_steps": 60,
        "sft_rate": 5e-3,
        "rl_rate": 1e-3,
        "checkpoint_every": 30,
    },
    (SAMPLED, "tiny"): {
        "training": "full",
        "data": "grammar",
        "reward": "strict",
        "rl": "rloo",
        "train_prompts": 1600,
        "pilot_prompts": 60,
        "eval_prompts": 400,
        "responses": 16,
        "max_tokens": 10,
        "sft_steps": 400,
        "rl_steps": 300,
        "warmup_steps": 80,
        "sft_batch": 64,
        "rl_prompts": 16,
        "generations": 8,
        "sft_rate": 5e-3,
        "rl_rate": 1e-3,
        "checkpoint_every": 50,
        "delta": 0.05,
    },
    (SAMPLED, "pretrained"): {
        "training": "lora",
        "data": "grammar",
        "reward": "strict",
        "rl": "rloo",
        "train_prompts": 1600,
        "pilot_prompts": 16,
        "eval_prompts": 64,
        "responses": 8,
        "max_tokens": 16,
        "sft_steps": 60,
        "rl_steps": 60,
        "warmup_steps": 20,
        "sft_batch": 16,
        "rl_prompts": 4,
        "generations": 8,
        "sft_rate": 1e-3,
        "rl_rate": 3e-4,
        "checkpoint_every": 10,
        "delta": 0.05,
    },
    (ENUMERATED, "pretrained"): {
        "training": "lora",
        "prompts": 8,
        "reward": "right-and-format",
        "sft_steps": 60,
        "rl_steps": 80,
        "warmup_steps": 10,
        "sft_rate": 1e-3,
        "rl_rate": 1e-4,
        "checkpoint_every": 10,
    },
}


# Sizes below which a report cannot be computed, or a trainer refuses.
LEAST = {"eval_prompts": 5, "pilot_prompts": 5, "responses": 2, "generations": 2, "seed": 0}


def make_config(asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that influences the numbers of a run: the preset of the model, then what was asked for.

    Raises:
        InputError: an option was given that the protocol does not have, or a size that is too small.
    """
    config = {**COMMON, **asked}
    kind = "tiny" if config["model"] == TINY else "pretrained"
    preset = PRESETS[config["protocol"], kind]
    for name in asked:
        if name not in COMMON and name not in preset:
            raise InputError(
                f"{_option(name)} is no option of the {config['protocol']} protocol; leave it away, or "
                "choose another --protocol"
            )
    whole = {**COMMON, **preset, **asked}
    for name, least in LEAST.items():
        if name in whole and whole[name] < least:
            raise InputError(f"{_option(name)} is {whole[name]}; it must be at least {least}")
    return whole


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def run_name(asked: dict[str, Any]) -> str:
    """The beginning of a default folder's name."""
    config = {**COMMON, **asked}
    name = config["model"].rstrip("/").split("/")[-1]
    return name if config["protocol"] == ENUMERATED else f"{name}-{config['protocol']}"
