"""Configurations are typed values, and the committed runs are read with them to the numbers that they reported."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
import qwen_validate
from validate.checksums import read_sealed_json, read_sealed_lines, sealed
from validate.configuration import (
    PRESETS,
    RECIPES_OF_TRL,
    TINY,
    TINY_MODELS,
    EnumeratedConfiguration,
    SampledConfiguration,
    configuration,
    from_json,
)
from validate.enumerated.digest import digest
from validate.enumerated.inputs import inputs_of
from validate.errors import InputError, RunFolderError
from validate.run_folder import RunFolder

from nondecoupling.lm.tiny import TINY_FAMILIES

EXPERIMENTS = Path(qwen_validate.__file__).parent
COMMITTED = sorted(path.parent for path in (EXPERIMENTS / "results").glob("*/config.json"))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=map(str, PRESETS))
def test_a_configuration_survives_json(preset):
    assert from_json(json.loads(json.dumps(preset.as_json()))) == preset


def test_every_tiny_family_is_a_model_with_the_lengths_and_rates_of_the_default():
    assert set(TINY_MODELS) == {f"tiny-{family}" for family in TINY_FAMILIES}
    for protocol in ("enumerated", "sampled"):
        presets = [configuration({"protocol": protocol, "model": model}) for model in TINY_MODELS]
        assert {replace(preset, model=TINY) for preset in presets} == {presets[0]}


def test_a_configuration_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        configuration({}).beta = 1.0


def test_the_protocol_decides_the_type():
    assert isinstance(configuration({}), EnumeratedConfiguration)
    assert isinstance(configuration({"protocol": "sampled"}), SampledConfiguration)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"beta": "0.2"}, r"beta is '0\.2', which is no float"),
        ({"seed": 0.5}, r"seed is 0\.5, which is no int"),
        ({"seed": True}, "seed is True, which is no int"),
        ({"protocol": "dreamt"}, "protocol is 'dreamt'; it is enumerated or sampled"),
        ({"generations": 4}, "generations is no field of this protocol"),
    ],
)
def test_what_is_no_configuration_is_refused(change, words, tmp_path):
    values = {**configuration({}).as_json(), **change}
    with pytest.raises(InputError, match=words):
        from_json(values)
    (tmp_path / "config.json").write_text(json.dumps(sealed("config.json", values)))
    with pytest.raises(RunFolderError, match=f"config.json is damaged .*{words}"):
        RunFolder(tmp_path).configuration({})


@pytest.mark.parametrize("name", list(configuration({}).as_json()))
def test_a_missing_field_is_named(name):
    values = configuration({}).as_json()
    del values[name]
    words = "protocol is None" if name == "protocol" else f"{name} is missing"
    with pytest.raises(InputError, match=words):
        from_json(values)


@pytest.mark.parametrize("text", ["", "[]", "{", '"sampled"'])
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RunFolderError, match=r"config\.json is damaged"):
        RunFolder(tmp_path).configuration({})


def test_another_lambda_is_named_by_its_option(tmp_path):
    RunFolder(tmp_path).write_json("config.json", configuration({}).as_json())
    with pytest.raises(RunFolderError, match=r"--lambda is 0\.1, but the run in .* has 0\.05"):
        RunFolder(tmp_path).configuration({"weight": 0.1})


def test_the_format_of_prompts_is_recorded_where_it_is_not_that_of_earlier_versions():
    plain = configuration({"protocol": "sampled"})
    assert "prompt_format" not in plain.as_json() and from_json(plain.as_json()) == plain
    values = configuration({"protocol": "sampled", "prompt_format": "chat"}).as_json()
    assert values["prompt_format"] == "chat" == from_json(values).prompt_format


def test_the_precision_of_the_head_is_recorded_where_it_is_not_that_of_earlier_versions():
    assert "precision" not in configuration({}).as_json()
    assert from_json(configuration({}).as_json()).precision == "float64"
    values = configuration({"precision": "bfloat16"}).as_json()
    assert values["precision"] == "bfloat16" == from_json(values).precision
    with pytest.raises(InputError, match="--precision is no option of the sampled protocol"):
        configuration({"protocol": "sampled", "precision": "float64"})


def test_a_recipe_in_samples_is_the_trainer_of_trl_that_trains_it(tmp_path):
    for recipe, trainer in RECIPES_OF_TRL.items():
        config = configuration({"protocol": "sampled", "recipe": recipe})
        assert config == configuration({"protocol": "sampled", "rl": trainer})
        folder = RunFolder(tmp_path / recipe)
        folder.write_json("config.json", config.as_json())
        assert folder.configuration({"recipe": recipe}) == config
        for other in RECIPES_OF_TRL.keys() - {recipe}:
            with pytest.raises(
                RunFolderError, match=f"--recipe is '{other}', but .* has '{trainer}'"
            ):
                folder.configuration({"recipe": other})


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_a_committed_configuration_is_read(folder):
    values = read_sealed_json(folder / "config.json")
    assert from_json(values).as_json() == values


def enumerated(folder):
    return json.loads((folder / "config.json").read_text())["protocol"] == "enumerated"


@pytest.mark.slow  # evaluates whole runs
@pytest.mark.parametrize(
    "folder", [f for f in COMMITTED if enumerated(f)], ids=lambda folder: folder.name
)
def test_a_committed_enumerated_run_gives_the_rows_that_it_reported(folder):
    """From metrics.jsonl alone, to the last few digits."""
    config = RunFolder(folder, writes=False).configuration({})
    found = digest(config, inputs_of(config).task, read_sealed_lines(folder / "metrics.jsonl")).rows
    reported = json.loads((folder / "report.json").read_text())["rows"]
    assert len(found) == len(reported)
    for check, row in zip(found, reported, strict=True):
        now = check.as_json()
        for side in ("lhs", "rhs"):
            assert now[side] == pytest.approx(row[side], rel=1e-9, abs=1e-12)
        for name in ("statement", "claim", "place", "kind", "relation", "unit", "status"):
            assert now[name] == row[name], row


def test_committed_runs_are_there():
    assert {"tiny-qwen3", "tiny-qwen3-sampled"} <= {folder.name for folder in COMMITTED}


@pytest.mark.parametrize("order", ["joint", "alternate", "best-of-n", "weighted-sft"])
@pytest.mark.parametrize("name", ["recipe", "advantage", "group_size", "entropy_bonus"])
def test_an_option_that_would_do_nothing_is_refused(order, name):
    value = {"recipe": "k3-in-loss", "advantage": "group-normalised"}.get(name, 4)
    words = f"--{name.replace('_', '-')} is {value!r}, which is about RL .* --order {order} trains"
    with pytest.raises(InputError, match=words):
        configuration({"order": order, name: value})
    for trains_rl in ("sft-rl", "replay", "all"):
        more = {"advantage": "group-normalised"} if name == "group_size" else {}
        assert getattr(configuration({"order": trains_rl, name: value, **more}), name) == value


def test_what_an_order_uses_is_accepted():
    """Of those that no other order has: in samples SFT on own responses has the steps and the rate of RL."""
    for protocol, order in (("enumerated", "rl-sft"), ("sampled", "rl-sft"), ("sampled", "all")):
        config = configuration({"protocol": protocol, "order": order, "warmup_steps": 7})
        assert config.warmup_steps == 7
    for order in ("sft-rl", "rl-sft", "cycle", "joint", "replay", "all"):
        assert configuration({"order": order, "rl_steps": 7, "rl_rate": 0.5}).rl_rate == 0.5
    for order in ("best-of-n", "weighted-sft"):
        given = {"protocol": "sampled", "order": order, "rl_steps": 7, "rl_rate": 0.5}
        assert configuration(given).rl_steps == 7


@pytest.mark.parametrize(
    "words",
    ["--protocol sampled --data {}", "--protocol sampled --eval-data {}", "--task {}", "--out {}"],
)
def test_a_name_that_no_file_can_have_is_refused_as_one_that_none_has(words, tmp_path, capsys):
    name = str(tmp_path / ("x" * 300))
    given = [word.format(name) for word in words.split()]
    if "--out" not in words:
        given += ["--out", str(tmp_path / "run")]
    try:
        status = qwen_validate.main(given)
    except SystemExit as left:
        status = left.code
    assert status == 2 and name in capsys.readouterr().err
