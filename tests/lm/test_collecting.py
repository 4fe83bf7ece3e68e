"""Collecting samples of a start policy: what is in the file, and that nothing drawn is ever lost."""

import functools
import json
import math
import threading

import numpy as np
import pytest
import torch
from two_processes import in_two_processes
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.collected import CollectedSamples, Origin
from nondecoupling.forecast import Samples, forecast
from nondecoupling.lm import (
    CollectError,
    ProcessesError,
    ResponseError,
    RewardFunctionError,
    collect,
    collecting,
    file_locks,
    load_model,
    model_digest,
    score,
    score_responses,
    tiny_qwen3,
    tokenizer_digest,
    with_lora,
)
from nondecoupling.lm.function_digests import function_digest
from nondecoupling.lm.rewards import RewardFunctions

SETTINGS = {"k": 4, "reward_bounds": (0, 1), "max_tokens": 3, "rows_at_once": 4}


def says_yes(prompts, completions, **columns):
    return [float("yes" in text) for text in completions]


def test_the_file_is_what_the_model_said(tiny, tmp_path):
    experts = [[" yes.", " no."]] * len(PROMPTS)
    out = tmp_path / "ref.parquet"
    found = collect(
        tiny.model, tiny.tokenizer, PROMPTS, says_yes, experts=experts, out=out, **SETTINGS
    )
    assert found.prompts == PROMPTS and found.rewards.shape == (len(PROMPTS), 4)
    texts = found.table["response"].to_pylist()
    np.testing.assert_array_equal(found.rewards, [says_yes(row, row) for row in texts])
    prompt, responses = found.tokens(1)
    assert prompt == tiny.tokenizer(PROMPTS[1])["input_ids"]
    assert all(len(response) <= 3 for response in responses)
    expert = score_responses(tiny, [PROMPTS[1]] * 2, experts[1])
    np.testing.assert_allclose(found.table["expert_log_ref"][1].as_py(), expert, atol=1e-4)
    assert found.table["expert_reward"][1].as_py() == [1.0, 0.0]
    assert found.origin.model_digest == model_digest(tiny)
    assert not (tmp_path / "ref.parquet.parts").exists()


def test_log_ref_is_the_log_probability_of_what_was_drawn(tiny, tmp_path):
    found = collect(
        tiny.model, tiny.tokenizer, PROMPTS[:1], says_yes, out=tmp_path / "r.parquet", **SETTINGS
    )
    prompt, responses = found.tokens(0)
    for response, log_ref in zip(responses, found.log_ref[0], strict=True):
        with torch.no_grad():
            logits = tiny.model(torch.tensor([prompt + response])).logits[0].double()
        steps = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
        own = sum(steps[i, token].item() for i, token in enumerate(response))
        assert math.isclose(own, log_ref, abs_tol=1e-3)


def test_a_forecast_reads_the_file(tiny, tmp_path):
    prompts = [f"{prompt}{' yes.' * extra}" for prompt in PROMPTS for extra in range(4)]
    settings = SETTINGS | {"k": 8, "rows_at_once": 64}

    def ends(prompts, completion_ids, **columns):
        return [float(len(ids) < 3) for ids in completion_ids]

    out = tmp_path / "ref.parquet"
    experts = [" yes."] * len(prompts)
    found = collect(
        tiny.model, tiny.tokenizer, prompts, ends, experts=experts, out=out, **settings
    ).samples()
    columns = dict(
        expert_reward="expert_reward", log_prob="log_ref", expert_log_prob="expert_log_ref"
    )
    read = Samples.from_parquet(out, reward_bounds=(0, 1), **columns)
    assert found.to_dict() == read.to_dict()
    assert 0 < forecast(found).at_start().own_loss.value < 3 * math.log(len(tiny.tokenizer))


