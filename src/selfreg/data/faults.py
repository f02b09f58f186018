"""Faults of logs, and how they name files."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Begins the name of the folder of temporary copies.
COPIES = "selfreg-logs-"
_COPY = re.compile(rf"[^\s'\"]*{COPIES}[a-z0-9_]+[/\\](?:\d+[/\\])?")


def show_path(text: str) -> str:
    """A text without the folder of temporary copies: what remains is archive and member, or `stdin`."""
    return _COPY.sub("", text) if COPIES in text else text


class LogError(ValueError):
    """A record that cannot be read. The message names the file, the line or row, the field and what was expected.

    Attributes
    ----------
    outcome : float or None
        The outcome of the record where it could be read, so that whoever leaves records out can say which.
    choices : tuple of str
        Where a record has several outcomes: their names, of which the user must choose one.
    """

    outcome: float | None = None
    choices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The message; members of archives are named by their archive, not by the copy that is read."""
        return show_path(super().__str__())

    def without(self, place: str) -> LogError:
        """The same fault without a place before it."""
        return self._again(str(self).removeprefix(f"{show_path(place)}: "))

    def at(self, place: str) -> LogError:
        """The same fault with its place."""
        return self._again(f"{place}: {self}")

    def _again(self, message: str) -> LogError:
        fault = LogError(message)
        fault.outcome, fault.choices = self.outcome, self.choices
        return fault


def ask_choice(what: str, names: Iterable[str]) -> LogError:
    """The fault of a record with several outcomes, none of which is named by the user."""
    choices = tuple(names)
    fault = LogError(f"{what} ({', '.join(choices)}); choose one: --map outcome=NAME")
    fault.choices = choices
    return fault
