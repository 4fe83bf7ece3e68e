"""The commands of the pages and of the results are accepted, up to where their work would begin."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import compare
import numpy as np
import pytest
import qwen_validate
import sweep
import validate.session
from comparisons.methods import methods_for
from validate.configuration import configuration

ROOT = Path(__file__).parents[2]
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("experiments/**/*.md"),
    *ROOT.glob("experiments/*.py"),
]
MAINS = {"qwen_validate": qwen_validate.main, "sweep": sweep.main, "compare": compare.main}
COMMAND = re.compile(rf"python experiments/({'|'.join(MAINS)})\.py((?:[^`\n\\#]|\\\n)*)")
GOES_ON = re.compile(r"(--out \S+)?( ?--resume)?")  # what an earlier command has begun


class BegunError(Exception):
    """The work would begin."""


def begin(*_):
    raise BegunError


def commands() -> list[tuple[str, str]]:
    found = {
        (match[1], shlex.join(shlex.split(match[2].replace("\\\n", " "))))
        for page in PAGES
        for match in COMMAND.finditer(page.read_text())
    }
    return sorted(each for each in found if not GOES_ON.fullmatch(each[1]))


def test_scripts_that_are_named_exist():
    named = {
        match for page in PAGES for match in re.findall(r"experiments/[\w/]+\.py", page.read_text())
    }
    assert len(named) > 15
    assert not [path for path in sorted(named) if not (ROOT / path).is_file()]


def test_pages_have_commands_of_each_kind():
    assert {script for script, _ in commands()} == set(MAINS) and len(commands()) > 25


@pytest.mark.parametrize(("script", "options"), commands())
def test_it_is_accepted(script, options, tmp_path, monkeypatch, capsys):
    left = outcome(script, options, tmp_path, monkeypatch)
    assert left == "begun", f"left with {left}: {capsys.readouterr().err}"


def outcome(script, options, tmp_path, monkeypatch):
    """The exit status, or "begun"."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validate.session, "Session", begin)
    monkeypatch.setattr(sweep, "_run", begin)
    monkeypatch.setattr(compare, "_compare", begin)
    try:
        return MAINS[script](shlex.split(options))
    except BegunError:
        return "begun"
    except SystemExit as left:
        return left.code


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("qwen_validate", "--protocol sampled --sft-share 0.5"),
        ("qwen_validate", "--no-such-option"),
        ("sweep", "--seed 0 1 --out runs/two -- --protocol sampled --reward combined"),
        ("compare", "--seed 0 -- --beta 0.2"),
    ],
)
def test_a_bad_command_would_be_seen(script, options, tmp_path, monkeypatch):
    assert outcome(script, options, tmp_path, monkeypatch) == 2


def test_methods_that_are_named_exist():
    """Two levels of reward and few prompts: all the methods that there are."""
    reward, log_d = np.array([[0.0, 1.0, 0.0]]), np.log([[0.5, 0.4, 0.1]])
    names = [m.name for m in methods_for(configuration({}), reward, log_d)]
    words = [
        word
        for script, options in commands()
        if script == "compare"
        for word in compare.parse_arguments(shlex.split(options.split(" -- ")[0])).method or ()
    ]
    assert len(words) > 5 and all(any(word in name for name in names) for word in words)