@pytest.mark.parametrize(("value", "expected"), [(1e-6, 0.0), (-math.inf, None)])
def test_log_probabilities_that_are_rounded_or_infinite(tiny, tmp_path, value, expected):
    """What is certain may round to above 0; without finite ones the rewards still make samples."""
    prompts = [f"{prompt}{' yes.' * extra}" for prompt in PROMPTS for extra in range(4)]
    settings = SETTINGS | {"rows_at_once": 64}
    out = tmp_path / "ref.parquet"
    found = collect(
        tiny.model, tiny.tokenizer, prompts, lambda completion_ids, **_: [len(y) for y in completion_ids],
        out=out, **settings | {"reward_bounds": (0, 3)},
    )  # fmt: skip
    values = found.log_ref.copy()
    values[0, 0] = value
    place = found.table.column_names.index("log_ref")
    table = found.table.set_column(place, "log_ref", [values.tolist()])
    samples = CollectedSamples(table, found.origin).samples()
    if expected is None:
        assert samples.ref_log_probs is None
    else:
        assert samples.ref_log_probs[0, 0] == expected


def test_two_calls_into_one_file_are_not_at_it_at_once(tiny, tmp_path):
    """The second would ask its own reward function, and the first read these rewards as its own."""
    out, refused = tmp_path / "ref.parquet", []

    def another(prompts, **columns):
        return [0.0] * len(prompts)

    def meanwhile(prompts, completions, **columns):
        if not refused:
            with pytest.raises(
                CollectError, match=r"ref\.parquet\.parts/lock: another call"
            ) as told:
                collect(tiny.model, tiny.tokenizer, PROMPTS, another, out=out, **SETTINGS)
            refused.append(told)
        return says_yes(prompts, completions)

    found = collect(tiny.model, tiny.tokenizer, PROMPTS, meanwhile, out=out, **SETTINGS)
    texts = found.table["response"].to_pylist()
    np.testing.assert_array_equal(found.rewards, [says_yes(row, row) for row in texts])
    assert refused and [path.name for path in tmp_path.iterdir()] == ["ref.parquet"]


def test_a_file_that_another_call_has_just_made_is_not_written_over(tiny, tmp_path, monkeypatch):
    out, waited = tmp_path / "ref.parquet", []

    class Waits(file_locks.FileLock):
        def acquire(self, *args, **options):
            if not waited:
                waited.append(True)
                collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
            return super().acquire(*args, **options)

    monkeypatch.setattr(file_locks, "FileLock", Waits)
    settings = SETTINGS | {"k": 3}
    with pytest.raises(CollectError, match="another call has just made it; call collect again"):
        collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **settings)
    assert CollectedSamples.read(out).rewards.shape == (len(PROMPTS), 4)
    assert [path.name for path in tmp_path.iterdir()] == ["ref.parquet"]


@pytest.mark.parametrize("told", [1.0, torch.zeros(1)])
def test_rewards_that_a_killed_call_writes_late_are_not_read(tiny, tmp_path, told):
    """Its other processes outlive the one that held the lock."""
    out, parts = tmp_path / "ref.parquet", tmp_path / "ref.parquet.parts"

    def half(prompts, given=told, **columns):
        if prompts[0] == PROMPTS[-1]:
            raise ValueError
        return [0.5] * len(prompts)

    with pytest.raises(RewardFunctionError):
        collect(tiny.model, tiny.tokenizer, PROMPTS, half, out=out, **SETTINGS)
    late = {part: part.read_text() for part in parts.glob("*.rewarded.json")}
    assert len(late) == len(PROMPTS) - 1

    def meanwhile(prompts, completions, given=told, **columns):
        for part, text in late.items():
            part.write_text(text)
        return says_yes(prompts, completions)

    found = collect(tiny.model, tiny.tokenizer, PROMPTS, meanwhile, out=out, **SETTINGS)
    texts = found.table["response"].to_pylist()
    np.testing.assert_array_equal(found.rewards, [says_yes(row, row) for row in texts])


