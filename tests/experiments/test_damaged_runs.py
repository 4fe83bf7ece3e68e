"""A damaged run folder: the same numbers, or a message that names the file and how to go on from what is sound."""

import functools
import json
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import qwen_validate
import torch
from validate import checksums, disk
from validate.checksums import read_sealed_lines, save_sealed
from validate.configuration import configuration
from validate.enumerated import report as enumerated_report
from validate.enumerated.training import Trainer, planned
from validate.errors import RunFolderError
from validate.run_folder import RunFolder
from validate.sampled import report as sampled_report
from validate.sampled.training import _Recorder

ENUMERATED = {"prompts": 2, "sft-steps": 8, "rl-steps": 8}
SAMPLED = {"protocol": "sampled", "train-prompts": 200, "pilot-prompts": 5, "eval-prompts": 20}
SAMPLED |= {"responses": 2, "sft-steps": 8, "rl-steps": 8, "sft-batch": 8, "rl-prompts": 2}
SAMPLED |= {"generations": 2, "delta": 0.5}
SHARED = {"order": "sft-rl", "checkpoint-every": 4}
PROTOCOLS = {"enumerated": ENUMERATED, "sampled": SAMPLED}
# TRL's trainers take several seconds to get going.
SLOW = pytest.param("sampled", marks=pytest.mark.slow)
BOTH = ["enumerated", SLOW]


def words(options):
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Made:
    """A complete run, and the same one stopped in RL, two steps after a checkpoint."""

    whole: Path
    half: Path
    status: int

    @property
    def report(self):
        return (self.whole / "report.json").read_bytes()


def make(protocol, place):
    advance, on_step_end = Trainer.advance, _Recorder.on_step_end

    def stop_enumerated(trainer):
        if trainer.goal.objective == "rl" and trainer.step == 6:
            raise KeyboardInterrupt
        advance(trainer)

    def stop_sampled(recorder, args, state, control, **kwargs):
        if recorder.stage == "rl" and state.global_step == 6:
            raise KeyboardInterrupt
        on_step_end(recorder, args, state, control, **kwargs)

    given = words(PROTOCOLS[protocol] | SHARED)
    status = qwen_validate.main([*given, "--out", str(place / "whole")])
    assert status in qwen_validate.OUTCOMES.values()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "advance", stop_enumerated)
        patch.setattr(_Recorder, "on_step_end", stop_sampled)
        assert qwen_validate.main([*given, "--out", str(place / "half")]) == 130
    return Made(place / "whole", place / "half", status)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """``runs(protocol)``, made when they are first asked for."""
    return functools.cache(lambda protocol: make(protocol, tmp_path_factory.mktemp(protocol)))


@pytest.fixture
def copy(runs, tmp_path):
    """``copy(protocol, state)`` is a folder to damage."""

    def made(protocol, state, name="copy"):
        return shutil.copytree(getattr(runs(protocol), state), tmp_path / name)

    return made


@pytest.fixture
def without_pictures(monkeypatch):
    """Plots and HTML have no numbers of their own and take most of the time of a report."""
    for module in (enumerated_report, sampled_report):
        monkeypatch.setattr(module, "plots", lambda *arguments: {})
        monkeypatch.setattr(module, "_html", lambda *arguments: "")


def resume(folder, *more):
    return qwen_validate.main(["--out", str(folder), "--resume", *more])


def ends_well(runs, protocol, folder):
    """The run ends with the report of the one that nothing happened to."""
    status = resume(folder)
    same = (folder / "report.json").read_bytes() == runs(protocol).report
    return status == runs(protocol).status and same


