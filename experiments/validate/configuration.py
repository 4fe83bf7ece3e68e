"""Everything that influences the numbers of a run: one frozen value per protocol, and the defaults per kind of model.

Settings only: nothing heavy is imported, so that ``--help`` and usage errors are immediate.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple

from validate.errors import InputError

__all__ = [
    "ADVANTAGES",
    "ALTERNATE",
    "ENUMERATED",
    "FACTS",
    "FINISHES",
    "OWN_RESPONSES",
    "PRECISIONS",
    "PRESETS",
    "PROMPT_FORMATS",
    "RECIPES",
    "RECIPES_OF_TRL",
    "SAMPLED",
    "TINY",
    "TINY_MODELS",
    "WEIGHTS",
    "WHOLE",
    "Asked",
    "EnumeratedConfiguration",
    "RunConfiguration",
    "SampledConfiguration",
    "command",
    "configuration",
    "for_protocol",
    "from_json",
    "of_order",
    "option",
    "run_name",
    "said",
]

TINY = "tiny-qwen3"
# The families of nondecoupling.lm.tiny, whose import would take seconds here.
TINY_MODELS = (TINY, "tiny-llama", "tiny-gemma2", "tiny-mamba2", "tiny-falcon-h1")
ENUMERATED, SAMPLED = "enumerated", "sampled"
# The embedded task of the enumerated protocol, and the name of the rewards that a task file brings itself.
FACTS, OF_THE_FILE = "facts", "file"
# The orders that "all" stands for, those of SFT on ref's own responses, and RL and SFT by turns: both protocols have
# them, the others are of the enumerated one.
WHOLE = ("sft-rl", "rl-sft", "cycle", "joint")
OWN_RESPONSES = ("best-of-n", "weighted-sft")
ALTERNATE = "alternate"
OF_BOTH = (*WHOLE, *OWN_RESPONSES, ALTERNATE)
# The orders in which RL is held to ref.
WITH_A_LEASH = ("sft-rl", "rl-sft", "cycle", "replay", "all")
# Leashes and advantages of nondecoupling.recipes; the last leash is there to be refused with its reason.
RECIPES = ("k1-in-reward", "k2-in-loss", "k3-in-loss", "k3-with-ratio", "k3-in-reward")
ADVANTAGES = ("leave-one-out", "group-normalised")
# What of TRL trains a recipe in samples, by the names of --rl.
RECIPES_OF_TRL = {
    "k1-in-reward": "rloo",
    "k3-in-loss": "k3-in-loss",
    "k3-with-ratio": "k3-with-ratio",
}
# What the model's head is applied in.
PRECISIONS = ("float64", "float32", "bfloat16")
# How a prompt is put to the model: as a text that it continues, or as a user's turn by its chat template.
PROMPT_FORMATS = ("plain", "chat")
# Where in a cycle alternation ends, and what SFT weighs the start policy's responses by.
FINISHES, WEIGHTS = ("sft", "half-rl", "rl"), ("frontier", "exponential")
# What was asked for, by the names of the fields below and "protocol"; argparse has checked the types.
Asked = Mapping[str, Any]


class OfOrders(NamedTuple):
    """What an option is about, and the orders that train it."""

    what: str
    orders: tuple[str, ...]


# The options that some orders do not have.
OF_ORDERS = {
    **dict.fromkeys(
        ("recipe", "advantage", "group_size", "entropy_bonus"),
        OfOrders("RL with a leash", WITH_A_LEASH),
    ),
    "rl": OfOrders("RL with a leash", (*WHOLE, "all")),
    **dict.fromkeys(("cycles", "sft_share", "finish"), OfOrders("alternation", (ALTERNATE,))),
    "replay_share": OfOrders("SFT on data and replay", ("replay",)),
    "best_of": OfOrders("SFT on best of n", ("best-of-n",)),
    "weights": OfOrders("SFT on weighted responses", ("weighted-sft",)),
    "warmup_steps": OfOrders("SFT before RL", ("rl-sft", "all")),
}
# In samples what is trained beside RL has the steps and the rate of RL, and every order has these.
OF_ENUMERATED_ORDERS = OF_ORDERS | dict.fromkeys(
    ("rl_steps", "rl_rate"), OfOrders("RL", (*WHOLE, "replay", ALTERNATE, "all"))
)
# How far SFT steps : RL steps of a cycle, T6's beta, may be from what --sft-share says.
SHARE_ROUNDING = 0.05


def later(default: Any) -> Any:
    """A field that the runs of earlier versions lack: config.json has it only where it is not the default."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True, kw_only=True)
