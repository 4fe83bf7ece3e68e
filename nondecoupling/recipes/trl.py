"""What the options of TRL's GRPO and RLOO trainers are as a recipe. TRL itself is not imported.

Read from the source of TRL 1.16: the tests compare the defaults with the installed version, and the
expected gradients with those of TRL's own loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from nondecoupling.recipes.arguments import LARGEST_GROUP, real_number, scalar

Trainer = Literal["grpo", "rloo"]


class Outside(NamedTuple):
    """An option that the theory does not speak of."""

    option: str
    reason: str


COMMON_DEFAULTS: dict[str, Any] = {
    "num_iterations": 1,
    "steps_per_generation": None,
    "generation_batch_size": None,
    "gradient_accumulation_steps": 1,
    "per_device_train_batch_size": 8,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
    "use_vllm": False,
    "epsilon": 0.2,
    "epsilon_high": None,
    "reward_weights": None,
    "mask_truncated_completions": False,
    "sync_ref_model": False,
    "weight_decay": 0.0,
    "router_aux_loss_coef": None,
}
DEFAULTS: dict[Trainer, dict[str, Any]] = {
    "grpo": COMMON_DEFAULTS
    | {
        "beta": 0.0,
        "num_generations": 8,
        "scale_rewards": "group",
        "multi_objective_aggregation": "sum_then_normalize",
        "loss_type": "dapo",
        "importance_sampling_level": "token",
        "use_bias_correction_kl": True,
        "delta": None,
        "off_policy_mask_threshold": None,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
    },
    "rloo": COMMON_DEFAULTS
    | {
        "beta": 0.05,
        "num_generations": 2,
        "normalize_advantages": False,
        "reward_clip_range": None,
    },
}
"""The options that are read, with TRL's defaults."""

OF_OTHER_LIBRARIES = frozenset(
    {
        "accelerator_config",
        "activation_checkpointing_kwargs",
        "chat_template_kwargs",
        "deepspeed",
        "fsdp_config",
        "gradient_checkpointing_kwargs",
        "liger_kernel_config",
        "lr_scheduler_kwargs",
        "model_init_kwargs",
        "transformers_continuous_batching_config",
    }
)
"""Options of TRL's that take mappings, beside generation_kwargs: what is in them is not TRL's, however it is named."""


class Range(NamedTuple):
    """The values that a number can have."""

    words: str
    holds: Callable[[float], bool]


def _whole(least: int, most: int | None = None) -> Range:
    words = f"a whole number, at least {least}" + (f" and at most {most}" if most else "")
    return Range(words, lambda x: x.is_integer() and least <= x <= (most or x))


NOT_NEGATIVE = Range("a number, finite and at least 0", lambda x: 0 <= x < math.inf)
POSITIVE = Range("a number, finite and above 0", lambda x: 0 < x < math.inf)
SHARE = Range("a number from 0 to 1", lambda x: 0 <= x <= 1)
LIMIT = Range("a number, at least 0", lambda x: x >= 0)
RANGES = {
    "beta": NOT_NEGATIVE,
    "num_generations": _whole(2, LARGEST_GROUP),
    "num_iterations": _whole(1),
    "steps_per_generation": _whole(1),
    "generation_batch_size": _whole(1),
    "gradient_accumulation_steps": _whole(1),
    "per_device_train_batch_size": _whole(1),
    "temperature": POSITIVE,
    "top_p": SHARE,
    "top_k": _whole(-1),  # -1 and 0 are both off, the first for vLLM
    "min_p": SHARE,
    "repetition_penalty": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "router_aux_loss_coef": NOT_NEGATIVE,
    "epsilon": LIMIT,
    "epsilon_high": LIMIT,
    "delta": LIMIT,
    "off_policy_mask_threshold": Range("a number", lambda x: not math.isnan(x)),
    "top_entropy_quantile": SHARE,
    "entropy_coef": NOT_NEGATIVE,
}
MAY_BE_NONE = {
    "top_k",  # the default of older versions
    "top_p",  # as for generate, which is without it then
    "repetition_penalty",  # likewise
    *(name for defaults in DEFAULTS.values() for name, value in defaults.items() if value is None),
}

