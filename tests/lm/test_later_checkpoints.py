"""Scoring collected responses under later checkpoints: resumed, shared, and next to other writers of the file."""

import threading

import filelock
import numpy as np
import pytest
import torch
from two_processes import in_two_processes
from yes_or_no import CANDIDATES, PROMPTS

from nondecoupling.collected import CollectedSamples
from nondecoupling.lm import CollectError, ModelError, collect, later_checkpoints, score, tiny_qwen3

TEXTS = [*PROMPTS, *(text for some in CANDIDATES for text in some)]


def always(prompts, **columns):
    return [1.0] * len(prompts)


@pytest.fixture(scope="module")
def collected(tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("collected") / "ref.parquet"
    settings = {"k": 4, "reward_bounds": (0, 1), "max_tokens": 3, "rows_at_once": 4}
    experts = [[" yes.", " no."]] * len(PROMPTS)
    collect(tiny.model, tiny.tokenizer, PROMPTS, always, experts=experts, out=out, **settings)
    return out.read_bytes()


@pytest.fixture
def file(collected, tmp_path):
    (tmp_path / "ref.parquet").write_bytes(collected)
    return tmp_path / "ref.parquet"


@pytest.fixture(scope="module")
def later():
    made = tiny_qwen3(TEXTS, seed=0)
    with torch.no_grad():
        made.model.lm_head.weight *= 1.5
    return made


def calls_of(monkeypatch, before):
    """How often log_probs was called; ``before(n)`` runs before the n-th call."""
    calls = []

    def counted(*args):
        calls.append(args)
        before(len(calls))
        return log_probs(*args)

    log_probs = later_checkpoints.log_probs
    monkeypatch.setattr(later_checkpoints, "log_probs", counted)
    return calls


def names_beside(file):
    """But the lock, which stays."""
    names = {path.name for path in file.parent.iterdir()}
    return sorted(names - {f".{name}.lock" for name in names})


def test_a_model_of_ones_own_with_its_tokenizer(later, file):
    later.model.train()
    found = score(later.model, file, name=1, tokenizer=later.tokenizer)
    assert later.model.training
    again = score(later, file, name=2)
    assert later.model.training
    later.model.eval()
    np.testing.assert_array_equal(found.log_p(1), again.log_p(2))
    with pytest.raises(CollectError, match="tokenizer=None for a Qwen3ForCausalLM: give"):
        score(later.model, file, name=3)
    with pytest.raises(CollectError, match="has its own; leave it out"):
        score(later, file, name=3, tokenizer=later.tokenizer)
    with pytest.raises(ValueError, match="rows_at_once=0"):
        score(later, file, name=3, rows_at_once=0)
    assert names_beside(file) == ["ref.parquet"]


def test_an_interrupted_call_goes_on_and_makes_the_same_file(later, file, tmp_path, monkeypatch):
    whole = tmp_path / "whole.parquet"
    whole.write_bytes(file.read_bytes())
    score(later, whole, name=1, rows_at_once=4)
    before = file.read_bytes()

    def interrupt(call):
        if call == 4:  # responses and experts of one prompt, then of half of the next
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        calls_of(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            score(later, file, name=1, rows_at_once=4)
    assert file.read_bytes() == before
    calls = calls_of(monkeypatch, lambda call: None)
    score(later, file, name=1, rows_at_once=4)
    assert len(calls) == 2 * (len(PROMPTS) - 1)
    assert file.read_bytes() == whole.read_bytes()
    assert names_beside(file) == ["ref.parquet", "whole.parquet"]


def test_parts_of_another_checkpoint_are_refused(later, file, tiny, monkeypatch):
    def interrupt(call):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        calls_of(patch, interrupt)
        with pytest.raises(KeyboardInterrupt):
            score(later, file, name=1)
    with pytest.raises(CollectError, match=r"log_p_1\.parts was begun with another checkpoint:"):
        score(tiny, file, name=1)
    with pytest.raises(CollectError, match="another rows_at_once"):
        score(later, file, name=1, rows_at_once=4)


def test_a_checkpoint_that_was_added_meanwhile_is_kept(later, file, tiny, monkeypatch):
    def another(call):
        if call == 1:
            score(tiny, file, name="other")

    calls_of(monkeypatch, another)
    assert score(later, file, name=1).later == ["other", "1"]
    assert CollectedSamples.read(file).later == ["other", "1"]


def test_samples_that_were_replaced_meanwhile_are_not_written_over(later, file, monkeypatch):
    found = CollectedSamples.read(file)
    place = found.table.column_names.index("log_ref")
    table = found.table.set_column(place, "log_ref", [(found.log_ref - 1).tolist()])

    def replace(call):
        CollectedSamples(table, found.origin).write(file)

    calls_of(monkeypatch, replace)
    with pytest.raises(CollectError, match="replaced by other samples"):
        score(later, file, name=1)
    assert CollectedSamples.read(file).later == []


def test_writers_at_once_lose_nothing(later, file):
    names = [str(number) for number in range(8)]
    threads = [
        threading.Thread(target=score, args=(later, file), kwargs={"name": name}) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(CollectedSamples.read(file).later) == names
    assert names_beside(file) == ["ref.parquet"]


def test_a_lock_that_stays_is_named(later, file, monkeypatch):
    monkeypatch.setattr(later_checkpoints, "LOCK_SECONDS", 0.1)
    before = file.read_bytes()
    with (
        filelock.FileLock(file.with_name(".ref.parquet.lock")),
        pytest.raises(CollectError, match=r"\.ref\.parquet\.lock: another call .* wait for it"),
    ):
        score(later, file, name=1)
    assert file.read_bytes() == before
    calls = calls_of(monkeypatch, lambda call: None)
    assert score(later, file, name=1).later == ["1"] and calls == []


@pytest.mark.parametrize("name", [".ref.parquet.lock", "ref.parquet.lock"])
def test_what_a_killed_call_left_locks_nothing(later, file, monkeypatch, name):
    """Also a version before this one, which made the second of these files."""
    monkeypatch.setattr(later_checkpoints, "LOCK_SECONDS", 0.1)
    file.with_name(name).touch()
    assert score(later, file, name=1).later == ["1"]


def test_two_processes_share_the_work_and_write_once(later, file, tmp_path, monkeypatch):
    alone = tmp_path / "alone.parquet"
    alone.write_bytes(file.read_bytes())
    score(later, alone, name=1, rows_at_once=4)
    calls = calls_of(monkeypatch, lambda call: None)
    results = in_two_processes(monkeypatch, lambda rank: score(later, file, name=1, rows_at_once=4))
    assert [found.later for found in results] == [["1"], ["1"]]
    assert len(calls) == 2 * len(PROMPTS)  # responses and experts of each prompt, once
    assert file.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("place", ["preparing", "scoring", "writing"])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ModelError("a weight")])
def test_what_stops_one_process_stops_the_other(later, file, monkeypatch, place, error):
    mine = threading.local()

    def stop(*args, **options):
        if mine.rank == failing:
            raise error
        return original(*args, **options)

    owner, name, failing = {
        "preparing": (later_checkpoints, "tokenizer_digest", 1),
        "scoring": (later_checkpoints, "log_probs", 1),
        "writing": (CollectedSamples, "write", 0),
    }[place]
    original = getattr(owner, name)
    monkeypatch.setattr(owner, name, stop)

    def work(rank):
        mine.rank = rank
        return score(later, file, name=1, rows_at_once=4)

    results = in_two_processes(monkeypatch, work)
    assert results[failing] is error
    kind = "ProcessesError" if isinstance(error, RuntimeError) else "ModelError"
    other = results[1 - failing]
    assert type(other).__name__ == kind
    assert f"process {failing} of 2 stopped with {type(error).__name__}: {error}" in str(other)
