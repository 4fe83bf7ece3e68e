"""Reward functions that a command names, from a file or a module of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["reward_function"]


def reward_function(text: str) -> Callable[..., Any]:
    """The function that ``file.py:name`` or ``module:name`` names.

    Errors: text of another form, no such file, module or function, and whatever importing it raised.
    """
    place, _, name = text.rpartition(":")
    if not place:
        raise ValueError(f"--reward {text}: give file.py:name or module:name")
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise ValueError(f"--reward {text}: no file {place!r}")
    try:
        module = _from_file(Path(place)) if is_file else importlib.import_module(place)
    except (Exception, SystemExit) as error:  # whatever a user's file raises
        raise ValueError(
            f"--reward {text}: importing {place} raised {_said(error)}{_where(error)}; correct it, and call again"
        ) from error
    if not callable(getattr(module, name, None)):
        raise ValueError(f"--reward {text}: {place} has no function {name!r}")
    function: Callable[..., Any] = getattr(module, name)
    return function


def _from_file(path: Path) -> ModuleType:
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass asks for its module while it is made
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """One that nobody imports, and that no other file has."""
    name = f"nondecoupling_rewards_{path.stem}"
    while name in sys.modules and sys.modules[name].__file__ != str(path.absolute()):
        name += "_"
    return name


def _said(error: BaseException) -> str:
    words = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _where(error: BaseException) -> str:
    """The line of the file that was imported, and the line that it led to, where that is elsewhere."""
    frames = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in (__file__, importlib.__file__)
        and not frame.filename.startswith("<frozen importlib")
    ]
    if isinstance(error, SyntaxError):
        frames.append((str(error.filename), error.lineno))
    if not frames:
        return ""
    own = [frame for frame in frames if frame[0] == frames[0][0]]
    lines = [own[-1]] if own[-1] == frames[-1] else [own[-1], frames[-1]]
    return " in " + ", from ".join(f"{file}, line {line}" for file, line in lines)
