"""A monitor inside a training: between TRL, which draws rollouts, and the arrays that a monitor reads.

TRL's callbacks see neither rollouts nor rewards, and what they add to the logs reaches no tracker; its reward functions
get ``log_metric``, but not the model. So there is one object for both sides: the callback keeps the model, and the
wrapped reward function, called right after the rollouts were drawn, measures and logs.

A window of generations gives one reading. Its rewards are those of all rollouts in it; the probe, collected responses
of the start policy, is spread over it in eight equal parts, each scored by the policy in the middle of its stretch.
What is proved sets them against the rewards of these policies alone. KL(p||ref) is measured at its last generation,
with the trained parameters of the start exchanged for a moment: no second model is in memory, and the training is left
as if nobody had looked.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from transformers import Trainer, TrainerCallback

from nondecoupling.collected import CollectedSamples, prompt_label
from nondecoupling.estimate import cluster_means
from nondecoupling.estimate.arguments import Array, shown
from nondecoupling.lm import LanguageModel, model_digest, tokenizer_digest
from nondecoupling.lm.digests import require_known_scheme
from nondecoupling.lm.language_model import State
from nondecoupling.lm.processes import Processes
from nondecoupling.lm.rewards import checked_rewards, name_of, total_reward
from nondecoupling.lm.sampling import options_of_another_law
from nondecoupling.lm.scoring import log_probs
from nondecoupling.lm.tokens import PromptResponse, check_one_tokenisation, text_or_chat_tokens
from nondecoupling.monitor.readings import Reading
from nondecoupling.monitor.refusals import SamplesOfAnotherModel, SamplingDiffers

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from nondecoupling.monitor.monitors import CouplingMonitor

__all__ = ["Watch", "watch_of", "wrapped"]

logger = logging.getLogger(__name__)
ROWS_AT_ONCE = 32
# Of the probe in a window. One for each generation would be more calls of the network, each nearly as long.
PARTS = 8
COLLECTED = (
    "give the file of lm.collect, as CouplingMonitor('ref.parquet'), or its CollectedSamples: Samples and a Forecast "
    "hold rewards, but neither the responses nor whose they are"
)
# In the trainer's output_dir: the number of the last look, of which no checkpoint knows.
LOOKS = "coupling_looks"
# TRL's options of sampling that are called as those of ``generate``.
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True)
class ProbeRow:
    """A collected response with its log-probability under the start policy."""

    prompt: int
    pair: PromptResponse
    log_ref: float
    of_expert: bool


@dataclass
class Window:
    """What is gathered for one reading, in this process."""

    generations: int = 0
    # Generations whose policy scored a part of the probe.
    scored: list[int] = field(default_factory=list)
    # (generation, prompt, value), so that those of several processes can be put in the order of time.
    rewards: list[tuple[int, str, float]] = field(default_factory=list)
    rise: list[tuple[int, int, float]] = field(default_factory=list)
    expert_rise: list[float] = field(default_factory=list)


def watch_of(monitor: CouplingMonitor) -> Watch:
    """The one callback of a monitor."""
    if monitor.watch is None:
        monitor.watch = Watch(monitor)
    return cast(Watch, monitor.watch)


def wrapped(
    monitor: CouplingMonitor, reward: Callable[..., Any] | Sequence[Callable[..., Any]]
) -> Any:
    """See ``CouplingMonitor.wrap``."""
    functions = list(reward) if isinstance(reward, Sequence) else [reward]
    if not functions:
        raise ValueError("reward=[]: wrap at least one function")
    for function in functions:
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise ValueError(
                f"reward={shown(function)}: wrap a function in TRL's signature that is not async; a reward model may "
                "be called inside of one"
            )
    watch = watch_of(monitor)
    if watch.functions:
        raise ValueError(
            f"reward={', '.join(map(name_of, functions))}: this monitor has wrapped {watch.functions} before, and a "
            "generation's reward is the sum of all; wrap the whole list at once, reward_funcs=monitor.wrap([f, g]), "
            "and make a monitor for each trainer"
        )
    watch.functions = len(functions)
    around = [_around(watch, place, function) for place, function in enumerate(functions)]
    return around if isinstance(reward, Sequence) else around[0]


def _around(watch: Watch, place: int, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def rewarded(
        prompts: list[Any],
        completions: list[Any],
        log_metric: Callable[[str, float], None],
        **given: Any,
    ) -> Any:
        rewards = function(prompts=prompts, completions=completions, log_metric=log_metric, **given)
        watch.rewarded(place, function, rewards, prompts, given, log_metric)
        return rewards

    rewarded.__name__ = name_of(function)  # TRL names its metrics after it
    return rewarded


class Watch(TrainerCallback):
    """The callback of a monitor, and where its wrapped reward functions report."""

    def __init__(self, monitor: CouplingMonitor) -> None:
        self.monitor, self.functions, self._number = monitor, 0, 0
        self.model: LanguageModel | None = None
        self.stop = False
        self.seconds, self.seconds_before, self._began = 0.0, 0.0, 0.0
        self._window = Window()
        self._log_metric: Callable[[str, float], None] | None = None

    # --- what the trainer calls ------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check that model and sampling are those of the samples.

        Errors: ``SamplesOfAnotherModel``, ``SamplingDiffers``.
        """
        began = time.perf_counter()
        self.processes, self.args, self.step = Processes(), args, state.global_step
        collected, model = self.monitor.collected, kwargs["model"]
        if collected is None and self.processes.is_first:
            self._warn_of_no_loss()
        if self.monitor.prices.refusal is not None and self.processes.is_first:
            logger.warning(
                "the coupling monitor has no path of the recipe: %s", self.monitor.prices.refusal
            )
        self._require_limits_that_can_be_crossed()
        needed = collected is not None or self.functions > 0
        tokenizer = _tokenizer(kwargs.get("processing_class"), needed=needed)
        # Unlike from_transformers: collect has compared this architecture with its own logits, and here a trainer may
        # have made them those of mixed precision.
        self.model = LanguageModel(model, tokenizer, type(model).__name__)
        self._start: State | None = None
        self._probe: dict[int, list[ProbeRow]] = {}
        self._number = self._looks_before()
        if self.functions:
            _require_plain_sampling(args, self.model)
            if collected is not None:
                _require_same_prompts_and_lengths(args, collected)
            _require_weights(args, self.functions)
        if collected is not None:
            self._require_start(self.model, collected)
            self._probe = _probe(collected, self.monitor.probe, self.monitor.every)
            check_one_tokenisation(tokenizer, [p for p in collected.prompts[:16] if p[:1] != "["])
        if state.global_step == 0 and self.functions:
            trained = self.model.trainable.items()
            self._start = {name: p.detach().to("cpu", copy=True) for name, p in trained}
        self._window, self.stop = Window(), False
        self.monitor.prices.prepare()
        self._began = time.perf_counter()
        self.seconds, self.seconds_before = 0.0, self._began - began

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.step = state.global_step
        if not self.functions and self._probe:
            self._look(state.global_step)
        if self.stop:
            control.should_training_stop = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if control.should_training_stop:
            self._close_last()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        # The summary of a training that an evaluation has stopped. At its end, trackers may have closed their files.
        if "train_runtime" in (logs or {}):
            self._close_last()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._close_last()
        self._log_metric = None  # with it goes the trainer
        if self.processes.is_first:
            print(
                f"\ncoupling monitor: {self.share_of_time:.1%} of the time of the training, and "
                f"{self.seconds_before:.1f} s before it"
            )

    @property
    def share_of_time(self) -> float:
        """Of the training's time, from its first step on, what the monitor took."""
        return self.seconds / max(time.perf_counter() - self._began, 1e-9)

    # --- what the reward functions call ----------------------------------------------------------

    def rewarded(
        self,
        place: int,
        function: Callable[..., Any],
        rewards: Any,
        prompts: list[Any],
        given: dict[str, Any],
        log_metric: Callable[[str, float], None],
    ) -> None:
        """One function's rewards of one generation; the last function's come last."""
        if self.model is None:
            raise ValueError(
                "the reward function is wrapped by a monitor that the trainer does not know: add monitor.callback to "
                "its callbacks"
            )
        if not self.model.model.training:  # an evaluation
            return
        self._log_metric = log_metric
        if place == 0:
            self._given: list[Array] = []
        self._given.append(checked_rewards(rewards, len(prompts), name_of(function)))
        if place < self.functions - 1:
            return
        began = time.perf_counter()
        weights = getattr(self.args, "reward_weights", None) or [1.0] * self.functions
        total = total_reward(np.array(self._given), np.array(weights))
        self._add(prompts, total)
        if self._window.generations == self.monitor.every:
            pairs = self._rollouts(prompts, given["completion_ids"])
            reading = self._close(measure_kl=pairs)
            for name, value in ({} if reading is None else reading.metrics()).items():
                log_metric(name, value)
        self.seconds += time.perf_counter() - began

    # --- measuring -------------------------------------------------------------------------------

    def _look(self, step: int) -> None:
        """Of a trainer without rewards: a step counts as a generation."""
        began = time.perf_counter()
        self._add([], np.zeros(0))
        if self._window.generations == self.monitor.every:
            self._close(measure_kl=None)
        self.seconds += time.perf_counter() - began

    def _add(self, prompts: list[Any], rewards: Array) -> None:
        """The rewards of a generation, and the part of the probe that the present policy scores."""
        window = self._window
        if window.generations in self._probe:
            self._score(self._probe[window.generations])
            window.scored.append(window.generations)
        for prompt, reward in zip(prompts, rewards.tolist(), strict=True):
            if not math.isnan(reward):
                window.rewards.append((window.generations, prompt_label(prompt), reward))
        window.generations += 1

    def _score(self, part: list[ProbeRow]) -> None:
        window, mine = self._window, list(self.processes.share(part))
        scores = self._scores([row.pair for row in mine])
        for row, log_p in zip(mine, scores.tolist(), strict=True):
            if row.of_expert:
                window.expert_rise.append(row.log_ref - log_p)
            else:
                window.rise.append((window.generations, row.prompt, row.log_ref - log_p))

    def _close_last(self) -> None:
        """The last window, shorter than it should be: better than none."""
        if not self._window.generations:
            return
        began = time.perf_counter()
        if self._probe and not self._window.scored:  # by a policy that has no rewards
            self._score(next(iter(self._probe.values())))
        reading = self._close(measure_kl=None)
        self.seconds += time.perf_counter() - began
        if reading is None or self._log_metric is None:
            return
        trainer = getattr(self._log_metric, "__self__", None)
        if isinstance(trainer, Trainer):
            # TRL keeps what log_metric gets for the next generation, and there is none. Its own ``log`` would write the
            # last completions once more.
            Trainer.log(trainer, reading.metrics())
            return
        for name, value in reading.metrics().items():
            self._log_metric(name, value)

    def _rollouts(
        self, prompts: list[Any], completion_ids: list[list[int]]
    ) -> list[PromptResponse]:
        """As many of this generation as the probe has responses, as tokens."""
        assert self.model is not None
        most = -(-self.monitor.probe // self.processes.count)
        tokenizer, template = self.model.tokenizer, _template_kwargs(self.args)
        return [
            PromptResponse(text_or_chat_tokens(tokenizer, prompt, template), list(ids))
            for prompt, ids in list(zip(prompts, completion_ids, strict=True))[:most]
        ]

    def _close(self, measure_kl: list[PromptResponse] | None) -> Reading | None:
        """The reading of the window, the same in all processes; the next window begins."""
        window, self._window = self._window, Window()
        ratios = None if measure_kl is None else self._log_ratios(measure_kl)
        together = self.processes.all_of
        kl = None if ratios is None else _mean_of(together(ratios.tolist()))
        # In the order of time, which the limits need: what came before a generation is what its policy was made of.
        rewards = sorted(together(window.rewards), key=lambda row: row[0])
        rise = sorted(together(window.rise), key=lambda row: row[:2])
        last = [row for row in rewards if row[0] == window.generations - 1]
        beside = [row for row in rewards if row[0] in window.scored]
        experts = _mean_of(together(window.expert_rise))
        self._number += 1
        self._keep_number()
        try:
            reading = self.monitor.read(
                self.step,
                _prompt_means(rewards) if rewards else None,
                _by_prompt(rise) if rise else None,
                experts,
                kl,
                getattr(self.args, "beta", None) if last else None,
                self._number,
                float(_prompt_means(last).mean()) if last else None,
                _prompt_means(beside) if beside else None,
            )
        except ValueError as error:  # the same in all processes; a run is worth more than a reading
            logger.error("no reading at step %d: %s", self.step, error)
            return None
        if self.processes.is_first:
            logger.info("%s", reading)
        if reading.alarms and self.monitor.on_alarm == "stop":
            self.stop = True
        return reading

    def _looks_before(self) -> int:
        """At least as many as there were: also those after the checkpoint from which a stopped training goes on."""
        kept, step = self._looks_file, self.step
        looks = max(self.monitor.looks | {self._number})
        if step and kept is not None and self.processes.is_first and kept.is_file():
            looks = max(looks, _number_in(kept))
        # Each look comes after a step of its own at least.
        return max(int(self.processes.from_first(looks)), step)

    def _keep_number(self) -> None:
        """Before the look, so that none is made whose number could come again."""
        kept = self._looks_file
        if kept is None or not self.processes.is_first:
            return
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            new = kept.with_name(f"{LOOKS}.new")
            new.write_text(f"{self._number}\n")
            new.replace(kept)  # whole, whenever the training is killed
        except OSError as error:
            logger.warning("the number of looks could not be kept: %s", error)

    @property
    def _looks_file(self) -> Path | None:
        folder = getattr(self.args, "output_dir", None)
        return None if folder is None else Path(folder) / LOOKS

    def _scores(self, pairs: list[PromptResponse]) -> Array:
        """log p of each pair under the model as it is, in evaluation mode."""
        if not pairs:
            return np.zeros(0)
        assert self.model is not None
        model = self.model.model
        was_training = model.training
        model.eval()
        try:
            return log_probs(self.model, pairs, ROWS_AT_ONCE)
        finally:
            model.train(was_training)

    def _log_ratios(self, pairs: list[PromptResponse]) -> Array | None:
        """log p/ref, with the parameters of the start in the place of the present ones for a moment."""
        if self._start is None:
            return None
        assert self.model is not None
        log_p = self._scores(pairs)
        trained = self.model.trainable.items()
        present: State = {name: p.detach().to("cpu", copy=True) for name, p in trained}
        try:
            self.model.restore(self._start)
            log_ref = self._scores(pairs)
        finally:
            self.model.restore(present)
        return np.asarray(log_p - log_ref)

    def _warn_of_no_loss(self) -> None:
        measured = "only the reward, its prices and KL(p||ref)" if self.functions else "nothing"
        logger.warning(
            "the coupling monitor measures %s in this training: not the rise of the SFT loss, on own or expert data, "
            "not what was overpaid, nor whether the model is that of the samples; %s",
            measured,
            COLLECTED if self.functions else f"{COLLECTED}; in TRL also wrap the reward function",
        )

    def _require_limits_that_can_be_crossed(self) -> None:
        """A limit that nothing can cross would pass for a run that keeps it."""
        monitor, remedy = self.monitor, None
        if monitor.collected is None:
            remedy = f"the SFT loss, which is not measured; {COLLECTED}"
        for name, limit in (
            ("loss_budget", monitor.loss_budget),
            ("max_overpayment", monitor.max_overpayment),
        ):
            if name == "max_overpayment" and remedy is None and not self.functions:
                remedy = (
                    "rewards, which the callback does not see; wrap the reward function, reward_funcs=monitor.wrap(f), "
                    "or leave the limit out"
                )
            if limit is not None and remedy is not None:
                raise ValueError(
                    f"{name}={limit:g} could never raise an alarm in this training: it needs {remedy}"
                )

    def _require_start(self, model: LanguageModel, collected: CollectedSamples) -> None:
        origin = collected.origin
        if tokenizer_digest(model.tokenizer) != origin.tokenizer_digest:
            raise SamplesOfAnotherModel(
                f"the samples were collected with another tokenizer than that of {model.description}: collect them "
                f"from the model that the training starts from, or start from theirs ({origin.model})"
            )
        digest = model_digest(model)
        if self.step:
            logger.warning(
                "the training goes on at step %d: that it started from the model of the samples cannot be checked, and "
                "KL(p||ref) is not measured",
                self.step,
            )
            return
        require_known_scheme(origin.model_digest, "the file of the samples")
        if digest != origin.model_digest:
            raise SamplesOfAnotherModel(
                f"the samples were collected from another model ({origin.model}, digest {origin.model_digest[:12]}) "
                f"than the training starts from ({model.description}, digest {digest[:12]}), or with another version "
                "of transformers: collect samples from it"
            )


def _tokenizer(processor: Any, *, needed: bool) -> Any:
    """That of a trainer's ``processing_class``, which may be a processor with more than it."""
    tokenizer = getattr(processor, "tokenizer", processor)
    if needed and not hasattr(tokenizer, "get_vocab"):
        raise ValueError(
            f"processing_class={shown(processor)}: the trainer has no tokenizer that could be compared with that of "
            "the samples; make it with the one that lm.collect got, Trainer(..., processing_class=tokenizer)"
        )
    return tokenizer


def _number_in(kept: Path) -> int:
    text = kept.read_text()
    if not text.strip().isdecimal():
        raise ValueError(
            f"{kept} holds {shown(text)}, not the number of looks: delete it, and numbers go on from the step"
        )
    return int(text)


def _require_plain_sampling(args: TrainingArguments, model: LanguageModel) -> None:
    plain, further = model.plain_sampling(max_tokens=1), _further_options(args)
    given = {name: getattr(args, name, getattr(plain, name)) for name in SAMPLING} | further
    by_vllm = getattr(args, "use_vllm", False)
    regex = getattr(args, "vllm_structured_outputs_regex", None)
    if by_vllm and regex is not None:
        given["vllm_structured_outputs_regex"] = regex
    differ = options_of_another_law(model, given, by_generate=not by_vllm)
    if not differ:
        return
    found, needed = [], []
    for name, (value, own) in differ.items():
        place = " in generation_kwargs" if name in further else ""
        if given.get(name) is None:
            place = " by the generation_config of the model, or a default of generate"
        found.append(f"{name}={shown(value)}{place}")
        needed.append(f"{name}={own}")
    raise SamplingDiffers(
        f"{', '.join(found)}: rollouts are not drawn from the policy itself, so that their rewards and KL are not the "
        f"policy's; a monitored run needs {', '.join(needed)}"
    )


def _require_same_prompts_and_lengths(args: TrainingArguments, collected: CollectedSamples) -> None:
    origin = collected.origin
    longest = getattr(args, "max_completion_length", origin.max_tokens)
    said = f"max_completion_length={longest}"
    name = "max_tokens" if getattr(args, "use_vllm", False) else "max_new_tokens"
    if name in (further := _further_options(args)):
        longest = further[name]
        said = f"{name}={longest} in generation_kwargs"
    if longest != origin.max_tokens:
        raise SamplingDiffers(
            f"{said}, and the samples were collected with max_tokens={origin.max_tokens}: a response that is "
            "cut elsewhere is another response; use one length"
        )
    template = _template_kwargs(args)
    if template != origin.chat_template_kwargs:
        raise SamplingDiffers(
            f"chat_template_kwargs={shown(template)}, and the samples were collected with "
            f"{shown(origin.chat_template_kwargs)}: a chat that is rendered otherwise is another prompt; give both the "
            "same, lm.collect(..., chat_template_kwargs=...)"
        )


def _further_options(args: TrainingArguments) -> dict[str, Any]:
    """What TRL puts over all of its options."""
    return getattr(args, "generation_kwargs", None) or {}


def _template_kwargs(args: TrainingArguments) -> dict[str, Any]:
    return getattr(args, "chat_template_kwargs", None) or {}


def _require_weights(args: TrainingArguments, functions: int) -> None:
    weights = getattr(args, "reward_weights", None)
    if weights is not None and len(weights) != functions:
        raise ValueError(
            f"reward_weights has {len(weights)} weights, and the monitor has wrapped {functions} reward functions: "
            "wrap all of the trainer's in one list, reward_funcs=monitor.wrap([f, g])"
        )


def _probe(collected: CollectedSamples, size: int, every: int) -> dict[int, list[ProbeRow]]:
    """By generation of a window, in the middle of equal stretches of it; as many prompts in each.

    Prompts in a random order of fixed seed: one response of each, more where there are few; and an expert's.
    """
    order = np.random.default_rng(0).permutation(len(collected.prompts))
    kinds = 2 if collected.has_experts else 1
    count = min(len(order), max(1, size // kinds))
    parts = min(every, PARTS, count)
    order = order[: count - count % parts]
    each = max(1, min(collected.origin.responses, size // (kinds * len(order))))
    generations = [(2 * part + 1) * every // (2 * parts) for part in range(parts)]
    spread: dict[int, list[ProbeRow]] = {generation: [] for generation in generations}
    for number, row in enumerate(order.tolist()):
        rows = spread[generations[number % parts]]
        prompt, responses = collected.tokens(row)
        for response, log_ref in list(zip(responses, collected.log_ref[row], strict=True))[:each]:
            rows.append(ProbeRow(number, PromptResponse(prompt, response), float(log_ref), False))
        if collected.has_experts:
            _, experts = collected.tokens(row, experts=True)
            log_ref = collected.table["expert_log_ref"][row].as_py()[0]
            rows.append(ProbeRow(number, PromptResponse(prompt, experts[0]), log_ref, True))
    return spread


def _prompt_means(rows: list[tuple[int, str, float]]) -> Array:
    """[prompts], in order: one that comes again in a later generation is answered by another policy."""
    prompts = [f"{generation}/{prompt}" for generation, prompt, _ in rows]
    return np.asarray(cluster_means([reward for *_, reward in rows], prompts))


def _by_prompt(scored: list[tuple[int, int, float]]) -> Array:
    """[prompts, responses], in order."""
    rows: dict[int, list[float]] = {}
    for _, prompt, value in scored:
        rows.setdefault(prompt, []).append(value)
    return np.array(list(rows.values()))


def _mean_of(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
