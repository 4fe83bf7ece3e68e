"""A monitor inside a training: what it measures, what it refuses, and that the training does not notice."""

import logging
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install nondecoupling[lm]")
pytest.importorskip("transformers", reason="pip install nondecoupling[lm]")

from tiny_start import WORDS, collected_in, says_yes  # noqa: E402

from nondecoupling.lm import (  # noqa: E402
    CollectError,
    load_model,
    score_responses,
    tiny_qwen3,
    with_lora,
)
from nondecoupling.lm.scoring import log_probs  # noqa: E402
from nondecoupling.lm.tokens import PromptResponse  # noqa: E402
from nondecoupling.monitor import CouplingMonitor, SamplesOfAnotherModel, SamplingDiffers  # noqa: E402
from nondecoupling.monitor.limits import average_interval, share_of  # noqa: E402
from nondecoupling.recipes import Recipe  # noqa: E402

PROMPTS = [
    f"Is {thing} {word}?" for thing in ("snow", "coal", "sky", "sea") for word in "abcdefghijklmnop"
]


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A tiny model in a folder, and its samples."""
    made = collected_in(
        tmp_path_factory.mktemp("start"), PROMPTS, experts=[WORDS[0]] * len(PROMPTS)
    )
    assert 0 < made.found.rewards.mean() < 1
    return made


@pytest.fixture
def monitor_of(collected, curves):
    def made(**options):
        monitor = CouplingMonitor(collected.file, **options)
        monitor.prices = curves  # of other samples: what rewards cost plays no part here
        return monitor

    return made


class Training:
    """The hooks of a trainer, called by hand around the reward function, as TRL calls them."""

    def __init__(self, monitor, model, reward=says_yes, **options):
        self.callback, self.reward = monitor.callback, monitor.wrap(reward)
        self.args = SimpleNamespace(beta=0.1, temperature=1.0, max_completion_length=2, **options)
        self.state, self.control = SimpleNamespace(global_step=0), SimpleNamespace()
        self.model, self.logged = model, []
        self.control.should_training_stop = False

    def begin(self):
        given = {"model": self.model.model, "processing_class": self.model.tokenizer}
        self.model.model.train()
        self.callback.on_train_begin(self.args, self.state, self.control, **given)

    def generation(self, texts):
        """One generation of two responses to each prompt, and its step."""
        prompts = [prompt for prompt in PROMPTS[: len(texts) // 2] for _ in range(2)]
        ids = [
            [*self.model.tokenizer(text)["input_ids"], self.model.tokenizer.eos_token_id]
            for text in texts
        ]
        rewards = self.reward(
            prompts=prompts,
            completions=texts,
            completion_ids=ids,
            trainer_state=self.state,
            log_metric=lambda name, value: self.logged.append((name, value)),
        )
        self.state.global_step += 1
        self.callback.on_step_end(self.args, self.state, self.control)
        return rewards


TEXTS = [" yes", " no"] * 4


def test_a_window_gives_one_reading_of_what_was_drawn_and_scored(collected, monitor_of):
    model = load_model(collected.folder)
    monitor = monitor_of(every=4, probe=8 * len(PROMPTS))
    training = Training(monitor, model)
    training.begin()
    with torch.no_grad():
        model.model.lm_head.weight *= 1.3  # what a step of training does
    for number in range(1, 5):
        assert training.generation(TEXTS) == says_yes(TEXTS, TEXTS)
        assert len(monitor.readings) == (number == 4)
    (reading,) = monitor.readings
    # Every probe response was scored once in the window: the rise is that of scoring them all now.
    rise, kl = exact(collected, model)
    assert reading.sft_loss_rise.value == pytest.approx(rise[0], abs=1e-4)
    assert reading.expert_loss_rise == pytest.approx(rise[1], abs=1e-4)
    assert reading.kl_per_response == pytest.approx(kl, abs=1e-4)
    assert reading.reward.value == 0.5 and "16 prompts" in reading.reward.how
    assert dict(training.logged) == reading.metrics()
    assert model.model.training


@pytest.mark.parametrize(
    ("every", "probe", "at", "scored"),
    [
        (20, 2 * 64, [1, 3, 6, 8, 11, 13, 16, 18], 128),  # in the middle of eight stretches
        (3, 2 * 64, [0, 1, 2], 126),  # a part for each generation at most, of as many prompts each
        (20, 30, [1, 3, 6, 8, 11, 13, 16, 18], 16),
        (20, 1, [10], 2),  # one prompt, its response and its expert's
    ],
)
def test_the_probe_is_scored_in_equal_parts_by_policies_spread_over_the_window(
    collected, monitor_of, monkeypatch, every, probe, at, scored
):
    training = Training(monitor_of(every=every, probe=probe), load_model(collected.folder))
    training.begin()
    rows, score = [], training.callback._scores

    def counted(pairs):
        rows[-1] += len(pairs)
        return score(pairs)

    monkeypatch.setattr(training.callback, "_scores", counted)
    monkeypatch.setattr(training.callback, "_rollouts", lambda prompts, ids: [])
    for _ in range(2):  # windows
        rows.clear()
        for _ in range(every):
            rows.append(0)
            training.generation(TEXTS)
        assert [number for number, count in enumerate(rows) if count] == at
        assert {rows[number] for number in at} == {scored / len(at)}


def rising(collected, monitor):
    """A training whose rewards rise from 0 to 1 in a window, begun."""
    rewards = iter(np.linspace(0, 1, monitor.every).repeat(8).reshape(-1, 8).tolist())
    training = Training(monitor, load_model(collected.folder), lambda **given: next(rewards))
    training.begin()
    return training


def test_what_is_proved_sets_the_rise_against_rewards_of_the_same_policies(
    collected, monitor_of, monkeypatch
):
    monitor = monitor_of(every=20, probe=128)
    training = rising(collected, monitor)
    read, seen = monitor.read, []
    monkeypatch.setattr(monitor, "read", lambda *given: seen.append(given[-1]) or read(*given))
    for _ in range(20):
        training.generation(TEXTS)
    scored = np.array([1, 3, 6, 8, 11, 13, 16, 18])
    assert seen[0] == pytest.approx((scored / 19).repeat(4))
    (reading,) = monitor.readings
    high = average_interval(seen[0], (0, 1), share_of(monitor.delta, 1) / 2).high
    ceiling = monitor.prices.ceiling(high)
    assert reading.overpayment_proved == pytest.approx(reading.sft_loss_rise.low / ceiling)


def exact(collected, model):
    """Rises over the probe (four responses of each prompt, one of its expert), and mean log p/ref of TEXTS."""
    model.model.eval()
    pairs = []
    for row in range(len(PROMPTS)):
        prompt, responses = collected.found.tokens(row)
        pairs += [PromptResponse(prompt, response) for response in responses]
    own = collected.found.log_ref.ravel() - log_probs(model, pairs)
    start = load_model(collected.folder)
    expert = score_responses(start, PROMPTS, WORDS[:1] * len(PROMPTS)) - score_responses(
        model, PROMPTS, WORDS[:1] * len(PROMPTS)
    )
    prompts = [prompt for prompt in PROMPTS[:4] for _ in range(2)]
    kl = score_responses(model, prompts, TEXTS) - score_responses(start, prompts, TEXTS)
    model.model.train()
    return (own.mean(), expert.mean()), kl.mean()


def test_measuring_leaves_parameters_gradients_and_random_numbers_alone(collected, monitor_of):
    model = with_lora(load_model(collected.folder), rank=2)
    training = Training(monitor_of(every=1), model)
    training.begin()
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter += 0.05
            parameter.grad = torch.ones_like(parameter)
    before, state = model.state(), torch.get_rng_state()
    training.generation(TEXTS)
    assert training.logged and dict(training.logged)["coupling/kl_per_response"] != 0
    assert all(torch.equal(before[name], p) for name, p in model.trainable.items())
    assert all(bool((p.grad == 1).all()) for p in model.trainable.values())
    assert torch.equal(state, torch.get_rng_state())


def test_lora_starts_from_the_model_that_it_adapts(collected, monitor_of):
    model = with_lora(load_model(collected.folder), rank=2)
    monitor = monitor_of(every=1)
    training = Training(monitor, model)
    training.begin()
    training.generation(TEXTS)
    assert monitor.readings[0].kl_per_response == pytest.approx(0, abs=1e-5)
    assert monitor.readings[0].sft_loss_rise.value == pytest.approx(0, abs=1e-4)


def test_several_reward_functions_are_added_up_with_the_trainers_weights(collected, monitor_of):
    def none(prompts, **columns):
        return [None] * len(prompts)

    def half(prompts, **columns):
        return [0.5] * len(prompts)

    monitor = monitor_of(every=1)
    training = Training(
        monitor,
        load_model(collected.folder),
        [says_yes, none, half],
        reward_weights=[0.5, 9.0, 1.0],
    )
    functions = training.reward
    assert [f.__name__ for f in functions] == ["says_yes", "none", "half"]
    training.reward = lambda **given: [f(**given) for f in functions]
    training.begin()
    training.generation(TEXTS)
    assert monitor.readings[0].reward.value == pytest.approx(0.75)


def test_reward_functions_are_wrapped_together_or_not_at_all(collected, monitor_of):
    def other(prompts, **columns):
        return [0.5] * len(prompts)

    monitor = monitor_of()
    monitor.wrap(says_yes)
    with pytest.raises(ValueError, match=r"reward=other: .*wrap the whole list at once"):
        monitor.wrap(other)
    with pytest.raises(ValueError, match="at least one function"):
        monitor_of().wrap([])
    model = load_model(collected.folder)
    for functions in (says_yes, [says_yes, other, other]):
        with pytest.raises(ValueError, match=r"reward_weights has 2 weights.*in one list"):
            Training(monitor_of(), model, functions, reward_weights=[1.0, 2.0]).begin()


def test_rewards_of_several_processes_are_read_in_the_order_of_time(
    collected, monitor_of, monkeypatch
):
    monitor = monitor_of(every=12, probe=48)
    training = rising(collected, monitor)

    def with_another_process(items):
        """The same of other prompts."""
        rows = [item for item in items if isinstance(item, tuple)]
        other = {
            prompt: prompt * 2 if isinstance(prompt, str) else prompt + 1200
            for _, prompt, _ in rows
        }
        return [*items, *((when, other[prompt], value) for when, prompt, value in rows)]

    monkeypatch.setattr(training.callback.processes, "all_of", with_another_process)
    read, seen = monitor.read, []
    monkeypatch.setattr(monitor, "read", lambda *given: seen.append(given) or read(*given))
    for _ in range(12):
        training.generation(TEXTS)
    means, rise = seen[0][1:3]
    assert means.tolist() == np.linspace(0, 1, 12).repeat(8).tolist()
    assert len(rise) == 48
    assert seen[0][-2] == 1.0  # the reward of the last generation, for the gap that is proved


def test_an_alarm_stops_the_training_where_asked(collected, monitor_of):
    for action, stops in (("log", False), ("stop", True)):
        model = load_model(collected.folder)
        training = Training(monitor_of(every=1, loss_budget=0.01, on_alarm=action), model)
        training.begin()
        with torch.no_grad():
            model.model.lm_head.weight *= -1
        training.generation(TEXTS)
        assert dict(training.logged)["coupling/alarm"] == 1
        assert training.control.should_training_stop is stops


def test_evaluations_are_not_counted(collected, monitor_of):
    model = load_model(collected.folder)
    monitor = monitor_of(every=1)
    training = Training(monitor, model)
    training.begin()
    model.model.eval()
    training.generation(TEXTS)
    assert monitor.readings == [] and training.logged == []


def test_a_bad_reward_costs_a_reading_and_not_the_training(collected, monitor_of, caplog):
    model = load_model(collected.folder)
    monitor = monitor_of(every=1)
    training = Training(monitor, model, lambda prompts, **_: [7.0] * len(prompts))
    training.begin()
    with caplog.at_level(logging.ERROR):
        assert training.generation(TEXTS) == [7.0] * 8
    assert monitor.readings == [] and "=7" in caplog.text
    silent = Training(monitor_of(every=1), model, lambda prompts, **_: [None] * len(prompts))
    silent.begin()
    silent.generation(TEXTS)
    assert "coupling/reward" not in dict(silent.logged)


def test_another_model_or_tokenizer_is_refused_before_the_first_step(collected, monitor_of):
    other = load_model(collected.folder)
    with torch.no_grad():
        other.model.lm_head.weight[0] += 0.1
    with pytest.raises(SamplesOfAnotherModel, match=r"another model .* digest"):
        Training(monitor_of(), other).begin()
    words = tiny_qwen3(PROMPTS[:3], seed=0)
    with pytest.raises(SamplesOfAnotherModel, match="another tokenizer"):
        Training(monitor_of(), words).begin()
    old = monitor_of()
    origin = old.collected.origin
    old.collected.origin = replace(origin, model_digest=origin.model_digest[2:])
    with pytest.raises(CollectError, match=r"made by an earlier version.*Collect again"):
        Training(old, load_model(collected.folder)).begin()


def test_a_training_that_goes_on_is_watched_without_its_start(collected, monitor_of):
    model = load_model(collected.folder)
    with torch.no_grad():
        model.model.lm_head.weight *= 1.3
    monitor = monitor_of(every=1)
    training = Training(monitor, model)
    training.state.global_step = 40
    training.begin()
    training.generation(TEXTS)
    (reading,) = monitor.readings
    assert reading.kl_per_response is None and reading.sft_loss_rise is not None
    assert "look 41" in reading.reward.how  # shares of looks before the interruption are spent


def test_the_number_of_a_look_never_comes_again(collected, monitor_of, tmp_path):
    """A training that went on after its last checkpoint, and goes on from it a second time."""
    looks = []
    for begins, steps in ((0, 3), (1, 2), (1, 1), (90, 1)):
        monitor = monitor_of(every=1, probe=1)
        training = Training(monitor, load_model(collected.folder), output_dir=str(tmp_path))
        if begins:
            training.callback._require_start = lambda *given: None
        training.state.global_step = begins
        training.begin()
        for _ in range(steps):
            training.generation(TEXTS[:2])
        looks += [reading.reward.how.rpartition("look ")[2] for reading in monitor.readings]
    assert looks == ["1", "2", "3", "4", "5", "6", "91"]
    assert [file.name for file in tmp_path.iterdir()] == ["coupling_looks"]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("temperature", 0.7, "temperature=0.7"),
        ("top_p", 0.9, "top_p=0.9"),
        ("top_k", 50, "top_k=50"),
        ("repetition_penalty", 1.1, "repetition_penalty=1.1"),
        ("max_completion_length", 64, "max_completion_length=64"),
        ("max_completion_length", None, "max_completion_length=None"),
        ("top_k", None, "top_k=50 by the generation_config of the model, or a default"),
        ("generation_kwargs", {"temperature": 0.05}, "temperature=0.05 in generation_kwargs: .*=1"),
        (
            "generation_kwargs",
            {"top_k": 1, "suppress_tokens": [4]},
            r"suppress_tokens=\[4\] in gen.*needs .*suppress_tokens=None",
        ),
        ("generation_kwargs", {"max_new_tokens": 1}, "max_new_tokens=1 in generation_kwargs, and"),
        ("chat_template_kwargs", {"enable_thinking": False}, "with {}: a chat that is rendered"),
    ],
)
def test_rollouts_of_another_law_are_refused(collected, monitor_of, name, value, named):
    training = Training(monitor_of(), load_model(collected.folder))
    setattr(training.args, name, value)
    with pytest.raises(SamplingDiffers, match=named):
        training.begin()


def test_a_law_of_the_models_generation_config_is_refused(collected, monitor_of):
    model = load_model(collected.folder)
    for name, value in (("top_k", 1), ("temperature", 0.7), ("max_length", 99)):
        setattr(model.model.generation_config, name, value)  # a trainer has its own
    options = {"top_k": 0, "min_p": None, "generation_kwargs": {"use_cache": False}}
    Training(monitor_of(), model, **options).begin()
    model.model.generation_config.min_p = 0.1
    with pytest.raises(SamplingDiffers, match=r"min_p=0\.1 by the generation_config of the model"):
        Training(monitor_of(), model, **options).begin()
    Training(monitor_of(), model, **options | {"use_vllm": True, "top_k": -1}).begin()


@pytest.mark.parametrize(
    "option",
    [
        {"generation_kwargs": {"frequency_penalty": 0.5}},
        {"vllm_structured_outputs_regex": "yes"},
    ],
)
def test_a_law_of_vllm_is_refused(collected, monitor_of, option):
    training = Training(monitor_of(), load_model(collected.folder), use_vllm=True, **option)
    with pytest.raises(SamplingDiffers, match=r"(frequency_penalty=0\.5|regex='yes')"):
        training.begin()


@pytest.mark.parametrize(
    ("by_vllm", "length", "refused"),
    [
        (True, 2, None),
        (True, 3, "max_tokens=3 in generation_kwargs, and"),
        (False, 2, "max_completion_length=64, and"),  # generate does not know the name
    ],
)
def test_max_tokens_is_the_length_of_vllm(collected, monitor_of, by_vllm, length, refused):
    options = {"use_vllm": by_vllm, "generation_kwargs": {"max_tokens": length}}
    training = Training(monitor_of(), load_model(collected.folder), **options)
    training.args.max_completion_length = 64
    if refused is None:
        training.begin()
    else:
        with pytest.raises(SamplingDiffers, match=refused):
            training.begin()


def test_chats_are_scored_as_they_were_rendered(collected, monitor_of):
    model, without = load_model(collected.folder), {"enable_thinking": False}
    model.tokenizer.chat_template = (
        "{{ messages[0].content }}{% if enable_thinking is false %} no{% endif %}"
    )
    chat, text = [{"role": "user", "content": PROMPTS[0]}], model.tokenizer(PROMPTS[0])["input_ids"]
    monitor = monitor_of()
    monitor.collected.origin = replace(monitor.collected.origin, chat_template_kwargs=without)
    training = Training(monitor, model, chat_template_kwargs=without)
    training.begin()
    (pair,) = training.callback._rollouts([chat], [[1]])
    assert pair.prompt == [*text, *model.tokenizer(" no")["input_ids"]]
    training.args.chat_template_kwargs = None
    with pytest.raises(SamplingDiffers, match=r"chat_template_kwargs={}, .*{'enable_thinking': F"):
        training.begin()


def test_a_training_is_told_that_its_recipe_has_no_path(collected, curves, caplog):
    recipe = Recipe("leave-one-out", "none", beta=0.0)
    monitor = CouplingMonitor(collected.file, recipe=recipe)
    monitor.prices = replace(curves, recipe=recipe)
    monitor.prices.prepare = lambda: None
    with caplog.at_level(logging.WARNING):
        Training(monitor, load_model(collected.folder)).begin()
    assert "no path of the recipe: the recipe is not supported: nothing holds" in caplog.text


def test_a_wrapped_reward_needs_the_callback(monitor_of):
    reward = monitor_of().wrap(says_yes)
    with pytest.raises(ValueError, match=r"monitor\.callback"):
        reward(prompts=["a"], completions=["b"], completion_ids=[[1]], log_metric=print)
    with pytest.raises(ValueError, match="signature"):
        monitor_of().wrap(3)


def test_a_trainer_without_rewards_is_watched_by_its_loss(collected, monitor_of):
    model = load_model(collected.folder)
    monitor = monitor_of(every=2)
    args, state, control = SimpleNamespace(), SimpleNamespace(global_step=0), SimpleNamespace()
    given = {"model": model.model, "processing_class": model.tokenizer}
    monitor.callback.on_train_begin(args, state, control, **given)
    with torch.no_grad():
        model.model.lm_head.weight *= 1.3
    for state.global_step in (1, 2):
        monitor.callback.on_step_end(args, state, control)
    (reading,) = monitor.readings
    assert reading.sft_loss_rise.value > 0 and reading.reward is None and reading.price is None
    assert math.isfinite(reading.expert_loss_rise) and "SFT loss" in str(reading)


def test_a_short_training_has_a_reading_and_its_cost_is_printed(collected, monitor_of, capsys):
    monitor = monitor_of(every=20)
    training = Training(monitor, load_model(collected.folder))
    training.begin()
    training.generation(TEXTS)
    training.callback.on_train_end(training.args, training.state, training.control)
    (reading,) = monitor.readings
    assert np.isfinite(reading.reward.value) and np.isfinite(reading.sft_loss_rise.value)
    assert reading.overpayment_proved is None  # of the policy that was scored there are no rewards
    assert "of the time of the training" in capsys.readouterr().out
