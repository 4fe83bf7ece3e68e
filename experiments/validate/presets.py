"""Names of the models and the defaults of a run: settings only, nothing heavy is imported."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "SMOLLM2", "TINY", "make_config"]

TINY = "tiny-qwen3"
SMOLLM2 = "smollm2-135m"
# Learning rates and lengths that reach SFT optimality; a pretrained model costs far more per step.
PRESETS = {
    "tiny": {
        "prompts": 32,
        "sft_steps": 300,
        "rl_steps": 300,
        "warmup_steps": 60,
        "sft_rate": 5e-3,
        "rl_rate": 1e-3,
        "checkpoint_every": 30,
    },
    "pretrained": {
        "prompts": 8,
        "sft_steps": 60,
        "rl_steps": 80,
        "warmup_steps": 10,
        "sft_rate": 1e-3,
        "rl_rate": 1e-4,
        "checkpoint_every": 10,
    },
}


def make_config(asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that influences the numbers of a run: the preset of the model, then what was asked for."""
    model = asked.get("model", TINY)
    preset = PRESETS["tiny" if model == TINY else "pretrained"]
    return {"model": model, "order": "all", "beta": 0.2, "seed": 0, **preset, **asked}
