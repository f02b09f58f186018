"""Values of logs as the numbers and names that roles have: translations, ranges and thresholds."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError

with require_extra("logs", "selfreg.data"):
    import msgspec

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*")
_THRESHOLD = re.compile(rf"\s*(>=|<=|>|<)\s*({_NUMBER})\s*")
_DECIMAL_COMMA = re.compile(r"\s*[-+]?(?:0,\d+|\d+,\d{1,2})\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}
# In a translation, stands for every other value.
ANY = "*"


class Rule(NamedTuple):
    """How values of a role are translated; one of the three is set.

    Attributes
    ----------
    text : str
        As the user gave it.
    names : mapping of str to str, or None
        Value in the log, as text, to value of the role.
    span : (float, float) or None
        The values that become 0 and 1.
    threshold : (str, float) or None
        Comparison and number: 1 where it holds, else 0.
    """

    text: str
    names: Mapping[str, str] | None = None
    span: tuple[float, float] | None = None
    threshold: tuple[str, float] | None = None

    def translate(self, value: Any) -> Any:
        """A value of the log as one of the role; null stays null unless the rule names it.

        Raises
        ------
        LogError
            Without the field: for a value that the rule does not cover.
        """
        if self.names is not None:
            return self._translate_name(value)
        if value is None:
            return None
        number = _read_number(value)
        if self.span is not None:
            return self._scale(number)
        assert self.threshold is not None
        compare, limit = self.threshold
        return float(_COMPARE[compare](number, limit))

    def _translate_name(self, value: Any) -> Any:
        assert self.names is not None
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        for name in (shown, shown.strip(), ANY):
            if name in self.names and (name != ANY or value is not None):
                return _read_result(self.names[name])
        if value is None:
            return None
        raise LogError(f"expected one of {', '.join(map(repr, self.names))}; got {shown!r}")

    def _scale(self, number: float) -> float:
        assert self.span is not None
        first, last = self.span
        share = (number - first) / (last - first)
        if not 0 <= share <= 1:
            raise LogError(f"expected a number in {self.text.strip()}; got {number:g}")
        return share


def parse_rule(text: str) -> Rule:
    """A rule from its text.

    Parameters
    ----------
    text : str
        ``C=1,I=0`` translates values (``*`` stands for every other one); ``-1..1`` scales a range to 0..1; ``>=4``
        (also ``>``, ``<=``, ``<``) is 1 where it holds, else 0.

    Returns
    -------
    Rule

    Raises
    ------
    ValueError
        For another text, a range without width, and a value that is translated twice.

    Examples
    --------
    >>> from selfreg.data.translation import parse_rule
    >>> parse_rule("0..100").translate(25), parse_rule(">=4").translate("5"), parse_rule("C=1,I=0").translate("I")
    (0.25, 1.0, 0.0)
    """
    if match := _RANGE.fullmatch(text):
        first, last = float(match[1]), float(match[2])
        if first == last or not math.isfinite(last - first):
            raise ValueError(f"{text!r}: expected a range with two different ends, such as -1..1")
        return Rule(text, span=(first, last))
    if match := _THRESHOLD.fullmatch(text):
        return Rule(text, threshold=(match[1], float(match[2])))
    if text.lstrip()[:1] in ("<", ">"):
        raise ValueError(f"{text!r}: expected a threshold such as >=4")
    names: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        if not equals:
            raise ValueError(f"{text!r}: expected VALUE=NUMBER,... or a range (-1..1) or a threshold (>=4)")
        if name in names:
            raise ValueError(f"{text!r}: {name!r} is translated twice")
        names[name.strip()] = value.strip()
    return Rule(text, names)


def _read_result(text: str) -> Any:
    """A result of a translation: a number, true, false or null as in JSON; else the text."""
    words = {"true": True, "false": False, "null": None, "": None}
    if text in words:
        return words[text]
    try:
        return float(text)
    except ValueError:
        return text


def parse_number(value: Any) -> float:
    """A number, or its text; a percentage, and one with a decimal comma (`0,5`) where that cannot be one of thousands.

    Raises
    ------
    ValueError, TypeError, OverflowError
        For another value.
    """
    if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
        value = value.replace(",", ".")
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return parse_number(value.rstrip()[:-1]) / 100
    return float(value)


def _read_number(value: Any) -> float:
    try:
        number = math.nan if isinstance(value, (dict, list)) else parse_number(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        raise LogError(f"expected a number; got {shown[:60]!r}")
    return number
