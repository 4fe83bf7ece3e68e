"""Finds the statements in ``theorems/`` and the graph of their dependencies."""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter

from nondecoupling.theory import theorems
from nondecoupling.theory.statement import Statement, StatementType

SECTIONS = (
    "Statement", "Assumptions", "Side", "Equality when", "Units", "Source", "Proof idea", "Example",
)  # fmt: skip


# The letters of ids, in the order in which statements are listed, with what the statements are about.
FAMILIES = {
    "F": "Foundations",
    "I": "Implicit reward",
    "S": "SFT then RL: RL raises the SFT loss",
    "R": "RL then SFT: SFT lowers the reward, and when",
    "P": "Landscape: softmax logits, explicit constants",
    "D": "When decoupling is possible",
    "J": "Joint training",
    "T": "What trainers converge to, and schedules",
    "V": "Verifiable rewards",
    "G": "Proxy and gold rewards",
}


@lru_cache(maxsize=1)
def statements() -> dict[str, StatementType]:
    """All statements by id, in the order of FAMILIES."""
    found: dict[str, StatementType] = {}
    for info in pkgutil.iter_modules(theorems.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{theorems.__name__}.{info.name}")
        own = [
            v for v in vars(module).values()
            if isinstance(v, type) and issubclass(v, Statement) and v.__module__ == module.__name__
        ]  # fmt: skip
        if len(own) != 1:
            raise ValueError(f"{info.name}: a file in theorems/ defines one statement, not {own}")
        if not re.fullmatch(rf"[{''.join(FAMILIES)}][1-9][0-9]*", own[0].id):
            raise ValueError(
                f"{info.name}: id={own[0].id!r}: an id is one of the letters {', '.join(FAMILIES)} "
                "and a number, such as S9"
            )
        if own[0].id in found:
            raise ValueError(f"{info.name}: id {own[0].id} is taken by {found[own[0].id]}")
        found[own[0].id] = own[0]
    return dict(sorted(found.items(), key=lambda item: _order(item[0])))


def _order(statement_id: str) -> tuple[int, int]:
    return list(FAMILIES).index(statement_id[0]), int(statement_id[1:])


def statement(statement_id: str) -> StatementType:
    """The statement with this id."""
    known = statements()
    if statement_id not in known:
        raise KeyError(
            f"statement={statement_id!r}: not in the catalogue; one of {', '.join(known)}"
        )
    return known[statement_id]


def stem(statement_type: StatementType) -> str:
    """The file name, without suffix, that a statement has in theorems/ and (as test_*) proofs/."""
    return statement_type.__module__.rsplit(".", 1)[1]


def places(statement_type: StatementType) -> dict[str, str]:
    """Where the repository explains, writes and tests a statement: paths from its root."""
    name = stem(statement_type)
    return {
        "theory": f"docs/theory/{name}.md",
        "code": f"nondecoupling/theory/theorems/{name}.py",
        "proof file": f"proofs/test_{name}.py",
    }


def dependency_order(graph: dict[str, tuple[str, ...]]) -> list[str]:
    """Ids so that every statement comes after what it depends on; an error on a cycle or a gap."""
    for node, needed in graph.items():
        for other in needed:
            if other not in graph:
                raise ValueError(f"{node} depends on {other}, which is not in the catalogue")
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise ValueError(f"statements depend on each other in a circle: {error.args[1]}") from None


def dependencies() -> dict[str, tuple[str, ...]]:
    return {id_: s.depends for id_, s in statements().items()}


def sections(statement_type: StatementType) -> dict[str, str]:
    """The fixed sections of a statement's docstring."""
    text = statement_type.__doc__ or ""
    parts = re.split(rf"^ *({'|'.join(SECTIONS)}): *", text, flags=re.MULTILINE)
    return {
        k: re.sub(r"\n +", "\n", v).strip() for k, v in zip(parts[1::2], parts[2::2], strict=True)
    }
