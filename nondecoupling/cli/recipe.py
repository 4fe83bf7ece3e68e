"""The command ``recipe``: where RL with a trainer ends, and what that costs in SFT loss."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from nondecoupling import bounds
from nondecoupling.cli.exits import ExitStatus, fail, need
from nondecoupling.cli.options import AsJson
from nondecoupling.cli.report import console, number, print_json
from nondecoupling.cli.world_options import LAW, REALS, world_of_fields
from nondecoupling.estimate.arguments import shown
from nondecoupling.recipes import Outside, Recipe
from nondecoupling.recipes.trl import DEFAULTS, Trainer, reward_weights
from nondecoupling.theory.fields import Law, Reward

Answer = dict[str, Any]


def recipe(
    trl: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TRL's options, as .yaml or .json; its defaults count."),
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="Whose options they are: grpo, as without it, or rloo.")
    ] = None,
    success: Annotated[
        float | None,
        typer.Option(
            metavar="A", help="ref's success, rewards being 0 and 1, or reward_weights' one number."
        ),
    ] = None,
    ref: Annotated[
        str | None, typer.Option(metavar=LAW, help="Instead of --success: where RL starts.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(metavar=REALS, help="With --ref: reward of each response.")
    ] = None,
    advantage: Annotated[
        str | None, typer.Option(help="leave-one-out, group-mean or group-normalised.")
    ] = None,
    leash: Annotated[
        str | None, typer.Option(help="none, k1-in-reward, k2-in-loss, k3-in-loss, ...")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Strength of the leash.")] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Responses in a group; without it, large groups.")
    ] = None,
    sd: Annotated[str | None, typer.Option(help="Divided by: population or sample.")] = None,
    eps: Annotated[float | None, typer.Option(help="Added to the standard deviation.")] = None,
    entropy_bonus: Annotated[float | None, typer.Option(help="Weight of the entropy.")] = None,
    false_positives: Annotated[
        float | None, typer.Option(help="Chance that a wrong response is accepted.")
    ] = None,
    false_negatives: Annotated[
        float | None, typer.Option(help="Chance that a correct response is refused.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Where RL with a trainer ends, what that costs in SFT loss, and the least that it could cost (T2, T4, S5).

    The SFT data are taken to be ref's own (d = ref). Divergences and losses are in nats per response.
    """
    noise = {"false_positives": false_positives, "false_negatives": false_negatives}
    fields = {
        "advantage": advantage,
        "leash": leash,
        "beta": beta,
        "group_size": group_size,
        "sd": sd,
        "eps": eps,
        "entropy_bonus": entropy_bonus,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    wrong: dict[str, Any] = {name: value for name, value in noise.items() if value is not None}
    log_ref, rewards = _world(success, ref, reward)
    try:
        if trl is not None and given:
            option = next(iter(given)).replace("_", "-")
            fail(f"--{option}: --trl {trl} says it; change the file, or leave out --trl")
        options = options_of_file("--trl", trl, trainer)
        if trl is None or options is None:
            read = _of_options(given)
        else:
            read = _of_trl_or_fields("--trl", trl, options, trainer)
            if success is not None:
                rewards = rewards * _weight(trl, options)
        read = dataclasses.replace(read, **wrong)
        found = _answer(read, log_ref, rewards)
    except ValueError as error:
        # The fields of a recipe are options here.
        fail(re.sub(r"^(\w+)=", lambda m: f"--{m[1].replace('_', '-')} ", str(error)))
    if as_json:
        print_json(found)
    else:
        _print(read, found)
    if not found["stationary"] and found["why"].startswith("not known"):
        raise typer.Exit(ExitStatus.UNDECIDED)


def _world(
    success: float | None, ref: str | None, reward: str | None
) -> tuple[np.ndarray, np.ndarray]:
    if success is not None:
        if ref is not None or reward is not None:
            fail("--success: gives ref and rewards; leave out --ref and --reward")
        if not 0 < success < 1:
            fail(f"--success {success:g}: must lie strictly between 0 and 1")
        return np.array([math.log1p(-success), math.log(success)]), np.array([0.0, 1.0])
    if ref is None and reward is None:
        fail("--success is missing: give it, or --ref and --reward")
    fields = {"log_ref": Law(), "reward": Reward()}
    texts = {"log_ref": ref, "reward": reward}
    given = {name: text for name, text in texts.items() if text is not None}
    world = world_of_fields("recipe", fields, given).floats(fields)
    return world.log_ref[0], world.reward[0]


def _of_options(given: dict[str, Any]) -> Recipe:
    for name in _missing(given):
        fail(
            f"--{name} is missing: give --trl FILE, or --advantage, --leash and, unless that is none, --beta"
        )
    return _of_fields(given)


def recipe_of_file(option: str, path: Path | None, trainer: str | None) -> Recipe | None:
    """From TRL's options, or the fields of a ``Recipe``, in a .yaml or .json file that an option of a command names.

    ``trainer``: whose options, grpo's where it is not said. None where no file is named.
    """
    return recipe_and_weights_of_file(option, path, trainer)[0]


def recipe_and_weights_of_file(
    option: str, path: Path | None, trainer: str | None
) -> tuple[Recipe | None, list[float]]:
    """The same, with TRL's ``reward_weights``; none where each reward counts once, or it has a recipe's fields."""
    options = options_of_file(option, path, trainer)
    if path is None or options is None:
        return None, []
    read = _of_trl_or_fields(option, path, options, trainer)
    return read, [] if "advantage" in options else reward_weights(options)


def options_of_file(option: str, path: Path | None, trainer: str | None) -> dict[str, Any] | None:
    if trainer not in (None, "grpo", "rloo"):
        fail(f"--trainer {trainer}: grpo or rloo")
    if path is None:
        if trainer is not None:
            fail(f"--trainer {trainer}: no options that could be its; give {option} FILE, too")
        return None
    if path.is_dir():
        fail(
            f"{option} {path}: is a folder; give the .yaml or .json file in it that has the options"
        )
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        fail(f"{option} {path}: cannot be read ({reason}); give a .yaml or .json file of options")
    options = _parsed(option, path, text)
    if not isinstance(options, dict):
        fail(f"{option} {path}: holds no options; write lines such as beta: 0.04")
    return options


def _of_trl_or_fields(
    option: str, path: Path, options: dict[str, Any], trainer: str | None
) -> Recipe:
    try:
        if "advantage" not in options:
            whose: Trainer = "rloo" if trainer == "rloo" else "grpo"
            read = Recipe.from_trl(options, whose)
            if not options.keys() & DEFAULTS[whose].keys():
                some = ", ".join(shown(str(name)) for name in list(options)[:3]) or "nothing"
                fail(
                    f"{option} {path}: has {some}, and none of the options of TRL's {whose} trainer that are read, "
                    "such as beta; give the trainer's options, or add beta: with the default that you mean"
                )
            return read
        if trainer is not None:
            fail(
                f"--trainer {trainer}: {option} {path} has no trainer's options but fields of a recipe; leave it away"
            )
        return _of_file(options)
    except (ValueError, TypeError) as error:
        said = re.sub(r"\btrainer='(\w+)'", r"--trainer \1", str(error))
        fail(f"{option} {path}: {said}")


def _weight(path: Path, options: dict[str, Any]) -> float:
    """What a reward of 1 counts."""
    weights = reward_weights(options)
    if len(weights) > 1:
        fail(
            f"--success: --trl {path} adds up {len(weights)} rewards, reward_weights={weights}, which are not 0 and 1 "
            "then; give --ref and --reward, the sums"
        )
    return weights[0] if weights else 1.0


def _of_file(options: dict[str, Any]) -> Recipe:
    fields = [field.name for field in dataclasses.fields(Recipe)]
    unknown = [str(name) for name in options if name not in fields]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no field of a recipe; it has {', '.join(fields)}")
    if missing := _missing(options):
        raise ValueError(
            f"{' and '.join(missing)} missing: next to advantage give leash and, unless that is none, beta"
        )
    return _of_fields({**options, "outside": _outside(options.get("outside", []))})


def _missing(fields: dict[str, Any]) -> list[str]:
    needed = ["advantage", "leash"]
    if fields.get("leash") != "none":
        needed.append("beta")
    return [name for name in needed if name not in fields]


def _of_fields(fields: dict[str, Any]) -> Recipe:
    return Recipe(**{"beta": 0.0, **fields})


def _outside(given: Any) -> tuple[Outside, ...]:
    """As JSON has it."""
    pairs = given if isinstance(given, list) else [given]
    for pair in pairs:
        texts = isinstance(pair, list) and all(isinstance(text, str) for text in pair)
        if not texts or len(pair) != 2:
            raise ValueError(
                f"outside={shown(given)}: give a list of pairs of an option and the reason, as "
                '[["temperature", "not 1"]]'
            )
    return tuple(Outside(*pair) for pair in pairs)


def print_recipe(read: Recipe) -> None:
    """In words, with what it does that is not accounted for."""
    out = console()
    out.print(f"the recipe: {dataclasses.replace(read, outside=())}", markup=False)
    for option, reason in read.outside:
        out.print(f"  outside the theory: {option}: {reason}", markup=False)


def _parsed(option: str, path: Path, text: str) -> Any:
    try:
        if path.suffix == ".json":
            return json.loads(text)
        need("yaml", f"{option} with a YAML file", "lm")
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(error) from None
    except ValueError as error:
        fail(f"{option} {path}: cannot be parsed: {error}")


def _answer(recipe: Recipe, log_ref: np.ndarray, reward: np.ndarray) -> Answer:
    found = bounds.stationary_policy(log_ref, reward, recipe)
    fields = dataclasses.asdict(recipe)
    outside = [entry._asdict() for entry in recipe.outside]
    answer: Answer = {
        "recipe": {name: value for name, value in fields.items() if name != "outside"},
        "outside": outside,
        "stationary": bool(found.stationary),
        "why": found.why,
        "reward_before": float(bounds.expected_reward(log_ref, reward)),
        "critical_beta": _critical_beta(recipe, log_ref, reward),
    }
    if not found.stationary:
        return answer
    cost = float(bounds.kl_divergence(log_ref, found.log_p))
    # Two levels of reward with ref's laws given the level lie on the frontier (V1), where the price of a rounded
    # reward would say less.
    two_levels = len(set(reward.tolist())) <= 2 and not recipe.entropy_bonus
    least = cost if two_levels else float(bounds.price_of_policy(log_ref, found.log_p, reward))
    best = reward == reward.max()
    return answer | {
        "policy": np.exp(found.log_p).tolist(),
        "reward": float(bounds.expected_reward(found.log_p, reward)),
        "short_of_the_best": float(np.exp(found.log_p[~best]) @ (reward.max() - reward[~best])),
        "kl": float(bounds.kl_divergence(found.log_p, log_ref)),
        "sft_loss_increase": cost,
        "least_sft_loss_increase": least,
    }


def _critical_beta(recipe: Recipe, log_ref: np.ndarray, reward: np.ndarray) -> float | None:
    """That of large groups, where there is one (T4)."""
    if recipe.advantage != "group-normalised" or recipe.leash not in (
        "k2-in-loss",
        "k3-with-ratio",
    ):
        return None
    if len(set(reward.tolist())) != 2 or recipe.told < 1:
        return None
    return float(bounds.critical_beta(float(np.exp(log_ref) @ (reward == reward.max()))))


def _print(recipe: Recipe, found: Answer) -> None:
    out = console()
    table = Table("", "", show_header=False)
    table.add_row("reward before", number(found["reward_before"]))
    if found["stationary"]:
        short = found["short_of_the_best"]
        table.add_row(
            "converges to reward", f"{found['reward']:.6g}, {short:.3g} short of the best"
        )
        table.add_row("KL(p || ref)", number(found["kl"]))
        table.add_row("SFT loss increase, KL(ref || p)", number(found["sft_loss_increase"]))
        table.add_row("least for that reward (S5)", number(found["least_sft_loss_increase"]))
    if found["critical_beta"] is not None:
        table.add_row("critical beta of large groups (T4)", number(found["critical_beta"]))
    print_recipe(recipe)
    out.print(table)
    if found["why"]:
        out.print(escape(found["why"]))
