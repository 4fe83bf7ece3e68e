"""What is compared: recipes of RL and schedules of SFT and RL, each as options of ``qwen_validate.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from validate.configuration import EnumeratedConfiguration

from nondecoupling.bounds.schedules import After

__all__ = ["Method", "Natural", "left_out", "methods_for", "shares_of_cycles", "steps_of_cycles"]

Values = NDArray[np.floating[Any]]

# Steps of a cycle of alternation, fine to coarse.
CYCLES = (4, 8, 20, 60)


# Shares of SFT in alternation by natural gradient, and RL time over share: that of the forward leash at beta 0.3.
SHARES, NATURAL_RATE = (0.9, 0.5, 0.2), 1 / 0.3
# A beta at which the KL leash hardly holds: the SFT loss of joint training takes its place.
ALMOST_NOTHING = 1e-3
# Prompts times responses up to which a Jacobian of all of them is cheap.
SMALL = 64


@dataclass(frozen=True)
class Natural:
    """Alternation by natural gradient: the time of RL and the share of SFT in a cycle, and where it ends (T6)."""

    rl_time: float
    share: float
    after: After


@dataclass(frozen=True)
class Method:
    """A name, and the options that make it; by natural gradient none does."""

    name: str
    options: Mapping[str, Any]
    natural: Natural | None = None


def methods_for(config: EnumeratedConfiguration, reward: Values, log_d: Values) -> list[Method]:
    """All methods that can be trained on this task; reward and data law, [prompts, responses], `other` the last one."""
    without = left_out(reward, log_d)
    found = [*_recipes(), *_schedules(config), *_normalised(), *_natural()]
    return [method for method in found if method.name not in without]


def left_out(reward: Values, log_d: Values) -> dict[str, str]:
    """Names of the other methods, and why this task has no use for them."""
    levels = max(len(np.unique(row)) for row in reward)
    missing = int((~np.isfinite(log_d[:, :-1])).any(axis=1).sum())
    why: dict[str, str] = {}
    if levels > 2:
        because = f"a prompt has {levels} rewards, and T4 says where it ends for two at most"
        why |= {method.name: because for method in _normalised()}
    if missing:
        because = (
            f"a listed response has probability 0 in the law of {missing} of {len(log_d)} prompts, and T6 assumes that "
            "none has"
        )
        why |= {method.name: because for method in _natural()}
    elif reward.size > SMALL:
        because = f"prompts times responses are {reward.size}, over {SMALL}: a Jacobian of all is too large"
        why |= {method.name: because for method in _natural()}
    return why


def _rl(leash: str, beta: float, **more: Any) -> Method:
    words = "".join(f"{name.replace('_', ' ')} {value}, " for name, value in more.items())
    options = {"order": "sft-rl", "recipe": leash, "beta": beta, **more}
    return Method(f"RL {leash}, {words}beta {beta:g}", options)


def _recipes() -> Iterator[Method]:
    yield _rl("k1-in-reward", 0.2)
    yield _rl("k1-in-reward", 0.4)
    yield _rl("k2-in-loss", 0.4)
    yield _rl("k3-with-ratio", 0.4)
    yield _rl("k3-in-loss", 0.3)
    yield _rl("k3-in-loss", 0.6)
    yield _rl("k1-in-reward", 0.4, entropy_bonus=0.1)
    yield _rl("k3-in-reward", 0.2)


def _normalised() -> Iterator[Method]:
    for leash in ("k3-with-ratio", "k3-in-loss"):
        yield _rl(leash, 0.8, advantage="group-normalised", group_size=8)


def _schedules(config: EnumeratedConfiguration) -> Iterator[Method]:
    for name, steps in steps_of_cycles().items():
        cycles = config.rl_steps // steps
        if cycles and config.rl_steps // cycles == steps:
            yield Method(name, {"order": "alternate", "sft_share": 0.25, "cycles": cycles})
    yield _joint(0.2, 0.05)
    yield _joint(ALMOST_NOTHING, 0.3)
    options = {"order": "replay", "beta": 0.2, "replay_share": 0.5}
    yield Method("replay, half of RL at beta 0.2", options)
    yield Method("SFT on best of 4", {"order": "best-of-n", "best_of": 4})
    options = {"order": "weighted-sft", "weights": "frontier", "beta": 0.3}
    yield Method("SFT, frontier weights, beta 0.3", options)
    options = {"order": "weighted-sft", "weights": "exponential", "beta": 0.4}
    yield Method("SFT, exponential weights, beta 0.4", options)


def steps_of_cycles() -> dict[str, int]:
    """Of the methods that alternate by AdamW, by their names."""
    return {f"alternation, cycles of {steps} steps": steps for steps in CYCLES}


def _joint(beta: float, weight: float) -> Method:
    options = {"order": "joint", "beta": beta, "weight": weight}
    return Method(f"joint training, lambda {weight:g}, beta {beta:g}", options)


def _natural() -> Iterator[Method]:
    endings: tuple[After, ...] = ("sft", "half-rl", "rl")
    for share in SHARES:
        for after in endings:
            natural = Natural(NATURAL_RATE * share, share, after)
            yield Method(_natural_name(share, after), {}, natural)


def shares_of_cycles(after: After) -> dict[str, float]:
    """SFT's shares of the methods that alternate by natural gradient and end there, by their names."""
    return {_natural_name(share, after): share for share in SHARES}


def _natural_name(share: float, after: After) -> str:
    return f"natural alternation, share {share:g}, after {after}"
