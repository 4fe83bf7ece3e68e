"""What the options of TRL's GRPO and RLOO trainers are as a recipe. TRL itself is not imported.

Read from the source of TRL 1.16: the tests compare the defaults with the installed version, and the
expected gradients with those of TRL's own loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

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
        "epsilon": 0.2,
        "epsilon_high": None,
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
    trainer = trainer or _trainer_of(config)
    if trainer not in DEFAULTS:
        raise ValueError(f"trainer={trainer!r}: 'grpo' or 'rloo'")
    options = _Options(config, DEFAULTS[trainer])
    beta = options.number("beta")
    read = _grpo if trainer == "grpo" else _rloo
    found = read(options, beta)
    others = found.pop("outside")
    both = [*_of_sampling(options), *_of_updates(options), *_of_rewards(options), *others]
    size = options.number("num_generations")
    if size != int(size) or size < 2:
        raise ValueError(f"num_generations={size:g}: a whole number, at least 2")
    return {**found, "beta": beta, "group_size": int(size), "outside": tuple(both)}


def reward_weights(config: Any) -> list[float]:
    """The weights with which TRL adds up the rewards of several functions, or of one; none where each counts once.

    Errors: ``ValueError`` for what is no list of numbers.
    """
    return _Options(config, COMMON_DEFAULTS).weights()


def _trainer_of(config: Any) -> Trainer:
    names = [cls.__name__ for cls in type(config).__mro__]
    if "GRPOConfig" in names:
        return "grpo"
    if "RLOOConfig" in names:
        return "rloo"
    raise ValueError(
        f"trainer=None: a {type(config).__name__} does not say whose options these are; give trainer='grpo' or "
        "trainer='rloo'"
    )


KNOWN = frozenset(name for defaults in DEFAULTS.values() for name in defaults)
CLOSE = 0.88  # as difflib counts; no field of TRL's configurations is as close to one that is read


def _refuse_other_names(config: Mapping[str, Any]) -> None:
    """Names of which a reader would expect that they are read: misspelt ones, and other trainers' for the leash."""
    for name, value in config.items():
        if name in KNOWN:
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
            _refuse_other_names(value)


class _Options:
    """Options by name, from a mapping or from attributes, with the trainer's defaults."""

    def __init__(self, config: Any, defaults: Mapping[str, Any]) -> None:
        if not isinstance(config, Mapping) and not hasattr(config, "__dict__"):
            raise ValueError(
                f"config={config!r}: give a mapping, a namespace or TRL's configuration"
            )
        given = config if isinstance(config, Mapping) else vars(config)
        if isinstance(config, Mapping):
            _refuse_other_names(config)
        self._values = {name: given.get(name, value) for name, value in defaults.items()}
        self._defaults = defaults

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def differs(self, name: str) -> bool:
        return bool(self._values[name] != self._defaults[name])

    def number(self, name: str) -> float:
        """A number; YAML reads 1e-3 as text."""
        value = self._values[name]
        try:
            if isinstance(value, bool):
                raise TypeError
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"{name}={value!r}: give a number") from None

    def weights(self) -> list[float]:
        """Of the rewards; none where all are 1."""
        given = self._values["reward_weights"]
        if given is None:
            return []
        try:
            found = [float(weight) for weight in given]
        except (TypeError, ValueError):
            found = []
        if not found or isinstance(given, str) or not all(map(math.isfinite, found)):
            raise ValueError(
                f"reward_weights={given!r}: give a list of numbers, one for each reward function"
            )
        return [] if set(found) == {1.0} else found

    def flag(self, name: str) -> bool:
        value = self._values[name]
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r}: give true or false")
        return value

    def word(self, name: str, words: tuple[str, ...]) -> str:
        value = self._values[name]
        if value not in words:
            raise ValueError(f"{name}={value!r}: one of {', '.join(map(repr, words))}")
        return str(value)


def _grpo(options: _Options, beta: float) -> dict[str, Any]:
    scaling = options["scale_rewards"]
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
        "entropy_bonus": options.number("entropy_coef"),
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
    high = options.number("epsilon" if options["epsilon_high"] is None else "epsilon_high")
    if loss == "cispo" and high < 1:
        yield Outside(
            "epsilon_high",
            f"with loss_type 'cispo' ratios are cut to at most {high:g}, below the 1 of a fresh sample: rewards count "
            f"{high:g} times, the leash does not, as if beta were {1 / high:g} times as large",
        )
    if options["delta"] is not None:
        yield Outside("delta", "clips the ratio of samples that the policy has moved away from")
    if options["off_policy_mask_threshold"] is not None:
        yield Outside("off_policy_mask_threshold", "leaves out responses by their log-probability")
    if options.number("top_entropy_quantile") != 1:
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
    if options.number("entropy_coef"):
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
    if options.number("temperature") != 1:
        yield Outside(
            "temperature",
            "policy and reference are the laws at this temperature: the answer is for them, not for sampling at 1",
        )
    for name in ("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs"):
        if options.differs(name) and not (name == "min_p" and options[name] == 0):
            yield Outside(name, "samples come from another law than the one that is scored")
    if options.flag("use_vllm"):
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
    if options.number("num_iterations") != 1:
        yield Outside("num_iterations", stale)
    accumulated = options.number("gradient_accumulation_steps")
    if options["steps_per_generation"] is not None:
        if options.number("steps_per_generation") > accumulated:
            yield Outside("steps_per_generation", stale)
    elif options["generation_batch_size"] is not None:
        in_one_update = options.number("per_device_train_batch_size") * accumulated
        if options.number("generation_batch_size") > in_one_update:
            yield Outside("generation_batch_size", f"unless there are enough processes, {stale}")
    if options.flag("sync_ref_model"):
        yield Outside(
            "sync_ref_model", "the reference follows the policy, and the leash does not hold"
        )
    if options.number("weight_decay"):
        yield Outside("weight_decay", "pulls parameters to zero")
    if options["router_aux_loss_coef"] is not None and options.number("router_aux_loss_coef"):
        yield Outside("router_aux_loss_coef", "adds a loss on the routing of experts")
