#!/usr/bin/env python
"""A task for ``qwen_validate.py --task`` from minimal pairs: which of two words goes on with a sentence?

    python experiments/tasks/from_minimal_pairs.py --pairs 8 BLIMP/data/*.jsonl > experiments/tasks/minimal_pairs.jsonl

Takes files of BLiMP and of each the first pairs whose sentences share their beginning up to one word. That beginning is
the prompt, and what follows in the acceptable and in the unacceptable sentence are the two responses. The experts give
the right one at a rate that rotates over the prompts, so that the data law has spread; the reward is 1 for it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

RIGHT = (0.9, 0.8, 0.7)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of BLiMP")
    parser.add_argument("--pairs", type=int, default=8, metavar="N", help="of each file [8]")
    given = parser.parse_args(arguments)
    prompts = [p for file in given.files for p in islice(prompts_of(file), given.pairs)]
    for index, (prompt, right, wrong) in enumerate(prompts):
        share = RIGHT[index % len(RIGHT)]
        line: dict[str, Any] = {"prompt": prompt, "responses": [right, wrong]}
        line |= {"law": [share, round(1 - share, 1)], "rewards": [1, 0]}
        print(json.dumps(line))


def prompts_of(file: Path) -> Iterator[tuple[str, str, str]]:
    """Each beginning once, with how the acceptable and the unacceptable sentence go on."""
    seen = set()
    for text in file.read_text().splitlines():
        pair: dict[str, Any] = json.loads(text)
        good, bad = pair["sentence_good"], pair["sentence_bad"]
        start = pair.get("one_prefix_prefix") if pair["one_prefix_method"] else None
        if start and start not in seen and good.startswith(start) and bad.startswith(start):
            seen.add(start)
            yield start, good[len(start) :], bad[len(start) :]


if __name__ == "__main__":
    main()
