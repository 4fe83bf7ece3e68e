"""``Recipe`` as a value, and what it reads from TRL's options."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nondecoupling.recipes import Recipe
from nondecoupling.recipes.trl import (
    ADDED_TO_SD,
    DEFAULTS,
    KNOWN,
    OF_LOSS_TYPE,
    OF_OTHER_LIBRARIES,
    RANGES,
)


def outside(options, trainer="grpo"):
    return {option for option, _ in Recipe.from_trl(options, trainer).outside}


def refusal(options, trainer):
    try:
        Recipe.from_trl(options, trainer)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(advantage="mean"), r"advantage='mean': one of 'leave-one-out', 'group-mean'"),
        (dict(leash="k4"), r"leash='k4': one of 'none', 'k1-in-reward'"),
        (dict(sd="both"), r"sd='both': one of 'population', 'sample'"),
        (dict(beta=-1.0), r"beta=-1\.0: must be a finite number, at least 0"),
        (dict(beta=float("nan")), r"beta=nan: must be a finite number"),
        (dict(beta="1"), r"beta='1': must be a finite number"),
        (dict(eps=float("inf")), r"eps=inf: must be a finite number"),
        (dict(group_size=1), r"group_size=1: a whole number, at least 2 and at most 1000000, or None"),
        (dict(group_size=10**9), r"group_size=1000000000: a whole number, at least 2 and at most 1000000, or None"),
        (dict(group_size=np.float64(8)), r"group_size=(np\.float64\()?8\.0\)?: a whole number"),
        (dict(group_size=np.array([8])), r"group_size=array\(\[8\]\): a whole number"),
        (dict(group_size=True), r"group_size=True: a whole number"),
        (dict(beta=10**400), r"beta=10+: must be a finite number"),
        (dict(beta=np.True_), r"beta=(np\.True_|True): must be a finite number"),
        (dict(beta=np.array([0.1])), r"beta=array\(\[0\.1\]\): must be a finite number"),
        (dict(beta=np.ma.masked), r"beta=masked: must be a finite number"),
        (dict(eps=1j), r"eps=1j: must be a finite number"),
        (dict(group_size=2.5), r"group_size=2\.5: a whole number"),
        (dict(leash="none"), r"beta=0\.1: with leash='none' give beta=0"),
        (dict(false_positives=0.6, false_negatives=0.4), r"false_positives=0\.6: with false_negatives=0\.4"),
    ],
)  # fmt: skip
def test_errors_name_the_field_the_value_and_the_remedy(fields, message):
    sound = dict(advantage="group-mean", leash="k3-in-loss", beta=0.1, group_size=8)
    Recipe(**sound)
    with pytest.raises(ValueError, match=message):
        Recipe(**sound | fields)


def test_a_recipe_is_a_value():
    recipe = Recipe("group-mean", "k3-in-loss", 0.1, 8)
    assert recipe == Recipe("group-mean", "k3-in-loss", 0.1, 8) and len({recipe, recipe}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.beta = 1.0
    assert recipe.holds == "forward" and recipe.scale == 7 / 8 and recipe.told == 1
    assert dataclasses.replace(recipe, beta=0.0).holds == "nothing"


@pytest.mark.parametrize("of", [np.float32, np.array, Fraction, np.longdouble])
def test_numbers_of_any_kind_become_python_s(of):
    numbers = ("beta", "eps", "entropy_bonus", "false_positives", "false_negatives")
    recipe = Recipe("group-mean", "k3-in-loss", **dict.fromkeys(numbers, of(0.25)))
    assert recipe == Recipe("group-mean", "k3-in-loss", **dict.fromkeys(numbers, 0.25))
    assert {type(getattr(recipe, name)) for name in numbers} == {float}


@pytest.mark.parametrize("of", [np.int64, np.uint8, np.array])
def test_counts_of_any_kind_become_python_s(of):
    recipe = Recipe("group-mean", "k3-in-loss", of(1), group_size=of(8))
    assert recipe == Recipe("group-mean", "k3-in-loss", 1.0, group_size=8)
    assert type(recipe.group_size) is int and type(recipe.beta) is float
    assert Recipe.from_trl({"num_generations": of(8), "beta": of(1)}, "grpo").group_size == 8


def test_tensors_become_python_s_numbers():
    torch = pytest.importorskip("torch")
    beta = torch.tensor(0.25, dtype=torch.bfloat16, requires_grad=True)
    recipe = Recipe("group-mean", "k3-in-loss", beta, group_size=torch.tensor(8))
    assert recipe == Recipe("group-mean", "k3-in-loss", 0.25, group_size=8)
    assert type(recipe.beta) is float and type(recipe.group_size) is int
    with pytest.raises(ValueError, match=r"beta=tensor\(True\): must be a finite number"):
        Recipe("group-mean", "k3-in-loss", torch.tensor(True))


# --- TRL's options ----------------------------------------------------------------------------


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_defaults_are_those_of_the_installed_version(trainer):
    trl = pytest.importorskip("trl")
    config = {"grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig}[trainer]
    theirs = {field.name: field.default for field in dataclasses.fields(config)}
    assert DEFAULTS[trainer] == {name: theirs[name] for name in DEFAULTS[trainer]}


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_the_page_of_options_names_the_defaults(trainer):
    """Options with a default in brackets, in the table of the trainer."""
    text = (Path(__file__).parents[2] / "docs/trainer_options.md").read_text()
    _, _, table = text.partition(f"option of `{trainer.upper()}Config` (default)")
    said = dict(re.findall(r"`(\w+)` \(`?([^)`]+)`?\)", table.partition("\n\n")[0]))
    assert {"beta", "num_generations"} <= set(said)
    defaults = {name: json.dumps(value) for name, value in DEFAULTS[trainer].items()}
    assert said == {name: defaults[name] for name in said}


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_a_config_a_mapping_and_a_namespace_say_the_same(trainer, tmp_path):
    trl = pytest.importorskip("trl")
    given = {"beta": 0.1, "num_generations": 4, "num_iterations": 2, "temperature": 0.7}
    config = {"grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig}[trainer]
    built = config(output_dir=str(tmp_path), use_cpu=True, bf16=False, **given)
    recipe = Recipe.from_trl(built)
    assert (
        recipe
        == Recipe.from_trl(given, trainer)
        == Recipe.from_trl(SimpleNamespace(**given), trainer)
    )
    assert recipe.group_size == 4 and {"num_iterations", "temperature"} <= {
        o for o, _ in recipe.outside
    }


def test_grpo_as_trl_ships_it_has_no_leash():
    recipe = Recipe.from_trl({}, "grpo")
    assert recipe.leash == "none" and recipe.beta == 0
    assert recipe.advantage == "group-normalised"
    assert (recipe.group_size, recipe.sd, recipe.eps) == (8, "sample", ADDED_TO_SD)
    assert outside({}) == {"loss_type"}


@pytest.mark.parametrize(
    ("options", "leash", "advantage"),
    [
        ({}, "k3-with-ratio", "group-normalised"),
        ({"use_bias_correction_kl": False}, "k3-in-loss", "group-normalised"),
        ({"scale_rewards": False}, "k3-with-ratio", "group-mean"),
        ({"scale_rewards": "none"}, "k3-with-ratio", "group-mean"),
        ({"scale_rewards": True}, "k3-with-ratio", "group-normalised"),
        ({"scale_rewards": "batch"}, "k3-with-ratio", "group-mean"),
    ],
)
def test_leash_and_advantage_of_grpo(options, leash, advantage):
    recipe = Recipe.from_trl({"beta": 0.04, **options}, "grpo")
    assert (recipe.leash, recipe.advantage) == (leash, advantage)


def test_rloo_is_inside_the_theory():
    recipe = Recipe.from_trl({}, "rloo")
    assert (recipe.advantage, recipe.leash, recipe.beta) == ("leave-one-out", "k1-in-reward", 0.05)
    assert recipe.outside == ()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("scale_rewards", "batch"),
        ("multi_objective_aggregation", "normalize_then_sum"),
        *[("loss_type", loss) for loss, reason in OF_LOSS_TYPE.items() if reason],
        ("importance_sampling_level", "sequence"),
        ("num_iterations", 2),
        ("steps_per_generation", 4),
        ("generation_batch_size", 64),
        ("delta", 4.0),
        ("off_policy_mask_threshold", 0.5),
        ("top_entropy_quantile", 0.2),
        ("entropy_coef", 0.01),
        ("use_adaptive_entropy", True),
        ("mask_truncated_completions", True),
        ("sync_ref_model", True),
        ("use_vllm", True),
        ("temperature", 0.9),
        ("top_p", 0.95),
        ("top_k", 50),
        ("min_p", 0.1),
        ("repetition_penalty", 1.1),
        ("generation_kwargs", {"num_beams": 2}),
        ("weight_decay", 0.01),
        ("router_aux_loss_coef", 0.001),
    ],
)
def test_what_is_outside_is_listed(option, value):
    plain = {"loss_type": "dr_grpo"}
    assert outside(plain) == set()
    assert option in outside({**plain, option: value})


@pytest.mark.parametrize(
    "off",
    [
        {"top_p": None},
        {"repetition_penalty": None},
        {"min_p": 0},
        {"generation_kwargs": {}},
        {"use_vllm": True, "top_k": -1},
    ],
)
def test_sampling_options_that_are_off_leave_the_law_alone(off):
    plain = {"loss_type": "dr_grpo"}
    assert outside({**plain, **off}) <= {"use_vllm"}
    assert "top_k" in outside({**plain, "top_k": -1})  # which generate refuses


def test_what_is_outside_in_rloo_is_listed():
    assert outside({"normalize_advantages": True, "reward_clip_range": (0, 1)}, "rloo") == {
        "normalize_advantages",
        "reward_clip_range",
    }


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_weights_of_rewards_are_outside_unless_they_are_ones(trainer):
    plain = outside({}, trainer)
    assert outside({"reward_weights": [1.0, 1]}, trainer) == plain
    for weights in ([3.0], [1.0, 0.5], ["5e-1"]):
        assert outside({"reward_weights": weights}, trainer) == plain | {"reward_weights"}
    (reason,) = dict(Recipe.from_trl({"reward_weights": [2, 1]}, "rloo").outside).values()
    assert reason.startswith("rewards are summed with the weights [2.0, 1.0]: give these sums")


@pytest.mark.parametrize("weights", [[], "12", 3.0, ["much"], [float("nan")], [None]])
def test_weights_of_rewards_are_a_list_of_numbers(weights):
    with pytest.raises(ValueError, match=r"reward_weights=.*: give a list of numbers"):
        Recipe.from_trl({"reward_weights": weights}, "grpo")


def test_a_leash_per_token_is_said_to_be_one():
    assert outside({"beta": 0.1, "loss_type": "luspo"}) == {"beta"}


def test_cispo_cuts_fresh_samples_unless_its_bound_is_raised():
    assert "epsilon_high" in outside({"loss_type": "cispo"})
    for limit in (5.0, math.inf):
        assert "epsilon_high" not in outside({"loss_type": "cispo", "epsilon_high": limit})
    for options, said in (
        ({"epsilon_high": 0}, "rewards count 0 times, the leash does not"),
        ({"epsilon_high": 1e-320}, "as if beta were divided by 9.99989e-321"),
        ({"epsilon": 0.5}, "rewards count 0.5 times"),
    ):
        reasons = dict(Recipe.from_trl({"loss_type": "cispo", **options}, "grpo").outside)
        assert said in reasons["epsilon_high"]


def test_generation_in_one_update_is_on_policy():
    one_update = {"gradient_accumulation_steps": 4, "steps_per_generation": 4, "loss_type": "luspo"}
    assert outside(one_update) == set()
    assert outside(one_update | {"steps_per_generation": 8}) == {"steps_per_generation"}


def test_numbers_may_be_text_as_yaml_reads_them():
    assert Recipe.from_trl({"beta": "1e-3"}, "grpo").beta == 1e-3


@pytest.mark.parametrize(
    ("options", "trainer", "message"),
    [
        ({}, None, "trainer=None: a dict does not say whose options"),
        ({}, "ppo", "trainer='ppo': 'grpo' or 'rloo'"),
        ({"beta": "much"}, "grpo", "beta='much': give a number"),
        ({"beta": True}, "grpo", "beta=True: give a number"),
        ({"beta": -0.1}, "grpo", r"beta=-0\.1: give a number, finite and at least 0"),
        ({"num_generations": 1}, "grpo", "num_generations=1: give a whole number, at least 2"),
        ({"num_generations": 2.5}, "rloo", r"num_generations=2\.5: give a whole number"),
        ({"num_generations": math.inf}, "grpo", "num_generations=inf: give a whole number"),
        ({"num_generations": math.nan}, "grpo", "num_generations=nan: give a whole number"),
        ({"num_generations": 10**9}, "grpo", "num_generations=1000000000: .* at most 1000000"),
        ({"num_generations": None}, "grpo", "num_generations=None: give a whole number"),
        ({"loss_type": "cispo", "epsilon_high": -1}, "grpo", "epsilon_high=-1: give a number, at least 0"),
        ({"temperature": 0}, "rloo", "temperature=0: give a number, finite and above 0"),
        ({"top_p": 2}, "grpo", "top_p=2: give a number from 0 to 1"),
        ({"steps_per_generation": 0}, "grpo", "steps_per_generation=0: give a whole number, at least 1"),
        ({"loss_type": np.array(["grpo", "dapo"])}, "grpo", r"loss_type=array\(.*: one of 'grpo'"),
        ({"reward_weights": [1.0, True]}, "grpo", r"reward_weights=\[1\.0, True\]: give a list of numbers"),
        ({"reward_weights": [10**400]}, "grpo", "reward_weights=.*: give a list of numbers"),
        ({"scale_rewards": "all"}, "grpo", "scale_rewards='all': one of 'group'"),
        ({"loss_type": "ppo"}, "grpo", "loss_type='ppo': one of 'grpo'"),
        ({"use_bias_correction_kl": "yes"}, "grpo", "use_bias_correction_kl='yes': give true or false"),
        ({"importance_sampling_level": "word"}, "grpo", "importance_sampling_level='word': one of"),
        ([1, 2], "grpo", "config=.*a mapping"),
    ],
)  # fmt: skip
def test_bad_options_are_refused(options, trainer, message):
    with pytest.raises(ValueError, match=message):
        Recipe.from_trl(options, trainer)


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_every_option_that_is_a_number_has_a_range(trainer):
    """Whatever is given for it, it is read or refused by name."""
    defaults = DEFAULTS[trainer]
    numbers = {name for name, value in defaults.items() if type(value) in (int, float)}
    assert numbers <= set(RANGES)
    extreme = [0, -2, 1e308, 10**400, -(10**400), math.inf, -math.inf]
    for name in set(RANGES) & set(defaults):
        for value in (math.nan, "nan", "much", True, np.True_, [1], 1j, np.array([1]), {}):
            with pytest.raises(ValueError, match=f"^{name}=.*: give a"):
                Recipe.from_trl({name: value}, trainer)
        Recipe.from_trl({name: defaults[name]}, trainer)
        for value in extreme:
            said = refusal({name: value}, trainer)
            assert said is None or said.startswith(f"{name}=")


def test_truth_values_of_numpy_are_truth_values():
    given = {"beta": 0.1, "use_bias_correction_kl": np.False_, "scale_rewards": np.False_}
    recipe = Recipe.from_trl(given, "grpo")
    assert (recipe.leash, recipe.advantage) == ("k3-in-loss", "group-mean")


@pytest.mark.parametrize(
    ("options", "under"),
    [
        ({"temperature": 1.0, "grpo": {"beta": 0.1, "num_generations": 16}}, "'beta' under 'grpo'"),
        ({"beta": 0.1, "trainer": {"rl": {"loss_type": "dapo"}}}, "'loss_type' under 'trainer.rl'"),
        ({"rloo": {"normalize_advantages": True}}, "'normalize_advantages' under 'rloo'"),
    ],
)
def test_options_one_level_down_are_refused(options, under):
    for config in (options, SimpleNamespace(**options)):
        with pytest.raises(ValueError, match=f"config has {under}, .* give those under"):
            Recipe.from_trl(config, "grpo")


def test_what_is_under_an_option_is_of_another_library():
    """DeepSpeed has a gradient_accumulation_steps and betas of its own."""
    deepspeed = {
        "gradient_accumulation_steps": "auto",
        "optimizer": {"params": {"weight_decay": "auto", "betas": [0.9, 0.95]}},
    }
    given = {"beta": 0.1, "deepspeed": deepspeed, "generation_kwargs": {"temperature": 1.0}}
    assert "generation_kwargs" in outside(given)
    plain = {"beta": 0.1, "generation_kwargs": {"temperature": 1.0}}
    assert Recipe.from_trl(given, "grpo") == Recipe.from_trl(plain, "grpo")


@pytest.mark.parametrize("name", ["GRPOConfig", "RLOOConfig"])
def test_options_that_take_mappings_are_known(name):
    trl = pytest.importorskip("trl")
    fields = dataclasses.fields(getattr(trl, name))
    mappings = {field.name for field in fields if "dict" in str(field.type)}
    assert mappings == OF_OTHER_LIBRARIES | {"generation_kwargs"}


@pytest.mark.parametrize(
    ("trainer", "other", "option", "value"),
    [
        ("grpo", "rloo", "normalize_advantages", True),
        ("grpo", "rloo", "normalize_advantages", False),
        ("grpo", "rloo", "reward_clip_range", [0, 1]),
        ("rloo", "grpo", "scale_rewards", "group"),
        ("rloo", "grpo", "use_bias_correction_kl", False),
        ("rloo", "grpo", "entropy_coef", 0.1),
        ("rloo", "grpo", "loss_type", "dapo"),
        ("rloo", "grpo", "delta", None),
    ],
)
def test_an_option_of_the_other_trainer_is_refused_even_at_its_default(
    trainer, other, option, value
):
    given = {"beta": 0.05, option: value}
    Recipe.from_trl(given, other)
    message = f"config has '{option}', which TRL's {trainer} .* give trainer='{other}'"
    for config in (given, SimpleNamespace(**given)):
        with pytest.raises(ValueError, match=message):
            Recipe.from_trl(config, trainer)


@pytest.mark.parametrize("trainer", ["grpo", "rloo"])
def test_options_of_one_trainer_alone_are_none_of_the_other_s(trainer):
    """epsilon is of both, though RLOO's is no matter on-policy."""
    trl = pytest.importorskip("trl")
    config = {"grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig}[trainer]
    fields = {field.name for field in dataclasses.fields(config)}
    assert fields & KNOWN == set(DEFAULTS[trainer])


@pytest.mark.parametrize(("trainer", "other"), [("grpo", "rloo"), ("rloo", "grpo")])
def test_a_configuration_dumped_whole_is_that_of_its_trainer(trainer, other, tmp_path):
    trl = pytest.importorskip("trl")
    config = {"grpo": trl.GRPOConfig, "rloo": trl.RLOOConfig}[trainer]
    built = config(output_dir=str(tmp_path), use_cpu=True, bf16=False, beta=0.1, num_generations=4)
    recipe = Recipe.from_trl(built)
    for dumped in (built.to_dict(), dict(vars(built))):
        assert Recipe.from_trl(dumped, trainer) == recipe
        with pytest.raises(ValueError, match=f"give trainer='{trainer}'"):
            Recipe.from_trl(dumped, other)
    with pytest.raises(ValueError, match=f"give trainer='{trainer}'"):
        Recipe.from_trl(built, other)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"betta": 0.1}, "config has 'betta', .* did you mean 'beta'"),
        ({"beta": 0.1, "loss_types": "grpo"}, "did you mean 'loss_type'"),
        ({"kl_loss_coef": 0.1}, "config has 'kl_loss_coef', .* another trainer's"),
        ({"actor": {"use_kl_loss": True}}, "config has 'use_kl_loss'"),
    ],
)
def test_a_name_that_would_be_passed_over_is_refused(config, words):
    with pytest.raises(ValueError, match=words):
        Recipe.from_trl(config, trainer="grpo")
    with pytest.raises(ValueError, match=words):
        Recipe.from_trl(SimpleNamespace(**config), trainer="grpo")


@pytest.mark.parametrize("name", ["GRPOConfig", "RLOOConfig"])
def test_no_field_of_trl_s_own_is_refused(name):
    trl = pytest.importorskip("trl", reason="pip install 'nondecoupling[experiments]'")
    fields = {field.name for field in dataclasses.fields(getattr(trl, name))}
    assert len(fields) > 100
    # Those that are read have checks of their own.
    others = {name: {"some": 1} for name in fields - KNOWN}
    assert Recipe.from_trl(others, trainer="grpo") == Recipe.from_trl({}, trainer="grpo")
