"""What each choice of ``--rl`` sets in TRL's configuration, on top of what a run sets for every trainer."""

from __future__ import annotations

from typing import Any

__all__ = ["TRL_OPTIONS"]

_NOTHING_ELSE = {
    "mask_truncated_completions": False,
    "num_iterations": 1,
    "temperature": 1.0,
    "disable_dropout": True,
}
_PLAIN_GRPO = {**_NOTHING_ELSE, "loss_type": "dr_grpo", "scale_rewards": "none"}
TRL_OPTIONS: dict[str, dict[str, Any]] = {
    "rloo": {**_NOTHING_ELSE, "normalize_advantages": False},
    "grpo": {},
    "k3-in-loss": {**_PLAIN_GRPO, "use_bias_correction_kl": False},
    "k3-with-ratio": {**_PLAIN_GRPO, "use_bias_correction_kl": True},
}
