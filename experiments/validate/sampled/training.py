"""SFT, weighted SFT, RL, joint training and alternation of one stage, by the trainers of TRL.

RL is RLOO set up to maximise E[r] - beta KL(p || ref) itself: the sequence-level log-ratio is part of the reward, the
baseline is the mean of the other rollouts of the prompt, advantages are not normalised, rollouts are drawn at
temperature 1 from the whole vocabulary, each is used for one step, and truncated ones count. ``--rl grpo`` keeps
TRL's defaults for GRPO, which is another objective; ``k3-in-loss`` and ``k3-with-ratio`` are GRPO with a leash on
every token and nothing else (T1, T3): what TRL's ``use_bias_correction_kl`` switches. Joint training adds lambda
times the negative log-likelihood of an expert's response to each prompt of the batch.

Alternation is RLOO without a leash and SFT by turns, as one stage of one AdamW: an SFT step takes the average of -log p
over as many experts' responses as an RL step draws, to as many prompts. The rate stays, and gradients are not clipped:
the balance of the two is what decides where cycles end (T6).

SFT averages over the tokens of a batch, as TRL does: within a batch every response counts by its length, so that the
expected step minimises the loss per response up to the spread of the batches' numbers of tokens. Weighted SFT averages
w (-log p(y|x)) over the responses of a batch, whole ones: its expected step is the gradient of E[w (-log p)].

Prompts and expert responses come in an order fixed before training, so that a resumed stage sees what it would have.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence as pad
from transformers import (
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils import logging
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from nondecoupling.lm import LanguageModel
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.tokens import PromptResponse
from validate.checksums import file_digest, read_sealed_json, sealed
from validate.configuration import ALTERNATE, SampledConfiguration
from validate.disk import DISK_IS_FULL, Line, replace_file
from validate.errors import RunError, RunFolderError
from validate.orders import plan
from validate.sampled.rewards import CheckedReward
from validate.sampled.task import Question, columns
from validate.sampled.trl_options import TRL_OPTIONS
from validate.session import Session

__all__ = [
    "OBJECTIVES",
    "StageTrainer",
    "planned",
    "rl_rows",
    "rl_trainer",
    "sft_rows",
    "sft_trainer",
    "train_to_the_end",
]

OBJECTIVES = {
    "rloo": "RLOO: E[r] - beta KL(p||ref), by the leave-one-out policy gradient (TRL's RLOOTrainer, KL in the "
    "reward, advantages not normalised)",
    "grpo": "GRPO with TRL's defaults: advantages divided by their standard deviation within a prompt, token-level "
    "clipping and averaging, KL as a per-token penalty of weight beta. This is not the gradient of "
    "E[r] - beta KL(p||ref), so its optimum is not the tilt",
    "k3-in-loss": "GRPO without normalisation and averaging, its k3 differentiated as it is: the leash on each token "
    "is KL(ref||p) at the prefixes that p visits (T3). This is not the gradient of E[r] - beta KL(p||ref)",
    "k3-with-ratio": "GRPO without normalisation and averaging, its k3 times the ratio p/ref: the leash on each "
    "token is KL(p||ref) there, without what a token does to later ones (T3). This is not the gradient of "
    "E[r] - beta KL(p||ref)",
}
StageTrainer = SFTTrainer | RLOOTrainer | GRPOTrainer
WARM_UP_SHARE = 0.05
# What alternation sets beside this.
WITHOUT_A_LEASH = {"beta": 0.0, "lr_scheduler_type": "constant_with_warmup", "max_grad_norm": 0.0}
# Numbers of a training log that depend on the clock or on where a run was resumed, or say the same as others.
NOT_RECORDED = (
    "runtime",
    "per_second",
    "flos",
    "num_tokens",
    "epoch",
    "step_time",
    "profiling",
    "train_loss",
)
COMPLETE = "complete.json"
# TRL still sets the old name of an option that transformers has renamed.
warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated")
logging.disable_progress_bar()  # of single files


def planned(config: SampledConfiguration) -> list[tuple[str, int]]:
    """Stages and steps of the training logs that a run records."""
    found: list[tuple[str, int]] = []
    for stage in plan(config.order):
        steps = stage.steps(config)
        every = _logging_steps(config, steps)
        found += [(stage.name, step) for step in range(every, steps + 1, every)]
    return found


def _logging_steps(config: SampledConfiguration, steps: int) -> int:
    return min(steps, config.checkpoint_every)


def sft_rows(pairs: Sequence[PromptResponse], weights: Sequence[float] | None = None) -> Dataset:
    """Token ids, and labels that are -100 on the prompt; for weighted SFT with a weight per response."""
    rows: dict[str, list[Any]] = {
        "input_ids": [[*pair.prompt, *pair.response] for pair in pairs],
        "labels": [[-100] * len(pair.prompt) + pair.response for pair in pairs],
    }
    if weights is not None:
        rows["weight"] = list(weights)
    return Dataset.from_dict(rows)


def rl_rows(
    questions: Sequence[Question], experts: Sequence[Sequence[PromptResponse]] | None = None
) -> Dataset:
    """Prompts with the columns of the reward; where SFT is trained beside RL with experts' responses to each."""
    rows: list[dict[str, Any]] = list(columns(questions))
    if experts is not None:
        rows = [
            {**row, "experts": [[pair.prompt, pair.response] for pair in pairs]}
            for row, pairs in zip(rows, experts, strict=True)
        ]
    return Dataset.from_list(rows)