ADDED_TO_SD = 1e-4  # in GRPOTrainer._generate_and_score_completions

PER_RESPONSE_MEAN = (
    "averages over the tokens of each response, so that a long one counts less per token; no matter where all "
    "responses have the same length"
)
PER_BATCH_MEAN = (
    "divides by the number of tokens of the batch, so that a response's weight depends on the lengths of the "
    "others; no matter where all responses have the same length"
)
OF_LOSS_TYPE = {
    "grpo": PER_RESPONSE_MEAN,
    "sapo": f"{PER_RESPONSE_MEAN}; its soft clip acts off-policy only",
    "bnpo": PER_BATCH_MEAN,
    "dapo": PER_BATCH_MEAN,
    "cispo": PER_BATCH_MEAN,
    "vespo": f"{PER_BATCH_MEAN}; its weights act off-policy only",
    "dr_grpo": None,
    "luspo": None,
}
"""Why a loss is not the theory's, or None. dr_grpo and luspo sum over tokens and divide by a constant."""


def fields_of(config: Any, trainer: Trainer | None) -> dict[str, Any]:
    """The fields of the recipe."""
    own = _trainer_of(config)
    trainer = trainer or own
    if trainer is None:
        raise ValueError(
            f"trainer=None: a {type(config).__name__} does not say whose options these are; give trainer='grpo' or "
            "trainer='rloo'"
        )
    if trainer not in DEFAULTS:
        raise ValueError(f"trainer={trainer!r}: 'grpo' or 'rloo'")
    given = _given(config)
    if own is None:
        _refuse_other_names(given)
    _refuse_the_other_trainers(given, trainer)
    options = _Options(given, DEFAULTS[trainer])
    beta = options["beta"]
    read = _grpo if trainer == "grpo" else _rloo
    found = read(options, beta)
    others = found.pop("outside")
    both = [*_of_sampling(options), *_of_updates(options), *_of_rewards(options), *others]
    size = int(options["num_generations"])
    return {**found, "beta": beta, "group_size": size, "outside": tuple(both)}


def reward_weights(config: Any) -> list[float]:
    """The weights with which TRL adds up the rewards of several functions, or of one; none where each counts once.

    Errors: ``ValueError`` for what is no list of numbers.
    """
    return _Options(_given(config), COMMON_DEFAULTS).weights()


def _given(config: Any) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if not hasattr(config, "__dict__"):
        raise ValueError(f"config={config!r}: give a mapping, a namespace or TRL's configuration")
    return vars(config)


def _trainer_of(config: Any) -> Trainer | None:
    """None where the class does not say it."""
    names = [cls.__name__ for cls in type(config).__mro__]
    if "GRPOConfig" in names:
        return "grpo"
    return "rloo" if "RLOOConfig" in names else None


KNOWN = frozenset(name for defaults in DEFAULTS.values() for name in defaults)
CLOSE = 0.88  # as difflib counts; no field of TRL's configurations is as close to one that is read


def _refuse_other_names(options: Mapping[str, Any], under: tuple[str, ...] = ()) -> None:
    """Names of which a reader would expect that they are read.

    Misspelt ones, other libraries' for the leash, and those that stand below another name.
    """
    for name, value in options.items():
        if name in KNOWN:
            if under:
                raise ValueError(
                    f"config has {name!r} under {'.'.join(under)!r}, where options are not read; give those under "
                    f"{'.'.join(under)!r} themselves, or leave them out"
                )
            continue
        if name in OF_OTHER_LIBRARIES:
            continue
        if close := get_close_matches(str(name), KNOWN, n=1, cutoff=CLOSE):
            raise ValueError(
                f"config has {name!r}, which is no option of TRL's; did you mean {close[0]!r}?"
            )
        if "kl" in str(name).lower().split("_"):
            raise ValueError(
                f"config has {name!r}, which is no option of TRL's: it looks like another trainer's, whose options are "
                "not read; give beta, loss_type, scale_rewards and so on as TRL names them"
            )
        if isinstance(value, Mapping):
            _refuse_other_names(value, (*under, str(name)))