@pytest.mark.parametrize("content", ["{", '{"format": "nondecoupling samples 1", "seed": 0}'])
def test_settings_that_cannot_be_read_are_named(tiny, tmp_path, content):
    parts = tmp_path / "ref.parquet.parts"
    parts.mkdir()
    (parts / "origin.json").write_text(content)
    with pytest.raises(CollectError, match=rf"origin\.json is damaged, or .*remove {parts}, and"):
        collect(
            tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=tmp_path / "ref.parquet", **SETTINGS
        )


def test_a_file_that_is_no_samples_is_not_written_over(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    out.write_text("mine")
    with pytest.raises(CollectError, match=r"cannot be read .*: name another out, or remove it"):
        collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
    assert out.read_text() == "mine"


def test_a_damaged_part_is_named(tiny, tmp_path):
    parts = tmp_path / "ref.parquet.parts"
    parts.mkdir()
    (parts / "00000000.drawn.json").write_text("{")
    with pytest.raises(CollectError, match=r"00000000\.drawn\.json is damaged .*remove it"):
        collect(
            tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=tmp_path / "ref.parquet", **SETTINGS
        )


class StopsAfter:
    """A reward function that fails, or is interrupted, after some calls."""

    def __init__(self, calls, error):
        self.calls, self.error = calls, error

    def __call__(self, prompts, completions, **columns):
        self.calls -= 1
        if self.calls < 0:
            raise self.error
        return says_yes(prompts, completions)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("x/0"), MemoryError()])
@pytest.mark.parametrize("calls", [0, 2])
def test_an_interrupted_call_goes_on_and_makes_the_same_file(tiny, tmp_path, error, calls):
    whole, halves = tmp_path / "whole.parquet", tmp_path / "halves.parquet"
    collect(tiny.model, tiny.tokenizer, PROMPTS, StopsAfter(99, error), out=whole, **SETTINGS)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else RewardFunctionError
    with pytest.raises(expected):
        collect(
            tiny.model, tiny.tokenizer, PROMPTS, StopsAfter(calls, error), out=halves, **SETTINGS
        )
    assert not halves.exists()
    collect(tiny.model, tiny.tokenizer, PROMPTS, StopsAfter(99, error), out=halves, **SETTINGS)
    assert halves.read_bytes() == whole.read_bytes()


BAD = {
    "raised KeyError": lambda prompts, **_: {}["answer"],
    "is nan": lambda prompts, **_: [math.nan] * len(prompts),
    "is inf": lambda prompts, **_: [math.inf] * len(prompts),
    "is 2; give a number within reward_bounds=": lambda prompts, **_: [2.0] * len(prompts),
    "returned 1 rewards for 4": lambda prompts, **_: [1.0],
    "return one number for each": lambda prompts, **_: ["good"] * len(prompts),
    "returned None: return": lambda prompts, **_: None,
}


