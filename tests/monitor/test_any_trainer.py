"""A monitor in trainers of transformers and TRL: what reaches their trackers, and what cannot be measured there."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install nondecoupling[lm]")
transformers = pytest.importorskip("transformers", reason="pip install nondecoupling[lm]")
pytest.importorskip("accelerate", reason="pip install nondecoupling[lm]")

from tiny_start import WORDS, collected_in, says_yes  # noqa: E402

from nondecoupling.forecast import Forecast  # noqa: E402
from nondecoupling.lm import load_model  # noqa: E402
from nondecoupling.monitor import CouplingMonitor, SamplingDiffers  # noqa: E402

PROMPTS = [f"Is {thing} {word}?" for thing in ("snow", "coal") for word in "abcdefgh"]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    return collected_in(tmp_path_factory.mktemp("start"), PROMPTS)


@pytest.fixture
def monitor_of(collected, curves):
    def made(source=None, **options):
        monitor = CouplingMonitor(collected.file if source is None else source, **options)
        monitor.prices = curves  # of other samples: what rewards cost plays no part here
        return monitor

    return made


class Tracker(transformers.TrainerCallback):
    """What a tracker gets: between the first step and the end of the training."""

    def __init__(self):
        self.logged, self.closed = [], False

    def on_log(self, args, state, control, logs=None, **kwargs):
        assert not self.closed
        self.logged.append((state.global_step, dict(logs)))

    def on_train_end(self, args, state, control, **kwargs):
        self.closed = True

    @property
    def coupling(self):
        """(step, metrics) of each reading."""
        found = [
            (step, {name: value for name, value in logs.items() if name.startswith("coupling/")})
            for step, logs in self.logged
        ]
        return [(step, logs) for step, logs in found if logs]


class Rewarded(transformers.Trainer):
    """Calls the reward function before each step, and logs its metrics with the step's, as TRL does."""

    def __init__(self, reward, **options):
        super().__init__(**options)
        self.reward, self.metrics, self.pending = reward, {}, {}

    def _log_metric(self, name, value):
        self.pending[name] = value

    def _prepare_inputs(self, inputs):
        ids = [[*self.processing_class(text)["input_ids"]] for text in WORDS * 2]
        self.reward(
            prompts=PROMPTS[:2] * 2,
            completions=WORDS * 2,
            completion_ids=ids,
            log_metric=self._log_metric,
        )
        self.metrics, self.pending = self.pending, {}
        return super()._prepare_inputs(inputs)

    def log(self, logs, *given):
        super().log(logs | self.metrics, *given)
        self.metrics = {}


def trainer_of(collected, tmp_path, monitor, kind=transformers.Trainer, callbacks=(), **options):
    model = load_model(collected.folder)
    ids = model.tokenizer(PROMPTS[0] + WORDS[0])["input_ids"]
    row = {"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)}
    tracker = Tracker()  # before the monitor, as trackers are
    trainer = kind(
        model=model.model,
        args=transformers.TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=options.pop("max_steps", 3),
            per_device_train_batch_size=1,
            learning_rate=1e-2,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            seed=0,
        ),
        train_dataset=[row] * 8,
        callbacks=[tracker, monitor.callback, *callbacks],
        **({"processing_class": model.tokenizer} | options),
    )
    return trainer, tracker


def test_a_plain_trainer_is_watched_by_its_loss(collected, monitor_of, tmp_path):
    monitor = monitor_of(every=2, probe=64)
    trainer, _ = trainer_of(collected, tmp_path, monitor)
    trainer.train()
    assert [reading.step for reading in monitor.readings] == [2, 3]
    assert monitor.readings[0].sft_loss_rise.value > 0.01


@pytest.mark.parametrize(("steps", "readings"), [(1, [1]), (2, [1]), (3, [1, 3])])
def test_trackers_get_every_reading_and_that_of_the_last_window(
    collected, monitor_of, tmp_path, steps, readings
):
    monitor = monitor_of(every=2, probe=64)
    options = {"kind": Rewarded, "reward": monitor.wrap(says_yes), "max_steps": steps}
    trainer, tracker = trainer_of(collected, tmp_path, monitor, **options)
    trainer.train()
    assert len(monitor.readings) == len(readings)
    for (step, logged), reading in zip(tracker.coupling, monitor.readings, strict=True):
        assert logged == reading.metrics() and "coupling/sft_loss_rise" in logged
        assert step in (reading.step, reading.step + 1)  # a step is logged at its end
    assert "train_runtime" in trainer.state.log_history[-1]  # where one looks for the summary
    assert tracker.closed


class Stops(transformers.TrainerCallback):
    """After the monitor has been called, as a late callback of a user."""

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_training_stop = True


def test_the_last_window_is_logged_before_trackers_close_whatever_ends_the_training(
    collected, monitor_of, tmp_path
):
    monitor = monitor_of(every=20, probe=64)
    options = {"kind": Rewarded, "reward": monitor.wrap(says_yes), "max_steps": 20}
    trainer, tracker = trainer_of(collected, tmp_path, monitor, callbacks=[Stops()], **options)
    trainer.train()
    assert trainer.state.global_step == 8  # an epoch
    ((step, logged),) = tracker.coupling
    assert step == 8 and logged == monitor.readings[0].metrics()


