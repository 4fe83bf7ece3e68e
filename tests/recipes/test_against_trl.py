"""Recipes against TRL: its own loss, averaged over every group, and trained to the end.

A response is one token out of five, so that means over tokens and over responses are the same; the
last test has responses of two tokens, where the leash is per token.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nondecoupling import bounds
from nondecoupling.recipes import Recipe
from tests.recipes.tabular_trl import TabularTrainer

LEVELS, BINARY = np.array([0.3, 1.0, 0.0, 0.6, -0.4]), np.array([0.0, 1.0, 0.0, 1.0, 0.0])
AWAY = np.log([0.3, 0.1, 0.15, 0.25, 0.2])
SIZE = 3
UNSCALED, WITHOUT_RATIO = {"scale_rewards": False}, {"use_bias_correction_kl": False}
VARIANTS = {
    "rloo": (True, {"beta": 0.3}),
    "rloo without a leash": (True, {"beta": 0.0}),
    "grpo, ratio, sd": (False, {"beta": 0.9}),
    "grpo, ratio": (False, {"beta": 0.3} | UNSCALED),
    "grpo, sd": (False, {"beta": 0.9} | WITHOUT_RATIO),
    "grpo": (False, {"beta": 0.3} | UNSCALED | WITHOUT_RATIO),
    "grpo without a leash": (False, {}),
    "grpo, entropy bonus": (False, {"beta": 0.3, "entropy_coef": 0.2} | UNSCALED),
    "cispo": (False, {"beta": 0.3, "loss_type": "cispo", "epsilon_high": 5.0} | UNSCALED),
    **{
        f"grpo as {loss}": (False, {"beta": 0.3, "loss_type": loss} | UNSCALED)
        for loss in ("grpo", "bnpo", "dr_grpo", "luspo", "sapo", "vespo")
    },
}
FAST = {"rloo", "grpo, ratio, sd", "grpo"}
EACH = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)  # seconds each
    for name in VARIANTS
]


def reward_for(recipe):
    return BINARY if recipe.advantage == "group-normalised" else LEVELS


def built(name, place, size=SIZE):
    rloo, options = VARIANTS[name]
    trainer = TabularTrainer({"num_generations": size, **options}, place, rloo=rloo)
    recipe = Recipe.from_trl(trainer.config)
    trainer.reward = reward_for(recipe)
    return trainer, recipe


def cosine_and_length(found, predicted):
    return float(found @ predicted / found.norm() / predicted.norm()), float(
        found.norm() / predicted.norm()
    )


def predicted_gradient(trainer, recipe):
    """The recipe's, in all parameters of the model: the Jacobian of log p, transposed, times that in the logits."""
    log_p = trainer.log_probs()
    in_logits = bounds.expected_gradient(
        log_p.detach().numpy(), trainer.log_ref, trainer.reward, recipe
    )
    return trainer.gradient_of(log_p @ torch.tensor(in_logits))


@pytest.mark.parametrize("name", EACH)
def test_the_expected_gradient_is_that_of_trls_loss(name, tmp_path):
    trainer, recipe = built(name, tmp_path)
    trainer.set_law(AWAY)
    cosine, length = cosine_and_length(
        trainer.expected_gradient(), predicted_gradient(trainer, recipe)
    )
    assert cosine == pytest.approx(1, abs=1e-9)
    assert length == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"beta": 0.31},
        {"leash": "k3-with-ratio"},
        {"leash": "k1-in-reward"},
        {"advantage": "leave-one-out"},
        {"group_size": 4},
    ],
    ids=str,
)
def test_another_recipe_would_be_seen(change, grpo_gradient):
    trainer, recipe, found = grpo_gradient
    other = replace(recipe, **change)
    cosine, length = cosine_and_length(found, predicted_gradient(trainer, other))
    assert cosine < 1 - 1e-5 or abs(length - 1) > 1e-3


@pytest.fixture(scope="module")
def grpo_gradient(tmp_path_factory):
    trainer, recipe = built("grpo", tmp_path_factory.mktemp("grpo"))
    trainer.set_law(AWAY)
    return trainer, recipe, trainer.expected_gradient()


@pytest.mark.parametrize(
    "change", [{"sd": "population"}, pytest.param({"eps": 0.0}, marks=pytest.mark.slow)], ids=str
)
def test_another_standard_deviation_would_be_seen(change, tmp_path):
    trainer, recipe = built("grpo, ratio, sd", tmp_path)
    trainer.set_law(AWAY)
    found = trainer.expected_gradient()
    cosine, length = cosine_and_length(
        found, predicted_gradient(trainer, replace(recipe, **change))
    )
    assert abs(length - 1) > 1e-5 or cosine < 1 - 1e-9


def trained(trainer, recipe, steps=60):
    """From the reference by TRL's expected gradient, preconditioned by p: to where it no longer moves."""
    log_p = trainer.log_ref
    trainer.set_law(log_p)
    share = (
        0.9 if recipe.holds == "reverse" else 0.4
    )  # of Newton's step, for which beta is the slope
    for _ in range(steps):
        moved = trainer.logit_gradient() / np.exp(log_p)
        log_p = log_p + share / (recipe.beta + recipe.entropy_bonus) * moved
        log_p = log_p - np.logaddexp.reduce(log_p)
        trainer.set_law(log_p)
        if np.abs(moved).max() < 1e-6:
            break
    return log_p


HELD = [name for name in VARIANTS if "without a leash" not in name and " as " not in name]


@pytest.mark.slow  # trains to the end
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "rloo" else pytest.mark.slow) for n in HELD]
)  # up to half a minute each
def test_training_to_the_end_lands_on_the_stationary_policy(name, tmp_path):
    trainer, recipe = built(name, tmp_path, size=2 if name == "rloo" else SIZE)
    found = bounds.stationary_policy(trainer.log_ref, trainer.reward, recipe)
    assert found.stationary
    assert np.abs(found.log_p - trainer.log_ref).max() > 0.1
    np.testing.assert_allclose(trained(trainer, recipe), found.log_p, atol=1e-5)


@pytest.mark.slow  # some seconds each: 231 pairs of the 21 responses of two tokens
@pytest.mark.parametrize("loss", ["dr_grpo", "luspo"])
@pytest.mark.parametrize("with_ratio", [True, False])
def test_a_leash_per_token_is_at_rest_where_the_token_tree_says(loss, with_ratio, tmp_path):
    options = {"beta": 0.3, "loss_type": loss, "use_bias_correction_kl": with_ratio}
    trainer = TabularTrainer({"num_generations": 2, **UNSCALED, **options}, tmp_path, length=2)
    trainer.reward = np.random.default_rng(0).normal(size=len(trainer.responses))
    recipe = Recipe.from_trl(trainer.config)
    assert [option for option, _ in recipe.outside] == ["beta"]
    at_start = trainer.expected_gradient().norm()
    found = bounds.stationary_policy(trainer.log_ref, trainer.reward, recipe, trainer.tree)
    trainer.set_law(found.log_p)
    np.testing.assert_allclose(trainer.log_probs().detach().numpy(), found.log_p, atol=1e-9)
    assert trainer.expected_gradient().norm() < 1e-6 * at_start
    without_tree = bounds.stationary_policy(trainer.log_ref, trainer.reward, recipe)
    trainer.set_law(without_tree.log_p)
    assert trainer.expected_gradient().norm() > 1e-2 * at_start