@pytest.mark.parametrize("named", BAD)
def test_a_bad_reward_loses_nothing(tiny, tmp_path, named, monkeypatch):
    out = tmp_path / "ref.parquet"
    with pytest.raises(RewardFunctionError, match="What was drawn is kept in") as caught:
        collect(tiny.model, tiny.tokenizer, PROMPTS[:1], BAD[named], out=out, **SETTINGS)
    assert named in str(caught.value)

    def forbidden(*args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(collecting, "draw", forbidden)
    found = collect(tiny.model, tiny.tokenizer, PROMPTS[:1], says_yes, out=out, **SETTINGS)
    assert found.rewards.shape == (1, 4)


def test_rewards_of_float32_at_a_bound_are_put_onto_it_and_no_others():
    """float32 has 0.1 as 0.10000000149; accuracy and 0.1 for the format are at most 1.1."""
    ones, tenths = (torch.full((2,), size).tolist() for size in (1.0, 0.1))
    both = [lambda prompts, **_: ones, lambda prompts, **_: tenths]
    given = (["p"] * 2, ["a", "b"], [[0], [1]], {})
    reward = RewardFunctions.of(both, None, (0, 1.1))
    np.testing.assert_array_equal(reward(*given), [1.1, 1.1])
    with pytest.raises(RewardFunctionError, match=r"is 1\.1; give a number within"):
        RewardFunctions.of(both, None, (0, 1.0999))(*given)


def test_another_reward_function_is_asked_about_everything(tiny, tmp_path):
    """Rewards of two functions must not end in one file."""
    out = tmp_path / "ref.parquet"
    with pytest.raises(RewardFunctionError):
        collect(
            tiny.model,
            tiny.tokenizer,
            PROMPTS,
            StopsAfter(2, ValueError()),
            out=out,
            **SETTINGS,
        )

    def always(prompts, **columns):
        return [0.5] * len(prompts)

    found = collect(tiny.model, tiny.tokenizer, PROMPTS, always, out=out, **SETTINGS)
    assert set(found.rewards.ravel()) == {0.5}


def test_other_settings_are_refused_before_anything_is_overwritten(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    first = collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
    before = out.read_bytes()
    again = collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
    np.testing.assert_array_equal(again.rewards, first.rewards)
    changes = {"responses": {"k": 5}, "seed": {"seed": 1}, "max_tokens": {"max_tokens": 2}}
    changes["reward_bounds"] = {"reward_bounds": (0, 2)}
    for named, change in changes.items():
        with pytest.raises(CollectError, match=f"{named} .* there, .* here"):
            collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **(SETTINGS | change))
    other = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=1)
    with pytest.raises(CollectError, match="model_digest"):
        collect(other.model, other.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
    assert out.read_bytes() == before


def test_parts_of_another_model_are_refused(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    with pytest.raises(RewardFunctionError):
        collect(
            tiny.model, tiny.tokenizer, PROMPTS, StopsAfter(1, ValueError()), out=out, **SETTINGS
        )
    other = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=1)
    with pytest.raises(CollectError, match=r"parts was made with other settings \(model"):
        collect(other.model, other.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)


def test_rows_bring_columns_and_several_functions_are_added_up(tiny, tmp_path):
    rows = [
        {"prompt": prompt, "answer": "yes" if i % 2 else "no"} for i, prompt in enumerate(PROMPTS)
    ]
    seen = []

    def right(prompts, completions, answer, log_metric, trainer_state, **columns):
        log_metric("right", 1.0)
        assert trainer_state.global_step == 0
        seen.extend(answer)
        return [float(word in text) for word, text in zip(answer, completions, strict=True)]

    def silent(prompts, **columns):
        return [None] * len(prompts)

    found = collect(
        tiny.model,
        tiny.tokenizer,
        rows,
        [right, says_yes, silent],
        reward_weights=[0.5, 0.25, 9.0],
        out=tmp_path / "ref.parquet",
        **SETTINGS,
    )
    texts = found.table["response"].to_pylist()
    expected = [
        [0.5 * (row["answer"] in y) + 0.25 * ("yes" in y) for y in some]
        for row, some in zip(rows, texts, strict=True)
    ]
    np.testing.assert_allclose(found.rewards, expected)
    assert seen == [row["answer"] for row in rows for _ in range(4)]


def test_chats_are_rendered_and_answered_by_messages(tmp_path):
    chat = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=0)
    chat.tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]

    def reward(prompts, completions, **columns):
        assert all(prompt[0]["role"] == "user" for prompt in prompts)
        return [float("yes" in completion[0]["content"]) for completion in completions]

    found = collect(
        chat.model, chat.tokenizer, prompts, reward, out=tmp_path / "ref.parquet", **SETTINGS
    )
    assert found.tokens(0)[0] == chat.tokenizer(PROMPTS[0])["input_ids"]


