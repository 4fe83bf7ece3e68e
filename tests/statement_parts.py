"""What belongs to a statement beside its file in theorems/, and which statements are half finished."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nondecoupling.theory import catalog

ROOT = Path(__file__).parents[1]


@lru_cache(maxsize=1)
def half_finished(root: Path = ROOT) -> dict[str, list[str]]:
    """The stems of statements that lack a part, with the parts they lack."""
    navigation = (root / "mkdocs.yml").read_text()
    overview = (root / "docs" / "theory" / "index.md").read_text()
    lacking = {}
    for statement in catalog.statements().values():
        stem = catalog.stem(statement)
        sections = set(catalog.SECTIONS) - set(catalog.sections(statement))
        parts = {
            f"the sections {', '.join(sorted(sections))} in its docstring": not sections,
            f"proofs/test_{stem}.py": (root / "proofs" / f"test_{stem}.py").exists(),
            f"docs/theory/{stem}.md": (root / "docs" / "theory" / f"{stem}.md").exists(),
            "a line in mkdocs.yml": f"theory/{stem}.md" in navigation,
            "a row in docs/theory/index.md": f"]({stem}.md)" in overview,
        }
        if missing := [part for part, there in parts.items() if not there]:
            lacking[stem] = missing
    return lacking