@pytest.mark.parametrize("protocol", BOTH)
def test_a_run_that_was_stopped_ends_with_the_same_bits(runs, copy, protocol, without_pictures):
    folder = copy(protocol, "half")
    assert ends_well(runs, protocol, folder)
    for name in ("config.json", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (runs(protocol).whole / name).read_bytes()


# Any damage.


def flip(content, rng):
    place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def cut(content, rng):
    return content[: rng.randrange(1, len(content))]


def empty(content, rng):
    return b""


def delete(content, rng):
    return None


def duplicate(content, rng):
    """A line once more, or the whole file behind itself if it is no text."""
    lines = content.splitlines(keepends=True)
    if b"\0" in content:
        return content + content
    number = rng.randrange(len(lines))
    return b"".join([*lines[: number + 1], lines[number], *lines[number + 1 :]])


def drop(content, rng):
    """Without a line, or without a block."""
    if b"\0" in content:
        place = rng.randrange(len(content))
        return content[:place] + content[place + 64 :]
    lines = content.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def zero(content, rng):
    """A block of zeros, as a file system leaves after a crash."""
    place = rng.randrange(len(content))
    return content[:place] + bytes(len(content[place : place + 64])) + content[place + 64 :]


DAMAGES = (flip, cut, empty, delete, duplicate, drop, zero)


def files_of(folder):
    return [
        path.relative_to(folder)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".svg" and path.stat().st_size
    ]


def what_went_wrong(runs, protocol, folder, file, damage, seed, capsys):
    """Damage a file and resume: nothing, or how it ended neither in the same numbers nor in a message."""
    place = folder / file
    content = damage(place.read_bytes(), random.Random(f"{file} {seed}"))
    if content is None:
        place.unlink()
    else:
        place.write_bytes(content)
    capsys.readouterr()
    try:
        well = ends_well(runs, protocol, folder)
    except FileNotFoundError:  # of the report
        well = False
    message = capsys.readouterr().err
    named = place.name in message and "qwen_validate: " in message and "Traceback" not in message
    zeros = damage is not zero and b"\0" in disk.whole_lines(folder / "metrics.jsonl")
    left = [path.name for path in folder.rglob(".*") if path.name.endswith((".partial", ".lock"))]
    if (well or named) and not zeros and not left:
        return []
    return [f"{protocol} {folder.name}: {damage.__name__} of {file}: {message or 'silent'} {left}"]


@pytest.mark.parametrize("state", ["whole", "half"])
@pytest.mark.parametrize("protocol", BOTH)
@pytest.mark.parametrize("file", ["config.json", "environment.json", "metrics.jsonl"])
def test_damage_to_the_files_that_every_run_has(
    runs, copy, capsys, without_pictures, protocol, state, file
):
    """A flipped bit and a lost line; the other files and damages are in the slow test."""
    problems = []
    for damage in (flip, drop):
        folder = copy(protocol, state, damage.__name__)
        problems += what_went_wrong(runs, protocol, folder, file, damage, 0, capsys)
    assert not problems


@pytest.mark.slow  # hundreds of runs that go on
@pytest.mark.parametrize("state", ["whole", "half"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_damage_to_any_file(runs, copy, capsys, without_pictures, protocol, state):
    problems, cases = [], 0
    # TRL's trainers take seconds to go on, and their checkpoint has a dozen files.
    goes_on_slowly = protocol == "sampled" and state == "half"
    for file in files_of(getattr(runs(protocol), state)):
        in_checkpoint = file.parts[0] == "training"
        some = (flip,) if in_checkpoint else (flip, delete)
        for damage in some if goes_on_slowly else DAMAGES:
            for seed in range(2 if damage in (flip, cut) and not goes_on_slowly else 1):
                name = f"{damage.__name__}-{seed}-{str(file).replace(os.sep, '-')}"
                folder = copy(protocol, state, name)
                problems += what_went_wrong(runs, protocol, folder, file, damage, seed, capsys)
                shutil.rmtree(folder)
                cases += 1
    assert not problems
    assert cases >= (20 if goes_on_slowly else 60)  # 200 in all


# What the message says.


def refusal(folder, capsys, *more):
    capsys.readouterr()
    assert resume(folder, *more) == qwen_validate.EXIT_USAGE
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("state", ["whole", "half"])
def test_an_edited_beta_is_found(copy, capsys, state):
    folder = copy("enumerated", state)
    place = folder / "config.json"
    place.write_text(place.read_text().replace('"beta": 0.2', '"beta": 0.3'))
    message = refusal(folder, capsys)
    assert "config.json is damaged" in message and "bring it back as it was" in message


def edit_lines(folder, edit):
    place = folder / "metrics.jsonl"
    place.write_bytes(b"".join(edit(place.read_bytes().splitlines(keepends=True))))


@pytest.mark.parametrize(
    ("edit", "found", "stage"),
    [
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "line 4 is damaged", "rl"),
        (lambda lines: [*lines[:3], lines[3][:50]], "ends before step 4 of rl", "rl"),
        (lambda lines: [*lines[:1], *lines[2:]], "line 2 is damaged", "sft"),
        (lambda lines: lines[:-1], "ends before step 8 of rl", "rl"),
        (lambda lines: [lines[0].replace(b"e", b"f", 1), *lines[1:]], "line 1 is damaged", None),
    ],
    ids=["duplicated", "torn", "dropped", "lost at the end", "the first"],
)
def test_a_line_that_does_not_fit_is_named_and_the_last_sound_stage_offered(
    copy, capsys, edit, found, stage
):
    folder = copy("enumerated", "whole")
    edit_lines(folder, edit)
    message = refusal(folder, capsys)
    assert f"metrics.jsonl{', ' if 'line' in found else ' '}{found}" in message
    assert (f"add --restart-from {stage} to --resume" in message) == (stage is not None)
    assert "start anew with another --out" in message


def test_the_stage_that_is_offered_ends_in_the_same_report(runs, copy, capsys, without_pictures):
    folder = copy("enumerated", "half")
    edit_lines(folder, lambda lines: [*lines[:-1], lines[-1][:-9] + b"\n"])
    assert "add --restart-from rl to --resume" in refusal(folder, capsys)
    resume(folder, "--restart-from", "rl")
    for name in ("report.json", "metrics.jsonl", "config.json"):
        assert (folder / name).read_bytes() == (runs("enumerated").whole / name).read_bytes()


@pytest.mark.slow  # whole stages by TRL
def test_a_lost_policy_is_trained_again_as_offered(runs, copy, capsys, without_pictures):
    """Its stage and what was begun after it."""
    folder = copy("sampled", "half")
    (folder / "policies" / "sft.pt").unlink()
    message = refusal(folder, capsys)
    assert "sft.pt is missing" in message and "add --restart-from sft to --resume" in message
    resume(folder, "--restart-from", "sft")
    for name in ("report.json", "metrics.jsonl", "config.json"):
        assert (folder / name).read_bytes() == (runs("sampled").whole / name).read_bytes()


@pytest.mark.slow  # measures by free generation
def test_a_measurement_that_is_removed_as_advised_is_made_again(
    runs, copy, capsys, without_pictures
):
    folder = copy("sampled", "whole")
    place = folder / "measurements" / "rl.jsonl"
    before = place.read_bytes()
    place.write_bytes(before[: before.index(b"\n") + 1])
    message = refusal(folder, capsys)
    assert "rl.jsonl has 1 of 2 lines; remove it, and report.json" in message
    place.unlink()
    (folder / "report.json").unlink()
    assert ends_well(runs, "sampled", folder) and place.read_bytes() == before


def test_restarting_before_the_damage_or_from_a_stage_that_is_not_there_is_refused(copy, capsys):
    folder = copy("enumerated", "whole")
    edit_lines(folder, lambda lines: [*lines[:1], *lines[2:]])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "add --restart-from sft" in refusal(folder, capsys, "--restart-from", "rl")
    message = refusal(folder, capsys, "--restart-from", "joint")
    assert "--restart-from is 'joint'; the stages of this run are sft, rl" in message
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_restarting_goes_with_resuming(capsys):
    with pytest.raises(SystemExit):
        qwen_validate.main(["--restart-from", "rl"])
    assert "--restart-from goes with --resume" in capsys.readouterr().err


def test_lines_of_another_plan_are_refused(tmp_path):
    """Sound lines, but not those of this configuration."""
    folder = RunFolder(tmp_path)
    config = configuration({"order": "sft-rl", "sft_steps": 60, "rl_steps": 60})
    for stage, step in [("base", 0), ("sft", 30), ("rl", 30)]:
        folder.record({"stage": stage, "step": step})
    with pytest.raises(RunFolderError, match=r"line 3 is step 30 of rl, where .* step 60 of sft"):
        folder.records(planned(config))


def test_one_file_cannot_stand_for_another(copy, tmp_path):
    folder = copy("enumerated", "whole")
    for name in ("sft.pt", "rl.pt"):
        assert checksums.load_sealed(folder / "policies" / name)
    shutil.copy(folder / "policies" / "sft.pt", folder / "policies" / "rl.pt")
    with pytest.raises(RunFolderError, match=r"rl\.pt is damaged .* --restart-from rl"):
        RunFolder(folder).load_policy("rl")
    shutil.copy(folder / "metrics.jsonl", tmp_path / "other.jsonl")
    with pytest.raises(RunFolderError, match=r"other\.jsonl, line 1 is damaged"):
        read_sealed_lines(tmp_path / "other.jsonl")


# A run folder cannot run code, and a run writes only into its folder.


class Code:
    """Written to a file when it is unpickled."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


@pytest.mark.parametrize("file", ["checkpoint.pt", "policies/base.pt"])
def test_a_file_with_code_is_not_executed(copy, tmp_path, capsys, file):
    folder, ran = copy("enumerated", "half"), tmp_path / "ran"
    torch.save({"random": Code(ran)}, tmp_path / "proof.pt")
    torch.load(tmp_path / "proof.pt", weights_only=False)["random"].close()
    assert ran.exists()
    ran.unlink()
    save_sealed(folder / file, {"random": Code(ran)})
    (folder / "policies" / "sft.pt").unlink()
    if file != "checkpoint.pt":
        (folder / "checkpoint.pt").unlink()
    message = refusal(folder, capsys)
    assert f"{os.path.basename(file)} holds more than tensors and plain data" in message
    assert not ran.exists()


def test_random_states_are_plain_data(copy):
    state = checksums.load_sealed(copy("enumerated", "half") / "checkpoint.pt")["random"]
    assert json.loads(json.dumps(state["numpy"]))[0] == "MT19937"
    assert torch.is_tensor(state["torch"])


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_links_are_not_followed(copy, tmp_path, capsys, name):
    folder, other = copy("enumerated", "half"), tmp_path / "other"
    other.write_text("of somebody else")
    if name == "metrics.jsonl":
        shutil.move(folder / name, other)
    before = other.read_bytes()
    (folder / name).symlink_to(other)
    assert f"{name} is a symbolic link" in refusal(folder, capsys)
    assert other.read_bytes()[: len(before)] == before


def test_a_link_in_the_place_of_a_partial_file_is_replaced(tmp_path):
    other = tmp_path / "other"
    other.write_text("of somebody else")
    (tmp_path / ".new.partial").symlink_to(other)
    disk.replace_file(tmp_path / "new", b"content")
    assert (tmp_path / "new").read_bytes() == b"content" and not (tmp_path / "new").is_symlink()
    assert other.read_text() == "of somebody else"
    assert not list(tmp_path.glob(".*.partial"))


def test_a_write_that_fails_leaves_no_partial_file(tmp_path):
    with pytest.raises(ZeroDivisionError), disk.replacing(tmp_path / "file"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_partial_files_of_a_killed_run_are_removed(runs, copy, without_pictures):
    folder = copy("enumerated", "whole")
    for name in (".report.json.partial", "policies/.rl.pt.partial"):
        (folder / name).write_text("half")
    assert ends_well(runs, "enumerated", folder)
    assert not list(folder.rglob(".*"))


def test_the_report_of_a_complete_run_is_not_written_beside_another_run(
    copy, capsys, without_pictures
):
    folder = copy("enumerated", "whole")
    other = RunFolder(folder)
    other.lock()
    assert "another run works in" in refusal(folder, capsys)
    other.release()
    assert resume(folder) in qwen_validate.OUTCOMES.values()


def test_a_lock_that_was_removed_meanwhile_keeps_nobody_out(tmp_path, monkeypatch):
    """Between opening the lock of a run that ends and taking it: the file that is gone counts for nothing."""
    flock, calls = disk.fcntl.flock, []

    def late(file, operation):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        flock(file, operation)

    monkeypatch.setattr(disk.fcntl, "flock", late)
    held = disk.lock(tmp_path)
    assert len(calls) == 2 and os.fstat(held.fileno()).st_ino == (tmp_path / ".lock").stat().st_ino
    held.close()