def test_the_template_of_chats_gets_its_arguments_and_the_file_names_them(tmp_path):
    chat = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=0)
    chat.tokenizer.chat_template = (
        "{{ messages[0].content }}{% if enable_thinking is false %} no{% endif %}"
    )
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    settings = SETTINGS | {"experts": [" yes"] * len(PROMPTS), "out": tmp_path / "ref.parquet"}

    def reward(prompts, **columns):
        return [0.5] * len(prompts)

    without = {"enable_thinking": False}
    found = collect(
        chat.model, chat.tokenizer, prompts, reward, chat_template_kwargs=without, **settings
    )
    prompt, (expert,) = found.tokens(0, experts=True)
    ids = [*prompt, *expert[:-1]]
    assert chat.tokenizer.decode(ids) == f"{PROMPTS[0]} no yes"
    assert CollectedSamples.read(tmp_path / "ref.parquet").origin.chat_template_kwargs == without
    with pytest.raises(CollectError, match=r"chat_template_kwargs {'enable_thinking': F.* {} here"):
        collect(chat.model, chat.tokenizer, prompts, reward, **settings)


def test_a_file_without_arguments_of_the_template_had_none(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    found = collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)
    content = json.loads(found.origin.to_json())
    assert content.pop("chat_template_kwargs") == {}
    assert Origin.from_json(json.dumps(content), out) == found.origin
    content["chat_template_kwargs"] = [1]
    with pytest.raises(ValueError, match=r"chat_template_kwargs=\[1\] is not what"):
        Origin.from_json(json.dumps(content), out)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": [*PROMPTS, PROMPTS[0]]}, "again"),
        ({"prompts": [{"question": "?"}]}, "'prompt'"),
        ({"prompts": "Is it?"}, "prompts='Is it\\?': give a list"),
        ({"prompts": {"prompt": "Is it?"}}, "prompts={'prompt': 'Is it\\?'}: give a list"),
        ({"prompts": None}, "prompts=None: give a list"),
        ({"prompts": [*PROMPTS, None]}, r"prompts\[4\]=None: give a text, a chat, or a row"),
        ({"prompts": [{"prompt": 3}]}, r"prompts\[0\]={'prompt': 3}"),
        ({"prompts": [["a", "b"]]}, r"prompts\[0\]=\['a', 'b'\]"),
        ({"prompts": [[]]}, r"prompts\[0\]=\[\]"),
        ({"prompts": [[{"role": "user", "content": "a"}]]}, "chat template"),
        ({"experts": "abcd"}, "experts='abcd': give a list"),
        ({"experts": 3}, "experts=3: give a list"),
        ({"experts": [" yes."] * 3 + [None]}, r"experts\[3\]=None: give a text or a list of texts"),
        ({"experts": [1.5] * 4}, r"experts\[0\]=1.5: give a text"),
        ({"experts": [[None]] * 4}, r"experts\[0\]=\[None\]: give a text"),
        ({"experts": [{"a": " yes."}] * 4}, r"experts\[0\]={'a': ' yes.'}: give a text"),
        ({"experts": [" yes."]}, "experts has 1 entries for 4 prompts"),
        ({"experts": [[" yes."], [], [" yes."], [" no."]]}, r"experts\[1\] has 0 texts"),
        ({"experts": [" unheard"] * 4}, "no token"),
        ({"k": 1}, "k=1"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"reward": []}, "at least one"),
        ({"reward": "accuracy"}, "signature"),
        ({"reward_weights": [1.0, 2.0]}, "one for each"),
        ({"reward_bounds": (1, 0)}, "reward_bounds"),
        ({"chat_template_kwargs": {"tools": {1}}}, r"kwargs={'tools': \{1\}}: give a"),
        ({"chat_template_kwargs": "no"}, "chat_template_kwargs='no': give a dictionary"),
    ],
)
def test_bad_arguments_are_named(tiny, tmp_path, change, named):
    arguments = {"prompts": PROMPTS, "reward": says_yes, **SETTINGS, **change}
    with pytest.raises(ValueError, match=named):
        collect(tiny.model, tiny.tokenizer, out=tmp_path / "ref.parquet", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_template_that_refuses_a_chat_is_named(tmp_path):
    chat = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=0)
    chat.tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    prompts = [[{"role": "user", "content": PROMPTS[0]}]]
    with pytest.raises(ResponseError, match="roles must alternate"):
        collect(chat.model, chat.tokenizer, prompts, says_yes, out=tmp_path / "r", **SETTINGS)


