"""Instructions of a compiled kernel that its loop over the vocabulary spends on a logit beside the product.

Static, from the machine code that ``cuobjdump -sass`` prints: a block that a branch skips counts as if it never did, so
that the figure is the most that a logit can take. What a tile's loop holds outside the loop of its tensor cores is
shared among the logits of the tile.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["instructions_per_logit"]

LINE = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+(?P<guard>@!?U?P\w+\s+)?(?P<operation>[\w.]+)\s*(?P<operands>[^;]*);"
)
BRANCHES = ("BRA", "JMP")
ENDS = ("EXIT", "RET")
TENSOR_CORES = ("HMMA", "HGMMA", "IMMA", "UTCHMMA", "UTCQMMA")


class Block(NamedTuple):
    """Instructions that run one after the other, and the blocks that may come next."""

    operations: list[str]
    next: set[int]


def instructions_per_logit(sass: str, threads: int, logits: int) -> float | None:
    """Instructions of all ``threads`` for each of a tile's ``logits``; None without tensor cores.

    >>> lines = ["LDS R0", "HMMA R0", "@P0 BRA 0x0010", "FADD R0", "@P1 BRA 0x0000", "EXIT"]
    >>> tile = "\\n".join(f"/*{16 * i:04x}*/ {line} ;" for i, line in enumerate(lines))
    >>> instructions_per_logit(tile, threads=8, logits=4)  # LDS, FADD and the outer branch
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
    found = [line for line in map(LINE.match, sass.splitlines()) if line]
    place = {int(line["address"], 16): i for i, line in enumerate(found)}
    after: list[set[int]] = []
    for i, line in enumerate(found):
        *conditions, target = line["operands"].split(",")
        following = {i + 1} if i + 1 < len(found) else set()
        always = not line["guard"] and not any(map(str.strip, conditions))
        if line["operation"].startswith((*BRANCHES, *ENDS)) and always:
            following = set()
        if line["operation"].startswith(BRANCHES):
            following.add(place[int(target, 16)])
        after.append(following)
    # A block begins where a jump leads, and behind one.
    starts = {0} | {
        j for i, following in enumerate(after) for j in following if following != {i + 1}
    }
    starts |= {i + 1 for i, following in enumerate(after[:-1]) if following != {i + 1}}
    order = sorted(starts)
    number = {first: n for n, first in enumerate(order)}
    blocks = []
    for first, end in zip(order, [*order[1:], len(found)], strict=True):
        operations = [line["operation"] for line in found[first:end]]
        blocks.append(Block(operations, {number[j] for j in after[end - 1]}))
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