class RunConfiguration:
    """What both protocols have. ``weight`` is lambda, the weight of the SFT loss in joint training.

    ``best_of`` is the number of draws of best-of-n, ``weights`` those of weighted-sft; ``cycles``, ``sft_share`` and
    ``finish`` are about alternate.
    """

    protocol: ClassVar[str]
    model: str = TINY
    order: str = "all"
    data_law: str = "expert"
    beta: float = 0.2
    weight: float = 0.05
    seed: int = 0
    training: str
    reward: str
    sft_steps: int
    rl_steps: int
    warmup_steps: int
    sft_rate: float
    rl_rate: float
    checkpoint_every: int
    best_of: int = later(4)
    weights: str = later("frontier")
    cycles: int = later(75)
    sft_share: float = later(0.25)
    finish: str = later("half-rl")

    def cycle(self) -> tuple[int, int]:
        """RL and SFT steps of a cycle of alternation."""
        steps = self.rl_steps // self.cycles
        sft = min(max(1, round(self.sft_share * steps)), steps - 1)
        return steps - sft, sft

    @property
    def alternation_beta(self) -> float:
        """T6's beta: SFT steps : RL steps of a cycle."""
        rl, sft = self.cycle()
        return sft / rl

    @property
    def self_distilled(self) -> bool:
        """Whether the data after the first SFT are the policy's own."""
        return self.data_law == "self"

    def as_json(self) -> dict[str, str | int | float]:
        """config.json"""
        values = asdict(self)
        for one in fields(self):
            if one.metadata.get("later") and values[one.name] == one.default:
                del values[one.name]
        return {"protocol": self.protocol, **values}


@dataclass(frozen=True, kw_only=True)
class EnumeratedConfiguration(RunConfiguration):
    """Responses are listed, and all sums are exact.

    ``task`` is "facts" or a file of JSON lines; ``prompts`` are the first ones of it, 0 for all of a file. ``recipe``
    is the leash of RL, by its name in ``nondecoupling.recipes``; ``group_size`` 0 is the limit of large groups.
    ``replay_share`` is the share of RL's policy in what replay trains on. ``precision`` is what the model's head is
    applied in, by its name in torch.
    """

    protocol = ENUMERATED
    task: str = FACTS
    prompts: int
    recipe: str = later("k1-in-reward")
    advantage: str = later("leave-one-out")
    group_size: int = later(0)
    entropy_bonus: float = later(0.0)
    replay_share: float = later(0.5)
    precision: str = later("float64")


@dataclass(frozen=True, kw_only=True)
class SampledConfiguration(RunConfiguration):
    """Responses are generated freely; all verdicts are right together with probability 1 - ``delta``.

    ``prompt_format`` is how a prompt is put to the model, one of PROMPT_FORMATS. Held-out sentences are those of
    ``eval_data``, or without it of ``data``.
    """

    protocol = SAMPLED
    data: str
    rl: str
    train_prompts: int
    pilot_prompts: int
    eval_prompts: int
    responses: int
    max_tokens: int
    sft_batch: int
    rl_prompts: int
    generations: int
    delta: float
    prompt_format: str = later("plain")
    eval_data: str = later("")

    @property
    def held_out_data(self) -> str:
        """Where held-out sentences come from."""
        return self.eval_data or self.data