def test_a_folder_is_no_file_to_write(tiny, tmp_path):
    with pytest.raises(CollectError, match="is a folder: name a file"):
        collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=tmp_path, **SETTINGS)


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), OSError("disk full"), SystemExit(1)]
)
@pytest.mark.parametrize("place", ["model_digest", "draw", "_table"])
def test_what_stops_one_process_stops_the_other(tmp_path, monkeypatch, error, place):
    """It would wait for ever for one that has left."""
    mine, failing = threading.local(), 0 if place == "_table" else 1
    original = getattr(collecting, place)

    def stop(*args):
        if mine.rank == failing:
            raise error
        return original(*args)

    def work(rank):
        mine.rank = rank
        tiny = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=0)
        out = tmp_path / "ref.parquet"
        return collect(tiny.model, tiny.tokenizer, PROMPTS, says_yes, out=out, **SETTINGS)

    monkeypatch.setattr(collecting, place, stop)
    results = in_two_processes(monkeypatch, work)
    assert results[failing] is error
    other = results[1 - failing]
    assert isinstance(other, ProcessesError)
    assert f"process {failing} of 2 stopped with {type(error).__name__}: {error}" in str(other)


def test_a_bad_reward_in_one_process_is_named_in_both(tmp_path, monkeypatch):
    def work(rank):
        tiny = tiny_qwen3([*PROMPTS, *CANDIDATES[0]], seed=0)
        reward = says_yes if rank == 0 else BAD["is nan"]
        out = tmp_path / "ref.parquet"
        return collect(tiny.model, tiny.tokenizer, PROMPTS, reward, out=out, **SETTINGS)

    results = in_two_processes(monkeypatch, work)
    assert all(
        isinstance(result, RewardFunctionError) and "is nan" in str(result) for result in results
    )


def test_a_later_checkpoint_is_added(tiny, tmp_path):
    out = tmp_path / "ref.parquet"
    first = collect(
        tiny.model, tiny.tokenizer, PROMPTS, says_yes, experts=[" yes."] * 4, out=out, **SETTINGS
    )
    later = tiny_qwen3([*PROMPTS, *(text for some in CANDIDATES for text in some)], seed=0)
    with torch.no_grad():
        later.model.lm_head.weight *= 1.5
    score(later, out, name=100)
    found = score(tiny, out, name="again")
    assert found.later == ["100", "again"] and CollectedSamples.read(out).later == found.later
    np.testing.assert_allclose(found.log_p("again"), first.log_ref, atol=1e-4)
    assert abs(found.log_p(100) - first.log_ref).max() > 0.1
    assert len(found.table["expert_log_p_100"][0]) == 1
    np.testing.assert_array_equal(found.rewards, first.rewards)
    for name, why in ((100, "of that name"), ("a b", "letters")):
        with pytest.raises(CollectError, match=why):
            score(tiny, out, name=name)
    with pytest.raises(CollectError, match="another tokenizer"):
        score(tiny_qwen3(["Is it?"], seed=0), out, name=200)
    with pytest.raises(ValueError, match="100, again"):
        found.log_p(300)


def test_a_file_that_collect_did_not_write_is_refused(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"prompt": ["a"], "reward": [1.0]}), tmp_path / "own.parquet")
    with pytest.raises(ValueError, match=r"collect the samples; .*Samples\.from_parquet"):
        CollectedSamples.read(tmp_path / "own.parquet")
    (tmp_path / "text.parquet").write_text("no")
    with pytest.raises(
        ValueError, match=r"begins with b'no'; give the file that lm\.collect wrote"
    ):
        CollectedSamples.read(tmp_path / "text.parquet")
    with pytest.raises(FileNotFoundError, match=r"lm\.collect"):
        CollectedSamples.read(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"is a folder: give the file that lm\.collect wrote"):
        CollectedSamples.read(tmp_path)


