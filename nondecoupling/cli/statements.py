"""Commands that show what there is: ``list``, ``show`` and ``ledger``."""

from __future__ import annotations

import typer
from rich.markup import escape
from rich.table import Table

from nondecoupling import __version__
from nondecoupling.cli.exits import ExitStatus, fail
from nondecoupling.cli.options import AsJson, StatementId, claims_of, statement_named
from nondecoupling.cli.report import console, print_json
from nondecoupling.cli.world_options import describe
from nondecoupling.theory import catalog, ledger


def list_statements(as_json: AsJson = False) -> None:
    """List the statements of the catalogue, by what they are about."""
    found = catalog.statements().values()
    if as_json:
        families = catalog.FAMILIES
        print_json(
            [
                {"id": s.id, "title": s.title, "depends": s.depends, "family": families[s.id[0]]}
                for s in found
            ]
        )
        return
    table = Table("id", "statement", "rests on", title="Statements")
    family = None
    for statement in found:
        if statement.id[0] != family:
            family = statement.id[0]
            table.add_section()
            table.add_row("", f"[bold]{escape(catalog.FAMILIES[family])}[/bold]", "")
        table.add_row(statement.id, escape(statement.title), ", ".join(statement.depends))
    console().print(table)


def show(statement_id: StatementId, as_json: AsJson = False) -> None:
    """Show a statement: its text, assumptions, world, claims and how far it is assured."""
    statement = statement_named(statement_id)
    sections = catalog.sections(statement)
    world = {name: describe(name, field) for name, field in statement.world.items()}
    claims = claims_of(statement)
    entry = _ledger().get(statement.id)
    if as_json:
        print_json(
            {
                "id": statement.id,
                "title": statement.title,
                "depends": statement.depends,
                "sections": sections,
                "world": world,
                "claims": [
                    {"name": c.name, "relation": c.relation, "refuted_by_theory": c.refuted}
                    for c in claims
                ],
                "rungs": entry.rungs if entry else {},
                "where": catalog.places(statement),
                "rocq": ledger.rocq_theorems(entry) if entry else [],
            }
        )
        return
    out = console()
    out.print(f"[bold]{statement.id}  {escape(statement.title)}[/bold]")
    for name, text in sections.items():
        out.print(f"\n[bold]{name}[/bold]\n{escape(text)}")
    out.print("\n[bold]World[/bold]")
    for name, text in world.items():
        out.print(escape(f"{name}: {text}"))
    out.print("\n[bold]Claims[/bold]")
    for claim in claims:
        note = ", false by the theory" if claim.refuted else ""
        out.print(escape(f"{claim.name} ({claim.relation}{note})"))
    out.print("\n[bold]Rests on[/bold]\n" + (", ".join(statement.depends) or "nothing"))
    if entry:
        out.print("\n[bold]Assured by[/bold]\n" + (", ".join(entry.rungs) or "nothing yet"))
    out.print("\n[bold]Where in the repository[/bold]")
    for what, path in catalog.places(statement).items():
        out.print(f"{what}: {path}", soft_wrap=True)
    if entry and (names := ledger.rocq_theorems(entry)):
        out.print(f"Rocq, in proofs/rocq/Statements.v: {', '.join(names)}")


def show_ledger(as_json: AsJson = False) -> None:
    """Show how far each statement is assured, as computed for this release."""
    entries = _ledger()
    if not entries:
        fail("this installation carries no ledger; write it with: pytest proofs/ --update-ledger")
    if as_json:
        print(ledger.to_json(entries), end="")
    else:
        header, *rows = ledger.table(entries)
        table = Table(*header, title=f"Ledger of nondecoupling {__version__}")
        for row in rows:
            table.add_row(*map(escape, row))
        console().print(table)
        console().print(ledger.summary(entries))
    if not all(entry.established for entry in entries.values()):
        raise typer.Exit(ExitStatus.REFUTED)


def _ledger() -> dict[str, ledger.Entry]:
    try:
        return ledger.load()
    except FileNotFoundError:
        return {}