PROTOCOLS: dict[str, type[RunConfiguration]] = {
    kind.protocol: kind for kind in (EnumeratedConfiguration, SampledConfiguration)
}
# (protocol, kind of model) -> lengths and learning rates that reach the optima; a pretrained model costs far more
# per step.
PRESETS: dict[tuple[str, str], RunConfiguration] = {
    (ENUMERATED, "tiny"): EnumeratedConfiguration(
        training="full",
        prompts=32,
        reward="right-and-format",
        sft_steps=300,
        rl_steps=300,
        warmup_steps=60,
        sft_rate=5e-3,
        rl_rate=1e-3,
        checkpoint_every=30,
    ),
    (SAMPLED, "tiny"): SampledConfiguration(
        training="full",
        data="grammar",
        reward="strict",
        rl="rloo",
        train_prompts=6000,
        pilot_prompts=60,
        eval_prompts=400,
        responses=16,
        max_tokens=10,
        sft_steps=2000,
        rl_steps=300,
        warmup_steps=80,
        sft_batch=64,
        rl_prompts=16,
        generations=8,
        sft_rate=5e-3,
        rl_rate=1e-3,
        checkpoint_every=50,
        delta=0.05,
    ),
    (SAMPLED, "pretrained"): SampledConfiguration(
        training="lora",
        data="grammar",
        reward="strict",
        rl="rloo",
        train_prompts=1600,
        pilot_prompts=16,
        eval_prompts=64,
        responses=8,
        max_tokens=16,
        sft_steps=60,
        rl_steps=60,
        warmup_steps=20,
        sft_batch=16,
        rl_prompts=4,
        generations=8,
        sft_rate=1e-3,
        rl_rate=3e-4,
        checkpoint_every=10,
        cycles=15,
        delta=0.05,
    ),
    (ENUMERATED, "pretrained"): EnumeratedConfiguration(
        training="lora",
        prompts=8,
        reward="right-and-format",
        sft_steps=60,
        rl_steps=80,
        warmup_steps=10,
        sft_rate=1e-3,
        rl_rate=1e-4,
        checkpoint_every=10,
        cycles=20,
    ),
}
# Sizes below which a report cannot be computed, or a trainer refuses.
LEAST = {
    "eval_prompts": 5,
    "pilot_prompts": 5,
    "responses": 2,
    "generations": 2,
    "group_size": 2,
    "seed": 0,
}
TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int)}


def configuration(asked: Asked) -> RunConfiguration:
    """The preset of the model and the protocol, with what was asked for.

    Raises:
        InputError: an option was given that the protocol or the order does not have, or a size that is too small.
    """
    protocol, model = str(asked.get("protocol", ENUMERATED)), asked.get("model", TINY)
    words, asked = asked, for_protocol(asked, protocol)
    preset = PRESETS[protocol, "tiny" if model in TINY_MODELS else "pretrained"]
    given = {name: value for name, value in asked.items() if name != "protocol"}
    known = {one.name for one in fields(preset)}
    for name in given:
        if name not in known:
            raise InputError(
                f"{option(name)} is no option of the {protocol} protocol; leave it away, or "
                "choose another --protocol"
            )
    for name, least in LEAST.items():
        if name in given and float(given[name]) < least:
            raise InputError(f"{option(name)} is {given[name]}; it must be at least {least}")
    if given.get("task", FACTS) != FACTS:
        if given.get("reward", OF_THE_FILE) != OF_THE_FILE:
            raise InputError(
                f"--reward is {given['reward']!r}, but the rewards are those in the file of --task; leave it away"
            )
        given = {"prompts": 0, "reward": OF_THE_FILE, **given}
    config = replace(preset, **given)
    if protocol != ENUMERATED and config.order not in (*OF_BOTH, "all"):
        raise InputError(
            f"--order is {config.order!r}, which is no order of the {protocol} protocol; it has "
            f"{', '.join(OF_BOTH)} and all"
        )
    own = of_order(asked, config.order)
    for name in asked:
        if name not in own:
            what, orders = _of_orders(protocol)[name]
            raise InputError(
                f"{said(name, words)}, which is about {what}; --order {config.order} trains none, so "
                f"leave it away, or choose --order {' or '.join(orders)}"
            )
    if isinstance(config, EnumeratedConfiguration) and "group_size" in given:
        _check_group_size(config)
    if isinstance(config, SampledConfiguration) and config.order == "best-of-n":
        _check_best_of(config)
    if config.order == ALTERNATE:
        _check_cycles(config)
    return config


def for_protocol(asked: Asked, protocol: str) -> Asked:
    """What was asked for, with --recipe as the --rl that trains it in samples.

    Raises:
        InputError: TRL trains no such recipe, or both were given, or --rl of an enumerated run.
    """
    if protocol == ENUMERATED:
        if "rl" in asked:
            raise InputError(
                f"--rl is {asked['rl']!r}, a trainer of the sampled protocol; choose the leash of exact gradients by "
                "--recipe, or --protocol sampled"
            )
        return asked
    if "recipe" not in asked:
        return asked
    recipe = asked["recipe"]
    if "rl" in asked:
        raise InputError(
            f"--recipe is {recipe!r} and --rl {asked['rl']!r}, which say the same thing; leave one away"
        )
    if recipe not in RECIPES_OF_TRL:
        raise InputError(
            f"--recipe is {recipe!r}, which no option of TRL's trainers gives; in samples it is one of "
            f"{', '.join(RECIPES_OF_TRL)}, or choose --protocol enumerated"
        )
    return {name: value for name, value in asked.items() if name != "recipe"} | {
        "rl": RECIPES_OF_TRL[recipe]
    }


