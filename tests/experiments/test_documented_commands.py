"""The commands of the pages and of the results are accepted, up to where their work would begin."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import compare
import pytest
import qwen_validate
import sweep
import validate.session

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


def test_pages_have_commands_of_each_kind():
    assert {script for script, _ in commands()} == set(MAINS) and len(commands()) > 25


@pytest.mark.parametrize(("script", "options"), commands())
def test_it_is_accepted(script, options, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(validate.session, "Session", begin)
    monkeypatch.setattr(sweep, "_run", begin)
    monkeypatch.setattr(compare, "_compare", begin)
    try:
        left = MAINS[script](shlex.split(options))
    except BegunError:
        return
    pytest.fail(f"left with {left}: {capsys.readouterr().err}")
