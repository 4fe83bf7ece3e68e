"""The commands ``collect`` and ``score``: samples of a start policy as a file, and what a later checkpoint says."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from nondecoupling.cli.exits import fail, need
from nondecoupling.cli.options import Seed, at_least
from nondecoupling.cli.report import console
from nondecoupling.forecast.files import read_jsonl, read_parquet

RowsAtOnce = Annotated[
    int, typer.Option(callback=at_least(1), help="Rows that the network evaluates together.")
]


def collect_command(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A folder of save_pretrained, a hub id, or a .gguf file."
        ),
    ],
    prompts: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="Rows with a prompt, .jsonl or .parquet.")
    ],
    reward: Annotated[
        list[str], typer.Option(help="A function in TRL's signature: file.py:name or module:name.")
    ],
    reward_low: Annotated[float, typer.Option(help="The lowest reward possible.")],
    reward_high: Annotated[float, typer.Option(help="The highest reward possible.")],
    max_tokens: Annotated[
        int, typer.Option(callback=at_least(1), help="The trainer's max_completion_length.")
    ],
    k: Annotated[int, typer.Option(callback=at_least(2), help="Responses to each prompt.")] = 16,
    experts: Annotated[
        str | None, typer.Option(help="Column of expert responses: a text, or a list of texts.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("ref.parquet"),
    seed: Seed = 0,
    rows_at_once: RowsAtOnce = 64,
) -> None:
    """Draw, score and reward responses of the start policy, for forecast and monitor.

    Other columns of PROMPTS go to the reward function. An interrupted command goes on where it stopped; what was drawn
    is never lost. With accelerate launch -m nondecoupling collect, several processes share the work.
    """
    need("torch", "collect", "lm")
    need("transformers", "collect", "lm")
    from nondecoupling.lm import LanguageModelError, collect, load_model
    from nondecoupling.lm.processes import Processes

    try:
        rows = (read_parquet if prompts.suffix == ".parquet" else read_jsonl)(prompts)
        texts = None
        if experts is not None:
            if any(experts not in row for row in rows):
                raise ValueError(f"--experts {experts}: not a column of every row of {prompts}")
            texts = [row.pop(experts) for row in rows]
        functions = [_function(text) for text in reward]
        loaded = load_model(model)
        found = collect(
            loaded.model,
            loaded.tokenizer,
            rows,
            functions,
            k=k,
            reward_bounds=(reward_low, reward_high),
            max_tokens=max_tokens,
            experts=texts,
            out=out,
            seed=seed,
            rows_at_once=rows_at_once,
        )
    except (LanguageModelError, ValueError, OSError, ImportError) as error:
        fail(str(error))
    if Processes().is_first:
        said = f"{out}: {found!r}, mean reward {found.rewards.mean():.4g}"
        console().print(said, markup=False, soft_wrap=True)


def score_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A later checkpoint of the same model.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What collect wrote.")],
    name: Annotated[str, typer.Option(help="Which checkpoint it is, best by its step.")],
    rows_at_once: RowsAtOnce = 64,
) -> None:
    """Add a later checkpoint's log-probabilities of the collected responses to the file."""
    need("torch", "score", "lm")
    need("transformers", "score", "lm")
    from nondecoupling.lm import LanguageModelError, load_model, score

    try:
        found = score(load_model(checkpoint), file, name=name, rows_at_once=rows_at_once)
    except (LanguageModelError, ValueError, OSError, ImportError) as error:
        fail(str(error))
    rise = float((found.log_ref - found.log_p(name)).mean())
    console().print(
        f"{file}: SFT loss on the start policy's own data {rise:+.4g} nats per response"
    )


def _function(text: str) -> Callable[..., Any]:
    """The function that file.py:name or module:name names."""
    place, _, name = text.rpartition(":")
    if not place:
        raise ValueError(f"--reward {text}: give file.py:name or module:name")
    module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    if not callable(getattr(module, name, None)):
        raise ValueError(f"--reward {text}: {place} has no function {name!r}")
    function: Callable[..., Any] = getattr(module, name)
    return function


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"--reward: no file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