def test_a_digest_tells_models_apart_and_not_ways_to_load_one(tiny, tmp_path):
    tiny.model.save_pretrained(tmp_path)
    tiny.tokenizer.save_pretrained(tmp_path)
    again = load_model(tmp_path)
    digest = model_digest(tiny)
    assert model_digest(again) == digest
    again.model.to(torch.bfloat16)
    assert model_digest(again) == digest
    adapted = with_lora(load_model(tmp_path), rank=2)
    assert model_digest(adapted) == digest
    with torch.no_grad():
        next(p for name, p in adapted.trainable.items() if "lora_B" in name)[0, 0] = 0.1
    assert model_digest(adapted) != digest
    with torch.no_grad():
        again.model.lm_head.weight[0, 0] += 1
    assert model_digest(again) != digest
    assert tokenizer_digest(again.tokenizer) == tokenizer_digest(tiny.tokenizer)
    assert tokenizer_digest(tiny_qwen3(["a"], seed=0).tokenizer) != tokenizer_digest(tiny.tokenizer)


class Bonus:
    def __init__(self, bonus):
        self.bonus = bonus

    def __call__(self, prompts, **columns):
        return [self.bonus] * len(prompts)

    def method(self, prompts, **columns):
        return [self.bonus] * len(prompts)


def with_bonus(prompts, bonus, **columns):
    return [bonus] * len(prompts)


def closed(bonus):
    return lambda prompts, **columns: [bonus] * len(prompts)


def with_default(bonus):
    def rewarded(prompts, given=bonus, **columns):
        return [given] * len(prompts)

    return rewarded


def decorated(bonus):
    @functools.wraps(says_yes)
    def rewarded(prompts, completions, **columns):
        return [x * bonus for x in says_yes(prompts, completions)]

    return rewarded


def of_a_class_made_here(bonus):
    class Rewarded:
        def __call__(self, prompts, **columns):
            return [bonus] * len(prompts)

    return Rewarded()


MADE = {
    "partial": lambda bonus: functools.partial(with_bonus, bonus=bonus),
    "closure": closed,
    "default": with_default,
    "instance": Bonus,
    "method": lambda bonus: Bonus(bonus).method,
    "decorated": decorated,
    "class": of_a_class_made_here,
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(("one", "other"), [(0.0, 1.0), ([1, {"a": 2}], [1, {"a": 3}])])
def test_functions_are_told_apart_by_the_values_that_they_were_made_with(kind, one, other):
    assert function_digest(MADE[kind](one)) == function_digest(MADE[kind](one)) is not None
    assert function_digest(MADE[kind](one)) != function_digest(MADE[kind](other))


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("value", [torch.zeros(1), object(), ValueError("a"), iter([])])
def test_functions_with_values_without_content_cannot_be_told(kind, value):
    assert function_digest(MADE[kind](value)) is None


def test_rewards_of_a_function_that_cannot_be_told_are_not_used_again(tiny, tmp_path, caplog):
    out = tmp_path / "ref.parquet"
    stops = StopsAfter(1, ValueError())
    stops.model = torch.nn.Linear(1, 1)
    with pytest.raises(RewardFunctionError):
        collect(tiny.model, tiny.tokenizer, PROMPTS, stops, out=out, **SETTINGS)
    stops.calls = 99
    collect(tiny.model, tiny.tokenizer, PROMPTS, stops, out=out, **SETTINGS)
    assert stops.calls == 99 - len(PROMPTS) and "StopsAfter cannot be told" in caplog.text
    with pytest.raises(CollectError, match=r"StopsAfter cannot be told .* name another out"):
        collect(tiny.model, tiny.tokenizer, PROMPTS, stops, out=out, **SETTINGS)
