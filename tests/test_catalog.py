"""A file in theorems/ that the catalogue cannot take is named, with the reason."""

import shutil
import sys
from pathlib import Path

import pytest

from nondecoupling.theory import catalog, theorems

TEMPLATE = Path(theorems.__file__).with_name("_template.py")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty theorems/ that the catalogue reads in place of the real one."""
    monkeypatch.setattr(theorems, "__path__", [str(tmp_path)])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def load():
    return catalog.statements.__wrapped__()


def test_the_template_as_it_stands_says_that_its_id_is_missing(folder):
    shutil.copy(TEMPLATE, folder / "fresh_copy.py")
    with pytest.raises(ValueError, match=r"fresh_copy: id='X1': .*letters F, I, S.*number"):
        load()


def test_an_id_is_given_once(folder):
    for name in ("first_copy", "second_copy"):
        (folder / f"{name}.py").write_text(TEMPLATE.read_text().replace('"X1"', '"S9"'))
    with pytest.raises(ValueError, match="second_copy: id S9 is taken by"):
        load()


def test_a_file_holds_one_statement(folder):
    (folder / "empty_file.py").write_text("")
    with pytest.raises(ValueError, match=r"empty_file: .* one statement"):
        load()
