"""Instructions of a compiled kernel that its loop over the vocabulary spends on a logit beside the product.

Static, from the machine code that ``nvdisasm`` prints: a block that a branch skips counts as if it never did, so that
the figure is the most that a logit can take. What a tile's loop holds outside the loop of its tensor cores is shared
among the logits of the tile.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["instructions_per_logit"]

LABEL = re.compile(r"^\.?(\w+):\s*$")
LINE = re.compile(r"^\S+\t(?P<guard>@!?U?P\w+ )?(?P<operation>[\w.]+)(?P<operands>[^;]*);")
BRANCHES = ("BRA", "JMP")
ENDS = ("EXIT", "RET")
TENSOR_CORES = ("HMMA", "HGMMA", "IMMA", "UTCHMMA", "UTCQMMA")


class Block(NamedTuple):
    """Instructions that run one after the other, and the blocks that may come next."""

    operations: list[str]
    next: set[int]


def instructions_per_logit(sass: str, threads: int, logits: int) -> float | None:
    """Instructions of all ``threads`` for each of a tile's ``logits``; None without tensor cores.

    >>> tile = ["A:", "-\\tLDS R0;", "B:", "-\\tHMMA R0;", "-\\t@P0 BRA B;", "-\\tFADD R0;", "-\\t@P1 BRA A;"]
    >>> instructions_per_logit("\\n".join([*tile, "-\\tEXIT;"]), threads=8, logits=4)  # LDS, FADD, outer BRA
    6.0
    """
    blocks = _blocks(sass)
    loops = _loops(blocks)

    def has_product(inside: set[int]) -> bool:
        return any(
            operation.startswith(TENSOR_CORES) for i in inside for operation in blocks[i].operations
        )

    products = [inside for inside in loops if has_product(inside)]
    innermost = [one for one in products if not any(other < one for other in products)]
    if not innermost:
        return None
    product = set.union(*innermost)
    around = [inside for inside in loops if inside > product]
    tile = min(around, key=len) if around else set(range(len(blocks)))
    count = sum(len(blocks[i].operations) for i in tile - product)
    return count * threads / logits


def _blocks(sass: str) -> list[Block]:
    """Basic blocks in the order of the text, the entry first."""
    lists: list[list[str]] = [[]]
    jumps: dict[int, tuple[str, bool]] = {}
    labels: dict[str, int] = {}
    for line in sass.splitlines():
        if label := LABEL.match(line):
            if lists[-1] or len(lists) - 1 in jumps:
                lists.append([])
            labels[label[1]] = len(lists) - 1
        elif found := LINE.match(line):
            operation = found["operation"]
            lists[-1].append(operation)
            always = found["guard"] is None
            if operation.startswith(BRANCHES):
                target = found["operands"].split(",")[-1].strip().strip("`().")
                jumps[len(lists) - 1] = target, always
                lists.append([])
            elif operation.startswith(ENDS) and always:
                jumps[len(lists) - 1] = "", True
                lists.append([])
    blocks = []
    for i, operations in enumerate(lists):
        target, always = jumps.get(i, ("", False))
        following = set() if always or i + 1 == len(lists) else {i + 1}
        blocks.append(Block(operations, following | ({labels[target]} if target else set())))
    return blocks


def _loops(blocks: list[Block]) -> list[set[int]]:
    """Natural loops: for each block that dominates one that leads back to it, what lies between."""
    before: list[set[int]] = [set() for _ in blocks]
    for i, block in enumerate(blocks):
        for j in block.next:
            before[j].add(i)
    everything = set(range(len(blocks)))
    dominators = [{0}] + [set(everything) for _ in blocks[1:]]
    changed = True
    while changed:
        changed = False
        for i in range(1, len(blocks)):
            new = {i} | (
                set.intersection(*(dominators[j] for j in before[i])) if before[i] else set()
            )
            changed |= new != dominators[i]
            dominators[i] = new
    loops: dict[int, set[int]] = {}
    for i, block in enumerate(blocks):
        for head in block.next & dominators[i]:
            inside = loops.setdefault(head, {head})
            waiting = [i]
            while waiting:
                j = waiting.pop()
                if j not in inside:
                    inside.add(j)
                    waiting += before[j]
    return list(loops.values())