class _WithSft:
    """Has CE(d, p), estimated on experts' responses in the rows, beside the loss of an RL trainer.

    The rows of a group are one row as often; each takes the next of its experts' responses.
    """

    def _experts(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        first = self.accelerator.process_index * len(inputs)  # type: ignore[attr-defined]
        pairs = [
            row["experts"][(first + place) % len(row["experts"])]
            for place, row in enumerate(inputs)
        ]
        padded: dict[str, Any] = {}
        for name, side, part in (("asked", "left", 0), ("expert", "right", 1)):
            rows = [torch.tensor(pair[part], device=self.accelerator.device) for pair in pairs]  # type: ignore[attr-defined]
            padded[f"{name}_ids"] = pad(rows, batch_first=True, padding_side=side)
            ones = [torch.ones_like(row) for row in rows]
            padded[f"{name}_mask"] = pad(ones, batch_first=True, padding_side=side)
        return padded

    def _sft_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        expert, mask = inputs["expert_ids"], inputs["expert_mask"]
        log_probs, *_ = self._get_per_token_logps_and_entropies(  # type: ignore[attr-defined]
            model,
            torch.cat([inputs["asked_ids"], expert], dim=1),
            torch.cat([inputs["asked_mask"], mask], dim=1),
            expert.shape[1],
        )
        sft_loss = -(log_probs * mask).sum(dim=1).mean()
        self._metrics["train"]["sft_loss"].append(sft_loss.item())  # type: ignore[attr-defined]
        return sft_loss


class _Joint(_WithSft):
    """Adds weight * CE(d, p) to the loss of every step."""

    sft_weight: float

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)  # type: ignore[misc]
        return {**output, **self._experts(inputs)}

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        loss = super()._compute_loss(model, inputs)  # type: ignore[misc]
        return loss + self.sft_weight * self._sft_loss(model, inputs)


class _JointRLOO(_Joint, RLOOTrainer):
    pass


class _JointGRPO(_Joint, GRPOTrainer):
    pass


class _ByTurns(_WithSft, RLOOTrainer):
    """RL and SFT steps in cycles; SFT draws no responses."""

    cycle: tuple[int, int]

    @property
    def _is_rl(self) -> bool:
        rl, sft = self.cycle
        return self.state.global_step % (rl + sft) < rl

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._is_rl:
            return super()._generate_and_score_completions(inputs)
        return self._experts(inputs)

    def _compute_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Tensor:
        if self._is_rl:
            return super()._compute_loss(model, inputs)
        return self._sft_loss(model, inputs)