def _refuse_the_other_trainers(options: Mapping[str, Any], trainer: Trainer) -> None:
    other: Trainer = "rloo" if trainer == "grpo" else "grpo"
    for name in options:
        if name in DEFAULTS[other] and name not in DEFAULTS[trainer]:
            raise ValueError(
                f"config has {name!r}, which TRL's {trainer} trainer does not have and {other}'s has; give "
                f"trainer={other!r}, or leave {name} out"
            )


def _as_number(value: object) -> float:
    """nan for what is none; YAML reads 1e-3 as text."""
    if not isinstance(value, str):
        return real_number(value)
    try:
        return float(value)
    except ValueError:
        return math.nan


def _in_range(name: str, value: object) -> float | None:
    if value is None and name in MAY_BE_NONE:
        return None
    number = _as_number(value)
    if not RANGES[name].holds(number):
        raise ValueError(f"{name}={value!r}: give {RANGES[name].words}")
    return number


class _Options:
    """Options by name, with the trainer's defaults; numbers are in their range."""

    def __init__(self, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
        values = {name: given.get(name, value) for name, value in defaults.items()}
        self._values = {
            name: _in_range(name, value) if name in RANGES else value
            for name, value in values.items()
        }

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def weights(self) -> list[float]:
        """Of the rewards; none where all are 1."""
        given = self["reward_weights"]
        if given is None:
            return []
        try:
            found = [_as_number(weight) for weight in given]
        except TypeError:
            found = []
        if not found or isinstance(given, str) or not all(map(math.isfinite, found)):
            raise ValueError(
                f"reward_weights={given!r}: give a list of numbers, one for each reward function"
            )
        return [] if set(found) == {1.0} else found

    def flag(self, name: str) -> bool:
        value = scalar(self._values[name])
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: give true or false")
        return value

    def word(self, name: str, words: tuple[str, ...]) -> str:
        value = self._values[name]
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"{name}={value!r}: one of {', '.join(map(repr, words))}")
        return str(value)


def _grpo(options: _Options, beta: float) -> dict[str, Any]:
    scaling = scalar(options["scale_rewards"])
    if isinstance(scaling, bool):
        scaling = "group" if scaling else "none"
    else:
        scaling = options.word("scale_rewards", ("group", "batch", "none"))
    with_ratio = options.flag("use_bias_correction_kl")
    leash = "k3-with-ratio" if with_ratio else "k3-in-loss"
    return {
        "advantage": "group-normalised" if scaling == "group" else "group-mean",
        "leash": leash if beta else "none",
        "sd": "sample",
        "eps": ADDED_TO_SD,
        "entropy_bonus": options["entropy_coef"],
        "outside": [
            *_of_normalisation(options, scaling),
            *_of_loss(options),
            *_of_leash(options, beta, with_ratio),
            *_of_entropy(options),
        ],
    }


def _of_normalisation(options: _Options, scaling: str) -> Iterator[Outside]:
    if scaling == "batch":
        yield Outside(
            "scale_rewards",
            "'batch' divides by one standard deviation of all rewards of the batch: beta is rescaled by a number that "
            "moves during training; read as no normalisation",
        )
    aggregation = options.word(
        "multi_objective_aggregation", ("sum_then_normalize", "normalize_then_sum")
    )
    if aggregation == "normalize_then_sum":
        yield Outside(
            "multi_objective_aggregation",
            "'normalize_then_sum' normalises each reward, then the batch; read as the sum normalised",
        )


def _of_loss(options: _Options) -> Iterator[Outside]:
    loss = options.word("loss_type", tuple(OF_LOSS_TYPE))
    if reason := OF_LOSS_TYPE[loss]:
        yield Outside("loss_type", f"{loss!r} {reason}")
    high = options["epsilon" if options["epsilon_high"] is None else "epsilon_high"]
    if loss == "cispo" and high < 1:
        yield Outside(
            "epsilon_high",
            f"with loss_type 'cispo' ratios are cut to at most {high:g}, below the 1 of a fresh sample: rewards count "
            f"{high:g} times, the leash does not, as if beta were divided by {high:g}",
        )
    if options["delta"] is not None:
        yield Outside("delta", "clips the ratio of samples that the policy has moved away from")
    if options["off_policy_mask_threshold"] is not None:
        yield Outside("off_policy_mask_threshold", "leaves out responses by their log-probability")
    if options["top_entropy_quantile"] != 1:
        yield Outside("top_entropy_quantile", "rewards reach the tokens of high entropy only")