def said(name: str, words: Asked) -> str:
    """The option that set a field, in the words of the command line: --recipe for --rl in samples."""
    given = name if name in words else "recipe"
    return f"{option(given)} is {words[given]!r}"


def of_order(asked: Asked, order: str) -> Asked:
    """What was asked for, without the options that only other orders of the protocol have."""
    of_orders = _of_orders(asked.get("protocol", ENUMERATED))
    return {
        name: value
        for name, value in asked.items()
        if name not in of_orders or order in of_orders[name].orders
    }


def _of_orders(protocol: str) -> Mapping[str, OfOrders]:
    return OF_ENUMERATED_ORDERS if protocol == ENUMERATED else OF_ORDERS


def _check_group_size(config: EnumeratedConfiguration) -> None:
    if config.advantage != "group-normalised":
        raise InputError(
            f"--group-size is {config.group_size}, which --advantage {config.advantage} has no use for: its expected "
            "gradient is that of every size; leave it away, or choose --advantage group-normalised"
        )


def _check_best_of(config: SampledConfiguration) -> None:
    if config.generations % config.best_of:
        raise InputError(
            f"--best-of is {config.best_of}, which does not divide --generations {config.generations}, the draws of a "
            "prompt; change one"
        )


def _check_cycles(config: RunConfiguration) -> None:
    least_rl = 2 if config.finish == "half-rl" else 1
    least = least_rl + 1
    if config.rl_steps < least * config.cycles:
        raise InputError(
            f"--cycles is {config.cycles}, which leaves less than {least} of {config.rl_steps} steps for a cycle with "
            f"--finish {config.finish}; lower it, or raise --rl-steps"
        )
    steps = config.rl_steps // config.cycles
    sft = min(config.cycle()[1], steps - least_rl)
    share = config.sft_share
    if not math.isclose(sft / (steps - sft), share / (1 - share), rel_tol=SHARE_ROUNDING):
        raise InputError(
            f"--sft-share is {share:g}, {share * steps:.3g} of the {steps} steps of a cycle, of which RL needs at "
            f"least {least_rl} with --finish {config.finish}; the nearest is {sft / steps:.4g}, {sft} of them: give "
            "that, or other --cycles or --rl-steps"
        )


def from_json(values: object) -> RunConfiguration:
    """The configuration that ``as_json`` wrote.

    Raises:
        InputError: it is not one; the message names the field.
    """
    if not isinstance(values, dict):
        raise InputError(f"a configuration is an object, not {type(values).__name__}")
    given = dict(values)
    kind = PROTOCOLS.get(given.pop("protocol", None))
    if kind is None:
        raise InputError(f"protocol is {values.get('protocol')!r}; it is {' or '.join(PROTOCOLS)}")
    types = {one.name: str(one.type) for one in fields(kind)}
    given = {one.name: one.default for one in fields(kind) if one.metadata.get("later")} | given
    for name in sorted(types.keys() ^ given.keys()):
        raise InputError(f"{name} is {'missing' if name in types else 'no field of this protocol'}")
    for name, value in given.items():
        if not isinstance(value, TYPES[types[name]]) or isinstance(value, bool):
            raise InputError(f"{name} is {value!r}, which is no {types[name]}")
    return kind(**given)


def command(config: RunConfiguration) -> str:
    """What starts the same run again: the script, with the options that are not the preset's."""
    # What decides on other defaults.
    chosen = {"protocol": config.protocol, "model": config.model}
    usual = {"protocol": ENUMERATED, "model": TINY}
    if isinstance(config, EnumeratedConfiguration):
        chosen["task"], usual["task"] = config.task, FACTS
    preset = configuration(chosen)
    values = {one.name: getattr(config, one.name) for one in fields(config)}
    own = of_order({"protocol": config.protocol, **values}, config.order)
    given = {name: value for name, value in chosen.items() if value != usual[name]}
    given |= {name: value for name, value in own.items() if value != getattr(preset, name)}
    words = ["python", "experiments/qwen_validate.py"]
    for name, value in given.items():
        words += [option(name), str(value)]
    return shlex.join(words)


def option(name: str) -> str:
    """The option of the command line that sets a field."""
    return "--lambda" if name == "weight" else "--" + name.replace("_", "-")


def run_name(asked: Asked) -> str:
    """The beginning of a default folder's name."""
    name = str(asked.get("model", TINY)).rstrip("/").split("/")[-1]
    protocol = asked.get("protocol", ENUMERATED)
    return name if protocol == ENUMERATED else f"{name}-{protocol}"