class _WithWeights(DataCollatorForLanguageModeling):
    """Keeps the weights of the rows."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        weights = torch.tensor([row["weight"] for row in examples], dtype=torch.float64)
        return {**super().torch_call(examples), "weight": weights}


class _WeightedSft(SFTTrainer):
    """Minimises the average over responses, not tokens, of weight times -log p(response)."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        weights = inputs.pop("weight")
        outputs = model(**inputs, use_cache=False, fused_lm_head=True)
        log_p = outputs.log_probs.sum(dim=1)  # zero on the prompt
        return -(weights.to(log_p.dtype) * log_p).mean()


# By whether it is RLOO, and whether SFT's loss is added.
RL_TRAINERS = {
    (True, False): RLOOTrainer,
    (True, True): _JointRLOO,
    (False, False): GRPOTrainer,
    (False, True): _JointGRPO,
}


def _common(
    config: SampledConfiguration, place: Path, steps: int, rate: float, batch: int
) -> dict[str, Any]:
    return {
        "output_dir": str(place),
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARM_UP_SHARE,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": not torch.cuda.is_available(),
        "save_steps": config.checkpoint_every,
        "save_total_limit": 2,
        "logging_steps": _logging_steps(config, steps),
        "report_to": "none",
        "disable_tqdm": True,
        "seed": config.seed,
    }


