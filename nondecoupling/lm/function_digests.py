"""Digests by which a function is told from another: of its source, and of the values that it was made with.

What it reads from elsewhere is not seen: global variables, other functions that it calls by name, files, a server.
"""

from __future__ import annotations

import enum
import functools
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import numpy as np

from nondecoupling.lm.digests import digest_of

__all__ = ["function_digest"]

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))


class _Untold(Exception):
    """A value whose content cannot be read off."""


def function_digest(function: Any) -> str | None:
    """SHA-256 of source, default values, closure, partial arguments and, of an instance, its class and attributes.

    None where one of these is a value that has no content to compare, such as a model or an open file.

    >>> def made(bonus):
    ...     return lambda completions, **columns: [bonus] * len(completions)
    >>> function_digest(made(0)) == function_digest(made(0)), function_digest(made(0)) == function_digest(made(1))
    (True, False)
    >>> print(function_digest(made(iter([]))))
    None
    """
    try:
        return digest_of(f"{len(part)} ".encode() + part for part in _parts(function, {}))
    except (_Untold, RecursionError):
        return None


def _parts(value: Any, seen: dict[int, Any]) -> Iterator[bytes]:
    """``seen``: what was met before, kept alive so that no id comes again."""
    kind = type(value)
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if kind in PLAIN:
        yield repr(value).encode("utf-8", "surrogatepass")
        return
    if id(value) in seen:
        yield f"again {list(seen).index(id(value))}".encode()
        return
    seen[id(value)] = value
    if isinstance(value, type):
        yield _source_of_class(value)
        for item in _made_with(value):
            yield from _parts(item, seen)
    elif isinstance(value, types.ModuleType):
        yield value.__name__.encode()
    elif isinstance(value, types.CodeType):
        yield from _code(value, seen)
    elif kind in (set, frozenset):  # their order is that of hashes, which differ between processes
        yield from sorted(digest_of(_parts(item, dict(seen))).encode() for item in value)
    else:
        inner = _content(value)
        yield str(len(inner)).encode()
        for item in inner:
            yield from _parts(item, seen)


def _content(value: Any) -> list[Any]:
    """The values that make up a value."""
    kind = type(value)
    if kind in (list, tuple):
        return list(value)
    if kind is dict:
        return [item for pair in value.items() for item in pair]
    if isinstance(value, PurePath):
        return [str(value)]
    if isinstance(value, enum.Enum):
        return [kind, value.name]
    if isinstance(value, re.Pattern):
        return [value.pattern, value.flags]
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return [str(value.dtype), list(value.shape), value.tobytes()]
    if isinstance(value, functools.partial):
        return [value.func, list(value.args), dict(value.keywords)]
    if isinstance(value, types.FunctionType):
        cells = [_in_cell(cell) for cell in value.__closure__ or ()]
        # The code and not the function, whose source would be that of what it wraps.
        return [value.__code__, value.__defaults__, value.__kwdefaults__, cells, vars(value)]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.BuiltinFunctionType):
        return [value.__qualname__, value.__self__]
    bases = kind.__mro__[:-1]
    elsewhere = any(vars(base).get("__slots__") or base.__module__ == "builtins" for base in bases)
    if elsewhere or not hasattr(value, "__dict__"):
        raise _Untold
    return [*bases, vars(value)]


def _made_with(kind: type) -> list[Any]:
    """What a class statement inside of a function takes from there: in methods, and as attributes."""
    if kind.__module__ == "builtins":
        return []
    found: list[Any] = []
    for name, member in vars(kind).items():
        if isinstance(member, types.FunctionType):
            cells = [_in_cell(cell) for cell in member.__closure__ or ()]
            found.append([name, cells, member.__defaults__, member.__kwdefaults__])
        elif type(member) in PLAIN and not name.startswith("__"):
            found.append([name, member])
    return found


def _in_cell(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # still empty
        return ...


def _source_of_class(kind: type) -> bytes:
    if kind.__module__ == "builtins":
        return kind.__qualname__.encode()
    try:
        return inspect.getsource(kind).encode()
    except (OSError, TypeError):
        raise _Untold from None


def _code(code: types.CodeType, seen: dict[int, Any]) -> Iterator[bytes]:
    try:
        yield inspect.getsource(code).encode()
    except (OSError, TypeError):  # made without a file
        yield code.co_code
        for item in (code.co_names, code.co_varnames, code.co_consts):
            yield from _parts(item, seen)
