"""The commands ``collect`` and ``score``: samples of a start policy as a file, and what a later checkpoint says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nondecoupling.cli.exits import fail, need
from nondecoupling.cli.options import RewardWeights, Seed, at_least, weights_in
from nondecoupling.cli.report import console
from nondecoupling.cli.reward_functions import reward_function
from nondecoupling.collected import CollectedSamples
from nondecoupling.estimate.arguments import shown
from nondecoupling.forecast.files import read_table

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
        list[str],
        typer.Option(
            help="A function in TRL's signature: file.py:name or module:name; several are added up."
        ),
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
    reward_weights: RewardWeights = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("ref.parquet"),
    seed: Seed = 0,
    rows_at_once: RowsAtOnce = 64,
    chat_template_kwargs: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="The trainer's chat_template_kwargs: '{\"enable_thinking\": false}'.",
        ),
    ] = None,
) -> None:
    """Draw, score and reward responses of the start policy, for forecast and monitor.

    Other columns of PROMPTS go to the reward function. An interrupted command goes on where it stopped; what was drawn
    is never lost. With accelerate launch -m nondecoupling collect, several processes share the work.
    """
    need("torch", "collect", "lm")
    need("transformers", "collect", "lm")
    from nondecoupling.lm import LanguageModelError, collect, load_model
    from nondecoupling.lm.processes import Processes

    processes = Processes()
    try:
        with processes.failing_together():
            rows, texts = _rows(prompts, experts)
            functions = [reward_function(text) for text in reward]
            weights = None if reward_weights is None else weights_in(reward_weights)
            template = None if chat_template_kwargs is None else _object(chat_template_kwargs)
            loaded = load_model(model)
        found = collect(
            loaded.model,
            loaded.tokenizer,
            rows,
            functions,
            reward_weights=weights,
            k=k,
            reward_bounds=(reward_low, reward_high),
            max_tokens=max_tokens,
            experts=texts,
            out=out,
            seed=seed,
            rows_at_once=rows_at_once,
            chat_template_kwargs=template,
        )
    except (LanguageModelError, ValueError, OSError, ImportError) as error:
        fail(str(error))
    if processes.is_first:
        said = f"{out}: {found!r}, mean reward {found.rewards.mean():.4g}"
        console().print(said, markup=False, soft_wrap=True)
    processes.leave()


def score_command(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="A later checkpoint of the same model.")
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What collect wrote.")],
    name: Annotated[str, typer.Option(help="Which checkpoint it is, best by its step.")],
    rows_at_once: RowsAtOnce = 64,
) -> None:
    """Add a later checkpoint's log-probabilities of the collected responses to the file.

    An interrupted command goes on where it stopped. With accelerate launch -m nondecoupling score, several processes
    share the work.
    """
    need("torch", "score", "lm")
    need("transformers", "score", "lm")
    from nondecoupling.lm import LanguageModelError, load_model, score
    from nondecoupling.lm.processes import Processes

    processes = Processes()
    try:
        with processes.failing_together():
            CollectedSamples.read(file)  # before minutes of loading
            loaded = load_model(checkpoint)
        found = score(loaded, file, name=name, rows_at_once=rows_at_once)
    except (LanguageModelError, ValueError, OSError, ImportError) as error:
        fail(str(error))
    if processes.is_first:
        rise = float((found.log_ref - found.log_p(name)).mean())
        said = f"{file}: rise of the SFT loss on the start policy's own data {rise:.4g} nats per response"
        console().print(said, markup=False, soft_wrap=True)
    processes.leave()


def _rows(path: Path, experts: str | None) -> tuple[list[dict[str, Any]], list[list[str]] | None]:
    """The rows of the file without their experts, and these.

    Errors: no such file; no rows; a row without a column that is read, or whose prompt or experts ``collect`` would not
    take, by its place in the file.
    """
    from nondecoupling.lm.asked import expert_texts, is_text_or_chat

    rows = read_table(path)
    if not rows:
        raise ValueError(f"{path} is empty: give one row for each prompt")
    for place, row in enumerate(rows, start=1):
        columns = f"{path}, row {place} has the columns {', '.join(map(repr, row))}"
        if "prompt" not in row:
            raise ValueError(
                f"{columns}: collect reads the prompt from the column 'prompt', as TRL's trainers do; rename that of "
                "the prompts"
            )
        if not is_text_or_chat(row["prompt"]):
            raise ValueError(
                f"{path}, row {place}, prompt={shown(row['prompt'])}: give a text, or a list of messages with their "
                "roles, one prompt in each row"
            )
        if experts is not None and experts not in row:
            raise ValueError(f"--experts {experts}: {columns}; name one that every row has")
    if experts is None:
        return rows, None
    return rows, [
        expert_texts(f"{path}, row {place}, {experts}", row.pop(experts))
        for place, row in enumerate(rows, start=1)
    ]


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"--chat-template-kwargs {text}: give an object of JSON, as '{{\"enable_thinking\": false}}'"
        )
    return found
