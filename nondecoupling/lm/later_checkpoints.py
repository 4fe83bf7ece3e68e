"""Log-probabilities of collected responses under a later checkpoint: what training has done to the SFT loss.

Work is done in parts, as in ``collecting``: shared among processes, and kept in a folder next to the file until all
of it is done. Only then the file is read again, and written, by one process at a time.
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nondecoupling.collected import CollectedSamples
from nondecoupling.estimate.arguments import Array, whole_number
from nondecoupling.lm.digests import digest_of, model_digest, tokenizer_digest
from nondecoupling.lm.errors import CollectError
from nondecoupling.lm.file_locks import locked
from nondecoupling.lm.language_model import LanguageModel, evaluating, from_transformers
from nondecoupling.lm.parts import parts_of, work_through, write_whole
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["score"]

LOCK_SECONDS = 60.0  # to write a file takes a moment


def score(
    checkpoint: LanguageModel | PreTrainedModel | PeftModel,
    file: str | Path,
    *,
    name: str | int,
    tokenizer: PreTrainedTokenizerBase | None = None,
    rows_at_once: int = 64,
) -> CollectedSamples:
    """Adds the checkpoint's log-probabilities of all responses in the file to the file, under ``name``.

    ``checkpoint``: what ``load_model`` returns, or a model of your own with its ``tokenizer``. ``name`` says which
    checkpoint it is, best by its step. The rise of the SFT loss on the start policy's own data is then the mean of
    ``log_ref - log_p(name)``, in nats per response.

    An interrupted call goes on where it stopped, from the folder ``file`` + ``.log_p_NAME.parts``: call it again with
    the same arguments. With ``accelerate launch`` several processes share the work. The file is replaced in one step,
    and calls for several checkpoints at once do not lose one another's: they wait for
    a lock, the empty file ``.FILE.lock``, which stays.

    Raises:
        CollectError: another tokenizer or none; a name that is no word or that the file has already; the folder
            belongs to another checkpoint; another writer holds the file.
        ModelError: scores would not be those of the checkpoint's own logits.
        ProcessesError: another process stopped, for another reason.

    Example:
        >>> import tempfile
        >>> from nondecoupling.lm import collect, tiny_qwen3
        >>> tiny = tiny_qwen3(["Is it red?", "Is it blue?", " Yes."], seed=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = f"{folder}/ref.parquet"
        ...     found = collect(
        ...         tiny.model, tiny.tokenizer, ["Is it red?", "Is it blue?"],
        ...         lambda prompts, **_: [1.0] * len(prompts),
        ...         k=2, reward_bounds=(0, 1), max_tokens=2, out=file,
        ...     )
        ...     found = score(tiny, file, name=200)
        >>> found.later, bool(abs(found.log_p(200) - found.log_ref).max() < 1e-5)
        (['200'], True)
    """
    processes = Processes()
    model = checkpoint.model if isinstance(checkpoint, LanguageModel) else checkpoint
    with evaluating(model):
        with processes.failing_together():
            at_once = whole_number("rows_at_once", rows_at_once, 1)
            scoring = _Scoring(
                _with_tokenizer(checkpoint, tokenizer),
                CollectedSamples.read(file),
                Path(file),
                str(name),
                at_once,
            )
            scoring.check()
            if processes.is_first:
                scoring.begin()
        parts = scoring.parts()
        work_through(processes, parts, scoring.do, "scoring")
        with processes.failing_together():
            if processes.is_first:
                scoring.finish(parts)
        return CollectedSamples.read(file)


def _with_tokenizer(
    checkpoint: LanguageModel | PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase | None,
) -> LanguageModel:
    if not isinstance(checkpoint, LanguageModel):
        if tokenizer is None:
            raise CollectError(
                f"tokenizer=None for a {type(checkpoint).__name__}: give the tokenizer of the checkpoint, or what "
                "load_model returns"
            )
        return from_transformers(checkpoint, tokenizer)
    if tokenizer is not None:
        raise CollectError(f"tokenizer: {checkpoint.description} has its own; leave it out")
    # Again: a training may have changed more than weights since.
    return from_transformers(checkpoint.model, checkpoint.tokenizer, checkpoint.description)


@dataclass
class _Scoring:
    """One call of ``score``: its parts, and the way from them to new columns of the file."""

    checkpoint: LanguageModel
    found: CollectedSamples
    file: Path
    name: str
    rows_at_once: int

    @property
    def folder(self) -> Path:
        return self.file.with_name(f"{self.file.name}.log_p_{self.name}.parts")

    def check(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise CollectError(
                f"name={self.name!r}: give a step, or a word of letters, digits, '_', '.', '-'"
            )
        self._require_new_name(self.found)
        if tokenizer_digest(self.checkpoint.tokenizer) != self.found.origin.tokenizer_digest:
            raise CollectError(
                f"{self.file} was collected with another tokenizer than that of {self.checkpoint.description}; score "
                "checkpoints of the run that started from the collected model"
            )

    def begin(self) -> None:
        """Make the folder of parts, or see that it is of this very checkpoint and file."""
        settings = {
            "checkpoint": model_digest(self.checkpoint),
            "precision": str(next(self.checkpoint.model.parameters()).dtype),
            "samples": _digest(self.found),
            "rows_at_once": self.rows_at_once,
        }
        place = self.folder / "settings.json"
        self.folder.mkdir(exist_ok=True)
        before = json.loads(place.read_text()) if place.is_file() else settings
        differ = [key for key in settings if before.get(key) != settings[key]]
        if differ:
            raise CollectError(
                f"{self.folder} was begun with another {', '.join(differ)}: give another name, or remove it"
            )
        write_whole(place, json.dumps(settings))

    def parts(self) -> list[range]:
        rows, responses = self.found.log_ref.shape
        return parts_of(rows, responses, self.rows_at_once)

    def do(self, part: range) -> None:
        place = self._scored(part)
        if place.is_file():
            return
        kinds = (False, True) if self.found.has_experts else (False,)
        scores = [self._scores(part, experts=experts).tolist() for experts in kinds]
        write_whole(place, json.dumps(scores))

    def finish(self, parts: list[range]) -> None:
        lock = self.file.with_name(f".{self.file.name}.lock")
        refusal = (
            f"another call has been writing {self.file} for {LOCK_SECONDS:g} seconds; wait for it, and call score "
            "again: what was scored is kept"
        )
        # From reading the file to replacing it nobody else does.
        with locked(lock, refusal, LOCK_SECONDS):
            now = CollectedSamples.read(self.file)  # others may have been added meanwhile
            self._require_new_name(now)
            if _digest(now) != _digest(self.found):
                raise CollectError(
                    f"{self.file} was replaced by other samples while they were scored: remove {self.folder}, and "
                    "call score again"
                )
            kept = [json.loads(self._scored(part).read_text()) for part in parts]
            whole = [np.concatenate(scores) for scores in zip(*kept, strict=True)]
            now.with_later(self.name, whole[0], whole[1] if now.has_experts else None).write(
                self.file
            )
        shutil.rmtree(self.folder)

    def _require_new_name(self, samples: CollectedSamples) -> None:
        if self.name in samples.later:
            raise CollectError(
                f"name={self.name!r}: {self.file} has a checkpoint of that name; give another"
            )

    def _scored(self, part: range) -> Path:
        return self.folder / f"{part.start:08d}.json"

    def _scores(self, part: range, *, experts: bool) -> Array:
        """[prompts of the part, responses]"""
        pairs = []
        for row in part:
            prompt, responses = self.found.tokens(row, experts=experts)
            pairs += [PromptResponse(prompt, response) for response in responses]
        return np.reshape(log_probs(self.checkpoint, pairs, self.rows_at_once), (len(part), -1))


def _digest(samples: CollectedSamples) -> str:
    """Of what was drawn: log-probabilities tell draws apart."""
    return digest_of([samples.origin.to_json().encode(), samples.log_ref.tobytes()])