def sft_trainer(
    language_model: LanguageModel,
    rows: Dataset,
    config: SampledConfiguration,
    place: Path,
    steps: int,
    processes: Processes,
) -> SFTTrainer:
    """The trainer of SFT; of weighted SFT, at RL's learning rate, if the rows carry weights."""
    weighted = "weight" in rows.column_names
    if weighted:
        size = "--rl-prompts x --generations, or the best of them,"
        rate, batch = config.rl_rate, processes.share_of(len(rows) // steps, size)
    else:
        rate, batch = config.sft_rate, processes.share_of(config.sft_batch, "--sft-batch")
    tokenizer = language_model.tokenizer
    return (_WeightedSft if weighted else SFTTrainer)(
        model=language_model.model,
        args=SFTConfig(
            **_common(config, place, steps, rate, batch),
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
            max_length=None,
            remove_unused_columns=not weighted,
        ),
        data_collator=_WithWeights(tokenizer.pad_token_id) if weighted else None,
        train_dataset=rows,
        processing_class=tokenizer,
    )


def rl_trainer(
    language_model: LanguageModel,
    rows: Dataset,
    reward: CheckedReward,
    config: SampledConfiguration,
    place: Path,
    steps: int,
    processes: Processes,
) -> RLOOTrainer | GRPOTrainer:
    """The trainer of ``config.rl``, joint if the rows carry experts' responses, or of alternation in its order.

    ref is the model as it is.
    """
    by_turns, joint = config.order == ALTERNATE, "experts" in rows.column_names
    size = config.rl_prompts * config.generations
    batch = processes.share_of(size, "--rl-prompts x --generations")
    options: dict[str, Any] = {
        **_common(config, place, steps, config.rl_rate, batch),
        "beta": config.beta,
        "num_generations": config.generations,
        "generation_batch_size": size,
        "max_completion_length": config.max_tokens,
        "shuffle_dataset": False,
        **TRL_OPTIONS[config.rl],
        **(WITHOUT_A_LEASH if by_turns else {}),
    }
    if options["beta"]:
        _keep_reference(language_model, place, processes)
    rloo = config.rl == "rloo"
    trainer = (_ByTurns if by_turns else RL_TRAINERS[rloo, joint])(
        model=language_model.model,
        reward_funcs=reward,
        args=(RLOOConfig if rloo else GRPOConfig)(**options),
        train_dataset=rows,
        processing_class=language_model.tokenizer,
    )
    if by_turns:
        trainer.cycle = config.cycle()
    elif joint:
        trainer.sft_weight = config.weight
    return trainer


def _keep_reference(language_model: LanguageModel, place: Path, processes: Processes) -> None:
    """Write the model down where TRL looks for ref; with LoRA it copies the adapter instead."""
    if language_model.causal is not language_model.model:
        return
    folder = place / "ref"
    if processes.is_first:
        shutil.rmtree(folder, ignore_errors=True)
        language_model.causal.save_pretrained(folder)
    processes.wait()
    language_model.causal.config._name_or_path = str(folder)


class _Recorder(TrainerCallback):
    """Writes the training log as it comes, seals whole checkpoints, and tells how far the stage is."""

    def __init__(self, session: Session, stage: str, on_step: Callable[[int], None]) -> None:
        self.folder, self.processes = session.folder, session.processes
        self.stage, self.on_step = stage, on_step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.on_step(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Line | None = None,
        **kwargs: Any,
    ) -> None:
        kept = {
            name: value
            for name, value in (logs or {}).items()
            if not any(word in name for word in NOT_RECORDED)
        }
        # What a trainer says when it ends is about the steps since the last log: none, if it was resumed there.
        if kept and state.global_step % int(args.logging_steps) == 0:
            self.folder.record({"stage": self.stage, "step": state.global_step, **kept})

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.processes.wait()  # each has written its own random numbers
        if self.folder.writes:
            place = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            files = sorted(path for path in place.rglob("*") if path.is_file())
            digests = {str(path.relative_to(place)): file_digest(path) for path in files}
            about = {"metrics_bytes": self.folder.metrics_bytes, "files": digests}
            replace_file(place / COMPLETE, json.dumps(sealed(COMPLETE, about)).encode())


def train_to_the_end(
    trainer: StageTrainer,
    config: SampledConfiguration,
    language_model: LanguageModel,
    session: Session,
    stage: str,
    on_step: Callable[[int], None],
) -> int:
    """Train from the newest whole checkpoint, or from the start; the model is the policy afterwards.

    Returns how many steps this session trained.
    """
    folder = session.folder
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Recorder(session, stage, on_step))
    place = Path(str(trainer.args.output_dir))
    mine = newest_checkpoint(place) if session.processes.is_first else None
    found = session.processes.from_first(mine)
    checkpoint = None
    if found is None:
        folder.forget_records_from(stage, planned(config))
    else:
        checkpoint, metrics_bytes = found
        folder.cut_metrics(metrics_bytes, planned(config))
        if session.processes.is_first:
            folder.records(planned(config))
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        if any(words in str(error) for words in DISK_IS_FULL):
            raise RunError(
                f"a checkpoint of {stage} could not be written to {trainer.args.output_dir} ({error}); what was "
                "measured before is kept: make room, then go on with --resume"
            ) from error
        raise
    _leave_as_before(language_model)
    return trainer.state.global_step - (_step_of(checkpoint) if checkpoint else 0)


def newest_checkpoint(place: Path) -> tuple[Path, int] | None:
    """The checkpoint with the highest step that was written whole, and how long metrics.jsonl was then.

    Raises:
        RunFolderError: a file in it is missing or not what was written.
    """
    whole = [path.parent for path in place.glob(f"checkpoint-*/{COMPLETE}")]
    if not whole:
        return None
    newest = max(whole, key=_step_of)
    remedy = f"remove {newest}: --resume then goes on from before it"
    try:
        about = read_sealed_json(newest / COMPLETE)
    except RunFolderError as error:
        raise RunFolderError(f"{error}; {remedy}") from None
    for name, digest in about["files"].items():
        path = newest / name
        if not path.is_file() or file_digest(path) != digest:
            raise RunFolderError(f"{path} is damaged or missing; {remedy}")
    return newest, about["metrics_bytes"]


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _leave_as_before(language_model: LanguageModel) -> None:
    """Undo what trainers attach to a model: training mode, a patched forward, the adapter that was ref."""
    language_model.model.eval()
    vars(language_model.causal).pop("forward", None)
    if hasattr(language_model.model, "peft_config") and "ref" in language_model.model.peft_config:
        language_model.model.delete_adapter("ref")