@pytest.mark.parametrize("kind", ["samples", "forecast"])
def test_samples_without_responses_measure_no_loss_and_say_so(
    collected, monitor_of, samples, tmp_path, caplog, kind
):
    source = samples if kind == "samples" else Forecast(samples, [], [], delta=0.05)
    monitor = monitor_of(source)
    trainer, _ = trainer_of(collected, tmp_path, monitor, max_steps=1)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    (said,) = [r.getMessage() for r in caplog.records if "coupling monitor" in r.getMessage()]
    assert "measures nothing" in said and "SFT loss" in said and "lm.collect" in said
    assert monitor.readings == []
    caplog.clear()
    monitor = monitor_of(source)
    options = {"kind": Rewarded, "reward": monitor.wrap(says_yes), "max_steps": 1}
    with caplog.at_level(logging.WARNING):
        trainer_of(collected, tmp_path, monitor, **options)[0].train()
    (said,) = [r.getMessage() for r in caplog.records if "coupling monitor" in r.getMessage()]
    assert "only the reward" in said
    (reading,) = monitor.readings
    assert reading.reward is not None and reading.sft_loss_rise is None


@pytest.mark.parametrize("limit", ["loss_budget", "max_overpayment"])
def test_a_limit_that_nothing_can_cross_is_refused(collected, monitor_of, samples, tmp_path, limit):
    monitor = monitor_of(samples, **{limit: 0.5})
    options = {"kind": Rewarded, "reward": monitor.wrap(says_yes)}
    with pytest.raises(ValueError, match=rf"{limit}=0\.5 could never.*the file of lm\.collect"):
        trainer_of(collected, tmp_path, monitor, **options)[0].train()


def test_overpayment_without_rewards_is_refused(collected, monitor_of, tmp_path):
    monitor = monitor_of(max_overpayment=2)
    with pytest.raises(ValueError, match=r"max_overpayment=2 could never.*monitor\.wrap"):
        trainer_of(collected, tmp_path, monitor)[0].train()


def test_a_trainer_without_a_tokenizer_is_told_to_take_one(collected, monitor_of, tmp_path):
    for given, named in ((None, "None"), (SimpleNamespace(size=3), "namespace")):
        trainer, _ = trainer_of(collected, tmp_path, monitor_of(), processing_class=given)
        with pytest.raises(ValueError, match=rf"processing_class={named}.*processing_class=tok"):
            trainer.train()


def test_a_number_of_looks_that_cannot_be_read_is_named(collected, monitor_of, tmp_path):
    (tmp_path / "coupling_looks").write_text("3;")
    monitor = monitor_of()
    args = SimpleNamespace(output_dir=str(tmp_path))
    model = load_model(collected.folder)
    given = {"model": model.model, "processing_class": model.tokenizer}
    with pytest.raises(ValueError, match=r"coupling_looks holds '3;'.*delete it"):
        monitor.callback.on_train_begin(args, SimpleNamespace(global_step=5), None, **given)


@pytest.mark.slow  # a training with TRL
def test_trl_logs_the_last_window_to_its_trackers(collected, monitor_of, tmp_path):
    trl = pytest.importorskip("trl", reason="pip install trl")
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    model, tracker = load_model(collected.folder), Tracker()
    monitor = monitor_of(every=20)
    trainer = trl.GRPOTrainer(
        model=model.model,
        reward_funcs=monitor.wrap(says_yes),
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=2,
            logging_steps=10,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=datasets.Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=model.tokenizer,
        callbacks=[tracker, monitor.callback],
    )
    trainer.train()
    ((step, logged),) = tracker.coupling
    assert step == 3 and logged == monitor.readings[0].metrics()
    assert (
        np.isfinite(logged["coupling/reward"]) and "train_runtime" in trainer.state.log_history[-1]
    )


@pytest.mark.slow  # imports TRL
@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_trls_defaults_draw_from_the_policy(collected, monitor_of, tmp_path, name):
    trl = pytest.importorskip("trl", reason="pip install trl")
    made = getattr(trl, f"{name}Config")
    model, state = load_model(collected.folder), SimpleNamespace(global_step=0)
    own = {"do_sample": True, "top_k": 20, "top_p": 0.95, "temperature": 0.6}
    for option, value in (own | {"repetition_penalty": 1.05}).items():
        setattr(model.model.generation_config, option, value)
    given = {"model": model.model, "processing_class": model.tokenizer}
    settings = {"output_dir": str(tmp_path), "max_completion_length": 2, "use_cpu": True}
    for options, refused in (({}, None), ({"generation_kwargs": {"top_k": 1}}, "top_k=1 in gen")):
        monitor = monitor_of()
        monitor.wrap(says_yes)
        args = made(**settings, **options, bf16=False)
        if refused is None:
            monitor.callback.on_train_begin(args, state, None, **given)
            continue
        with pytest.raises(SamplingDiffers, match=refused):
            monitor.callback.on_train_begin(args, state, None, **given)
