"""What a protocol is given and what it returns: the two sides of a run that ``qwen_validate.py`` joins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rich.console import Console

if TYPE_CHECKING:
    from nondecoupling.lm.processes import Processes
    from validate.configuration import RunConfiguration
    from validate.run_folder import RunFolder

__all__ = ["RunProtocol", "RunReport", "Session"]


@dataclass(frozen=True)
class Session:
    """One start of a run: where it writes, what it prints to, and the processes that share its work."""

    folder: RunFolder
    console: Console
    processes: Processes
    resumed: bool

    def begin(self, config: RunConfiguration, model: str) -> None:
        """Write down that the run begins or goes on, and with which model."""
        self.folder.begin(
            config, resumed=self.resumed, processes=self.processes.describe(), model=model
        )


class RunReport(Protocol):
    """What a report says to the terminal and to the exit status."""

    @property
    def outcome(self) -> str:
        """ "holds", "undecided" or "violated"."""

    def print_summary(self, console: Console) -> None:
        """The verdicts as a table, and the sentences that open the report."""


class RunProtocol(Protocol):
    """A protocol with the configuration of one run."""

    @property
    def configuration(self) -> RunConfiguration:
        """Everything that influences the numbers of the run."""

    @property
    def planned(self) -> list[tuple[str, int]]:
        """Stages and steps of the lines of metrics.jsonl."""

    def train(self, session: Session) -> None:
        """Do what is left of the run; what the report needs is in the folder afterwards."""

    def write_report(self, folder: RunFolder) -> RunReport:
        """report.html, plots and, last, report.json, from the configuration and the folder alone."""
