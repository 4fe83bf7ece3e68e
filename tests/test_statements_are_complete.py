"""A statement that is half finished fails here, once, with everything that it lacks."""

from __future__ import annotations

import shutil

from tests.statement_parts import ROOT, half_finished


def test_no_statement_is_half_finished():
    lacking = [f"{stem} lacks {', '.join(parts)}" for stem, parts in half_finished().items()]
    assert not lacking, "\n".join(lacking)


def test_missing_parts_are_seen(tmp_path):
    for part in ("mkdocs.yml", "docs/theory", "proofs"):
        source, target = ROOT / part, tmp_path / part
        target.parent.mkdir(parents=True, exist_ok=True)
        ignore = shutil.ignore_patterns("rocq", "__pycache__", "s3_*", "test_s3_*")
        shutil.copy(source, target) if source.is_file() else shutil.copytree(
            source, target, ignore=ignore
        )
    half_finished.cache_clear()
    try:
        assert half_finished(tmp_path) == {
            "s3_two_sided_size": [
                "proofs/test_s3_two_sided_size.py",
                "docs/theory/s3_two_sided_size.md",
            ]
        }
    finally:
        half_finished.cache_clear()
