"""A report as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["render"]


def render(template: Path, images: dict[str, str], **values: Any) -> str:
    """``template`` extends ``report_base.html.j2``; ``images`` are SVG, embedded by name."""
    loader = FileSystemLoader([Path(__file__).parent, template.parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["tiny"] = lambda value: f"{value:.1e}"
    embedded = {name: base64.b64encode(svg.encode()).decode() for name, svg in images.items()}
    environment.globals["images"] = embedded
    return environment.get_template(template.name).render(**values)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
