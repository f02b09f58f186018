"""What results show of themselves: a line, a table for notebooks, a pandas DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 60
FEW = 4


class ShortRepr:
    """A dataclass whose `repr` has long arrays by their dtype and shape, and leaves out private fields."""

    def __repr__(self) -> str:
        shown = [f.name for f in fields(self) if not f.name.startswith("_")]  # type: ignore[arg-type]
        parts = [f"{name}={describe(getattr(self, name))}" for name in shown]
        return f"{type(self).__name__}({', '.join(parts)})"


def describe(value: Any) -> str:
    """A value in few characters.

    >>> import numpy as np
    >>> describe(np.array([0.25, 1])), describe(np.zeros((3, 40))), describe({"help": 0.1 + 0.2})
    ('[0.25, 1]', 'float64 (3, 40)', '{help: 0.3}')
    """
    if isinstance(value, np.ndarray):
        if value.ndim == 1 and len(value) <= FEW:
            return f"[{', '.join(describe(item) for item in value.tolist())}]"
        return f"{value.dtype} {value.shape}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        items = [f"{key}: {describe(item)}" for key, item in list(value.items())[:FEW]]
        return f"{{{', '.join([*items, '...'] if len(value) > FEW else items)}}}"
    if isinstance(value, (list, tuple)) and len(value) > FEW:
        return f"{type(value).__name__} of {len(value)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "state"), counted(3, "state")
    ('1 state', '3 states')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], left_out: int = 0) -> str:
    """A table of escaped texts; `left_out` rows are mentioned below it."""
    top = "".join(f"<th>{escape(text)}</th>" for text in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    more = f"<p>{left_out} more rows</p>" if left_out > 0 else ""
    head_row = f"<thead><tr>{top}</tr></thead>"
    return f"<table><caption>{escape(caption)}</caption>{head_row}<tbody>{body}</tbody></table>{more}"


def data_frame(columns: Mapping[str, Any], who: str) -> pd.DataFrame:
    """A DataFrame of columns.

    Raises
    ------
    ImportError
        If pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{who} needs pandas, which no extra of selfreg brings: pip install pandas") from error
    return pd.DataFrame(dict(columns))