def _of_leash(options: _Options, beta: float, with_ratio: bool) -> Iterator[Outside]:
    level = options.word("importance_sampling_level", ("token", "sequence"))
    if beta:
        yield Outside(
            "beta",
            "the leash is per token: give stationary_policy the token tree (T3), or read the answer for responses of "
            "one token",
        )
    if level == "sequence":
        yield Outside(
            "importance_sampling_level",
            "'sequence' averages log ratios over the tokens of a response, which weighs responses by length"
            + ("; the leash with ratio is not the reverse KL then" if beta and with_ratio else ""),
        )


def _of_entropy(options: _Options) -> Iterator[Outside]:
    if options["entropy_coef"]:
        yield Outside(
            "entropy_coef",
            "the bonus is a mean over tokens, their prefixes held; that of the theory is the entropy of the response, "
            "the same for responses of one token",
        )
    if options.flag("use_adaptive_entropy"):
        yield Outside("use_adaptive_entropy", "moves entropy_coef during training")


def _rloo(options: _Options, beta: float) -> dict[str, Any]:
    outside = []
    if options.flag("normalize_advantages"):
        outside.append(
            Outside(
                "normalize_advantages",
                "divides advantages by their standard deviation over the batch, KL included: the whole gradient is "
                "rescaled, and the mean over prompts that is taken off is not zero within a batch",
            )
        )
    if options["reward_clip_range"] is not None:
        outside.append(
            Outside(
                "reward_clip_range", "cuts rewards: give stationary_policy the ones that are cut"
            )
        )
    leash = "k1-in-reward" if beta else "none"
    return {"advantage": "leave-one-out", "leash": leash, "outside": outside}


def _of_rewards(options: _Options) -> Iterator[Outside]:
    if weights := options.weights():
        yield Outside(
            "reward_weights",
            f"rewards are summed with the weights {weights}: give these sums, as lm.collect and the monitor take them",
        )


def _of_sampling(options: _Options) -> Iterator[Outside]:
    if options["temperature"] != 1:
        yield Outside(
            "temperature",
            "policy and reference are the laws at this temperature: the answer is for them, not for sampling at 1",
        )
    by_vllm = options.flag("use_vllm")
    plain: dict[str, tuple[Any, ...]] = {
        "top_p": (1, None),
        "top_k": (0, -1) if by_vllm else (0,),
        "min_p": (0, None),
        "repetition_penalty": (1, None),
        "generation_kwargs": (None, {}),
    }
    for name, values in plain.items():
        if options[name] not in values:
            yield Outside(name, "samples come from another law than the one that is scored")
    if by_vllm:
        yield Outside(
            "use_vllm",
            "the sampler's log-probabilities differ from the trainer's, and ratios are cut",
        )
    if options.flag("mask_truncated_completions"):
        yield Outside(
            "mask_truncated_completions", "responses cut off at the length limit have no gradient"
        )


def _of_updates(options: _Options) -> Iterator[Outside]:
    stale = "later updates are made on samples of an older policy, weighted and clipped"
    if options["num_iterations"] != 1:
        yield Outside("num_iterations", stale)
    accumulated = options["gradient_accumulation_steps"]
    if options["steps_per_generation"] is not None:
        if options["steps_per_generation"] > accumulated:
            yield Outside("steps_per_generation", stale)
    elif options["generation_batch_size"] is not None:
        in_one_update = options["per_device_train_batch_size"] * accumulated
        if options["generation_batch_size"] > in_one_update:
            yield Outside("generation_batch_size", f"unless there are enough processes, {stale}")
    if options.flag("sync_ref_model"):
        yield Outside(
            "sync_ref_model", "the reference follows the policy, and the leash does not hold"
        )
    if options["weight_decay"]:
        yield Outside("weight_decay", "pulls parameters to zero")
    if options["router_aux_loss_coef"]:
        yield Outside("router_aux_loss_coef", "adds a loss on the routing of experts")
