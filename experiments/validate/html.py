"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nondecoupling.theory import catalog
from validate.configuration import RunConfiguration, command
from validate.first_screen import FirstScreen
from validate.run_folder import RunFolder

__all__ = ["render"]


def render(
    template: Path,
    folder: RunFolder,
    config: RunConfiguration,
    first: FirstScreen,
    statements: Container[str],
    images: Mapping[str, str],
    **values: Any,
) -> str:
    """``template`` extends ``report_base.html.j2``; ``images`` are SVG, embedded by name.

    The report brings along the text of the ``statements`` whose ids these are, so that its tables can link to it.
    """
    loader = FileSystemLoader([Path(__file__).parent, template.parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["tiny"] = lambda value: f"{value:.1e}"
    embedded = {name: base64.b64encode(svg.encode()).decode() for name, svg in images.items()}
    environment.globals["images"] = embedded
    return environment.get_template(template.name).render(
        first=first,
        statements={name: _text_of(name) for name in catalog.statements() if name in statements},
        command=command(config),
        origins=folder.origins(),
        **values,
    )


def _text_of(name: str) -> dict[str, str]:
    statement = catalog.statement(name)
    text = catalog.sections(statement)
    parts = {part: text.get(part, "") for part in ("Statement", "Assumptions", "Source")}
    return {"title": statement.title, **parts}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
