"""Docstrings as the API reference needs them: plain text with doctests becomes Markdown."""

from __future__ import annotations

import re

import griffe

from nondecoupling.theory import catalog

# A less-than sign that Markdown would take for a tag, outside of code.
TAG = re.compile(r"<(?=[a-zA-Z/!])(?=[^`]*(?:`[^`]*`[^`]*)*$)")


def with_links(source: str) -> str:
    """The ids of statements, linked to their pages; the page that shows them lies in api/."""

    def link(match: re.Match[str]) -> str:
        statement = catalog.statements().get(match[0])
        return f"[{match[0]}](../theory/{catalog.stem(statement)}.md)" if statement else match[0]

    return re.sub(r"\b[A-Z]\d+\b", link, source)


def as_markdown(text: str) -> str:
    """Doctests in fences, sources as links, and no accidental tags."""
    text = re.sub(
        r"(?<=Source: )(.*?)(?=\n\s*\n|$)", lambda m: with_links(m[0]), text, flags=re.DOTALL
    )
    out: list[str] = []
    indent: str | None = None  # of the doctest that the line belongs to
    for line in text.splitlines():
        start = re.match(r"(\s*)>>>", line)
        if start and indent is None:
            indent = start[1]
            out += ["", f"{indent}```pycon"]
        elif indent is not None and not line.strip():
            out.append(f"{indent}```")
            indent = None
        out.append(line if indent is not None else TAG.sub("&lt;", line))
    return "\n".join([*out, f"{indent}```"] if indent is not None else out)


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
