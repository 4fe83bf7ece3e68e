"""Writes the pages that the site is built from, in build/docs: those of docs/, and what is generated.

- A link to a file outside ``docs/`` leads to a page with that file's text; if the link's text is a
  name that the file defines, to its line.
- The "How far it is assured" section of a statement begins with its rungs, from the ledger.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from nondecoupling.theory import ledger
from nondecoupling.theory.assurance import Assurance

ROOT = Path(__file__).parents[2]
SOURCES = "source"  # the folder of the site that holds the program text
LANGUAGE = {".py": "python", ".v": "coq", ".md": "markdown", ".txt": "text"}
ASSURED = "## How far it is assured\n"


def prepare(docs: Path, target: Path) -> list[str]:
    """Writes the pages to a new folder; returns what is wrong with their links."""
    shutil.copytree(docs, target, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    problems: list[str] = []
    sources: set[str] = set()
    for page in sorted(target.rglob("*.md")):
        name = page.relative_to(target).as_posix()
        text = with_rungs(page.read_text(), name)
        linked = set(files_outside(text, name))
        missing = {path for path in linked if not is_source(path)}
        problems += [f"{name}: no file {path}" for path in sorted(missing)]
        sources |= linked - missing
        page.write_text(with_sources(text, name))
    for path in sources:
        page = target / SOURCES / f"{path}.md"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(as_page(path))
    return problems


# --- program text -----------------------------------------------------------------------------

# The end of a Markdown link to a file; all of the link if its text is a name in code.
LINK = re.compile(r"(?:\[`(?P<name>\w+)`)?\]\((?!\w+:|#)(?P<target>[^)\s#]+)\)")


def outside(target: str, page: str) -> str | None:
    """The path from the root of a link's target, unless it lies below docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") else path


def is_source(path: str) -> bool:
    return not path.startswith("../") and (ROOT / path).is_file()


def files_outside(markdown: str, page: str) -> Iterator[str]:
    for match in LINK.finditer(markdown):
        if path := outside(match["target"], page):
            yield path


def with_sources(markdown: str, page: str) -> str:
    """A page whose links to program text lead to its pages in the site."""

    def to_source(match: re.Match[str]) -> str:
        path = outside(match["target"], page)
        if path is None or not is_source(path):
            return match[0]
        there = posixpath.relpath(f"{SOURCES}/{path}", posixpath.dirname(page) or ".")
        line = line_of(match["name"], path) if match["name"] else None
        if line is None:
            return match[0].replace(f"({match['target']})", f"({there}.md)")
        # As HTML: a builder would look for the anchors of lines in vain, they come later.
        url = f"{there}.html#__codelineno-0-{line}"
        return f'<a href="{url}"><code>{match["name"]}</code></a>'

    return LINK.sub(to_source, markdown)


def line_of(name: str, path: str) -> int | None:
    """The line of a file that defines a name."""
    defined = re.compile(rf"^\s*(?:Theorem|Definition|Lemma|Corollary|def|class) {name}\b")
    for number, line in enumerate((ROOT / path).read_text().splitlines(), start=1):
        if defined.match(line):
            return number
    return None


def as_page(path: str) -> str:
    text = (ROOT / path).read_text()
    fence = "`" * 5
    language = LANGUAGE.get(posixpath.splitext(path)[1], "text")
    head = "---\nsearch:\n  exclude: true\nhide:\n  - toc\n---\n"
    return f'{head}# {path}\n\n{fence} {{ .{language} linenums="1" }}\n{text}\n{fence}\n'


# --- the ledger -------------------------------------------------------------------------------


def with_rungs(markdown: str, page: str) -> str:
    """A theory page with the rungs of its statement, from the ledger of this release."""
    found = re.fullmatch(r"theory/([a-z]\d+)_\w+\.md", page)
    entry = ledger.load().get(found[1].upper()) if found else None
    if entry is None:
        return markdown
    cells = [("yes" if a.value in entry.rungs else "-") for a in Assurance]
    cells.append("yes" if entry.established else f"no: {entry.why_not}")
    header = [*(a.value for a in Assurance), "established"]
    rows = (header, ["---"] * len(header), cells)
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return markdown.replace(ASSURED, f"{ASSURED}\n{table}\n", 1)


if __name__ == "__main__":
    pages = ROOT / "build/docs"
    shutil.rmtree(pages, ignore_errors=True)
    sys.exit("\n".join(prepare(ROOT / "docs", pages)) or None)
