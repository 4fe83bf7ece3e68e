"""Random calls of every public function: a number, infinity where the docs say so, or an error by name."""

from __future__ import annotations

import math
import warnings
from typing import get_args

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.formulas.trees import TokenTree
from nondecoupling.recipes import Advantage, Leash, Recipe
from tests.public_functions import PUBLIC

NONNEGATIVE = {
    "kl_divergence", "cross_entropy", "entropy", "coupling_gap", "price_of_reward", "price_of_policy",
    "price_of_average_reward", "decoupling_threshold", "optimal_rl_duration", "samples_to_detect",
    "regularized_reward_drop", "cycle_loss", "pl_sft_bound", "pl_reward_bound",
    "logit_sandwich", "spectral_misalignment_bound", "shared_prompt_loss_increase",
    "token_kl_divergence", "joint_gap", "joint_saving_bounds", "frontier_rate", "overpayment",
    "verifiable_cost", "replay_bound", "best_of_n_bounds", "frontier_weights", "critical_beta",
}  # fmt: skip
SHARES = {
    "share", "success", "ref_success", "target", "sft_share", "false_positives", "false_negatives", "power",
}  # fmt: skip
WORDS = {
    "sd": ["population", "sample"],
    "after": ["sft", "rl", "half-rl"],
    "leash": ["reverse", "forward"],
}
# KL and joint_gap are sums of terms >= 0; the others are rounded where they vanish.
SLACK = 1e-12


def random_law(rng, shape, dtype):
    """Log-probabilities over up to 2000 nats, with zero mass, ties and near-deterministic rows."""
    spread = rng.choice([0.0, 1.0, 30.0, 300.0, 2000.0])
    logits = spread * rng.uniform(-1, 0, shape)
    if rng.random() < 0.3:
        logits = np.where(rng.random(shape) < 0.4, -np.inf, logits)
        logits[..., rng.integers(shape[-1])] = 0.0
    top = logits.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        law = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
    return law.astype(dtype)


def random_reals(rng, shape, dtype):
    offset = rng.choice([0.0, 0.0, 1e3, -1e6 if dtype == np.float32 else 1e9])
    scale = 10.0 ** rng.uniform(-9, 9)
    values = rng.standard_normal(shape) * scale
    if rng.random() < 0.3:
        values = np.round(values / scale)
    if rng.random() < 0.1:
        values = np.zeros(shape)
    return (offset + values).astype(dtype)


def random_recipe(rng):
    """Any trainer, of which a third have no leash or no noise."""
    leash = str(rng.choice(get_args(Leash)))
    beta = 0.0 if leash == "none" else float(10.0 ** rng.uniform(-4, 4))
    noise = rng.choice([0.0, 0.3, rng.uniform(0, 0.5)], size=2)
    return Recipe(
        str(rng.choice(get_args(Advantage))),
        leash,
        beta,
        [None, 2, 3, 16, 1000][rng.integers(5)],
        str(rng.choice(WORDS["sd"])),
        float(rng.choice([0.0, 1e-4, 1.0])),
        float(rng.choice([0.0, 0.1, 10.0])),
        *map(float, noise),
    )


def random_call(rng):
    """A public function, and arguments that have the right names, kinds and shapes."""
    name = str(rng.choice(PUBLIC))
    function = getattr(bounds, name)
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    n, batch = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    dtype = np.float64 if rng.random() < 0.7 else np.float32
    given = {}
    for argument in names:
        per_prompt = name in ("decoupled", "shared_prompt_loss_increase")
        shape = (2, batch, n) if per_prompt and argument in ("log_d", "reward") else (batch, n)
        if per_prompt and argument in ("log_sft", "log_rl"):
            shape = (2, batch)
        if argument == "kernel":
            root = random_reals(rng, (batch, n, n), dtype)
            given[argument] = root @ np.swapaxes(root, -1, -2)
        elif argument.startswith("log_"):
            given[argument] = random_law(rng, shape, dtype)
        elif argument in ("reward", "gold", "direction", "theta", "theta_prime", "u", "v"):
            given[argument] = random_reals(rng, shape, dtype)
        elif argument == "tree":
            given[argument] = TokenTree.balanced(n)
        elif argument == "recipe":
            given[argument] = random_recipe(rng)
        elif argument == "k":
            given[argument] = int(rng.integers(0, n + 1))
        elif argument in WORDS:
            given[argument] = str(rng.choice(WORDS[argument]))
            if argument == "leash" and name == "per_token_optimum":
                given[argument] = str(rng.choice(["k2", "k3"]))
        elif argument in ("n", "group_size"):
            given[argument] = int(10.0 ** rng.uniform(0, 4))
        elif argument in SHARES:
            tiny = 10.0 ** rng.uniform(-15, 0)
            given[argument] = float(rng.choice([rng.uniform(), tiny, 1 - tiny, 0.0, 1.0]))
        elif argument == "target" and "reward" in given:
            r = given["reward"].astype(float)
            share = float(rng.choice([rng.uniform(), 10.0 ** rng.uniform(-12, 0)]))
            given[argument] = float(r.min() + share * (r.max() - r.min()))
        else:
            given[argument] = float(10.0 ** rng.uniform(-9, 9))
    if rng.random() < 0.3:
        given = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}
    return name, function, given


def problem(name, results):
    if name == "stationary_policy":  # NaN where it says that there is none
        law, there, why = results
        assert bool(why) != bool(np.asarray(there).all())
        results = np.asarray(law, dtype=float)[np.asarray(there)]
    for result in results if isinstance(results, tuple) else (results,):
        values = np.asarray(result, dtype=float)
        if np.isnan(values).any():
            return "NaN"
        if name in NONNEGATIVE and (values < -SLACK * np.maximum(1, np.abs(values))).any():
            return f"{values.min()} < 0"
    return ""


def run(calls, seed):
    """What came out of some calls: how many gave numbers, and every problem."""
    rng = np.random.default_rng(seed)
    answered, problems = 0, []
    for _ in range(calls):
        name, function, given = random_call(rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                results = function(**given)
        except ValueError as error:
            if not any(argument in str(error) for argument in given):
                problems.append((name, given, f"an error that names no argument: {error}"))
            continue
        except Exception as error:
            problems.append((name, given, repr(error)))
            continue
        answered += 1
        if found := problem(name, results):
            problems.append((name, given, found))
    return answered, problems


@pytest.mark.parametrize("calls", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_drawn_calls(calls):
    answered, problems = run(calls, seed=0)
    assert not problems, f"{len(problems)}, the first: {problems[0]}"
    assert answered > 0.6 * calls


@pytest.mark.slow  # some minutes
def test_twenty_thousand_calls():
    answered, problems = run(20_000, seed=1)
    assert not problems, f"{len(problems)}, the first: {problems[0]}"
    assert answered > 12_000


def test_the_fuzz_sees_a_nan_and_a_sign():
    assert problem("kl_divergence", np.array([math.nan])) == "NaN"
    assert problem("kl_divergence", (np.array(1.0), np.array(-1.0))) == "-1.0 < 0"
    assert problem("expected_reward", np.array(-1.0)) == ""
