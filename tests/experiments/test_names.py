"""One word, one thing: a class name stands for one class over the package and the experiments."""

import ast
from collections import defaultdict
from pathlib import Path

import qwen_validate

ROOT = Path(qwen_validate.__file__).parents[1]


def classes_of(files: dict[str, str]) -> dict[str, list[str]]:
    """Public class name -> the files that define it, in any scope."""
    found = defaultdict(list)
    for name, text in files.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name)
    return found


def names_with_two_meanings(files: dict[str, str]) -> dict[str, list[str]]:
    """Those of which at least one is defined in the experiments."""
    return {
        name: places
        for name, places in classes_of(files).items()
        if len(places) > 1 and any(place.startswith("experiments/") for place in places)
    }


def test_no_class_of_the_experiments_shares_its_name():
    paths = [*ROOT.glob("nondecoupling/**/*.py"), *ROOT.glob("experiments/**/*.py")]
    files = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    assert len(files) > 100
    assert names_with_two_meanings(files) == {}


def test_a_shared_name_is_seen():
    files = {"experiments/a.py": "class World: ...", "nondecoupling/b.py": "class World: ..."}
    assert names_with_two_meanings(files) == {"World": list(files)}
    assert names_with_two_meanings({"nondecoupling/b.py": "class A: ...\nclass A: ..."}) == {}
