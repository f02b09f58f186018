"""JSON as other programs write it: the one place where readers of all formats decode it."""

from __future__ import annotations

import re
import threading
from typing import Any, NamedTuple, TypeVar, overload

from selfreg._util.extras import require_extra
from selfreg.data.faults import LogError

with require_extra("logs", "selfreg.data"):
    import msgspec

T = TypeVar("T")

# Deepest nesting that is read: what is deeper could not be written again.
MOST_LEVELS = 500
ENDS_EARLY = "it ends before its last bracket or quote"
ONLY_CR = "its lines end in CR alone; expected LF (tr '\\r' '\\n' < FILE)"
BOM = b"\xef\xbb\xbf"
REPLACEMENT = rb"\ufffd"

# A string without its end is taken to the end of the text, so that the search stays linear.
_STRING_OR_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|-?Infinity|NaN', re.DOTALL)
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
# The bytes of a half of a character that was encoded on its own, which UTF-8 forbids.
_ENCODED_HALF = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


class Repairs(NamedTuple):
    """What was read as something else.

    Attributes
    ----------
    surrogates : int
        Halves of characters, as in a text that was cut within an emoji: read as U+FFFD.
    non_finite : int
        NaN, Infinity and -Infinity, which JSON does not have: read as null.
    """

    surrogates: int = 0
    non_finite: int = 0

    def plus(self, other: Repairs) -> Repairs:
        return Repairs(self.surrogates + other.surrogates, self.non_finite + other.non_finite)

    def minus(self, other: Repairs) -> Repairs:
        return Repairs(self.surrogates - other.surrogates, self.non_finite - other.non_finite)

    def describe(self) -> list[str]:
        """A sentence a kind of repair; none if there were none."""
        found = []
        if self.surrogates:
            found.append(f"{self.surrogates} halves of characters (surrogates) were read as U+FFFD")
        if self.non_finite:
            found.append(f"{self.non_finite} NaN or Infinity were read as null")
        return found


NO_REPAIRS = Repairs()


@overload
def decode_json(data: bytes) -> tuple[Any, Repairs]: ...
@overload
def decode_json(data: bytes, type: type[T]) -> tuple[T, Repairs]: ...
def decode_json(data: bytes, type: Any = Any) -> tuple[Any, Repairs]:
    """A value of JSON, and what had to be repaired before it could be decoded.

    A byte order mark is passed over; halves of characters become U+FFFD, and NaN and Infinity null.

    Parameters
    ----------
    data : bytes
        One JSON value, UTF-8.
    type : type, optional
        What the value is decoded as.

    Returns
    -------
    value, Repairs

    Raises
    ------
    LogError
        Without a place. For what is not UTF-8, not JSON, nested more than `MOST_LEVELS` deep, or not of the type.
    """
    try:
        return _check_depth(msgspec.json.decode(data, type=type), data), NO_REPAIRS
    except msgspec.ValidationError as error:
        raise LogError(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # once more, repaired
    except RecursionError:
        raise LogError(too_deep()) from None
    text, repairs = repair_json(data)
    try:
        return _check_depth(msgspec.json.decode(text, type=type), text), repairs
    except msgspec.ValidationError as error:
        raise LogError(str(error)) from None
    except msgspec.DecodeError as error:
        if "UTF-8" not in str(error):  # msgspec 0.23 says so in this way
            raise LogError(f"not JSON: {_describe(error, text)}") from None
        raise LogError(_describe_coding(data)) from None
    except UnicodeDecodeError:
        raise LogError(_describe_coding(data)) from None
    except RecursionError:
        raise LogError(too_deep()) from None


class _Totals(threading.local):
    repairs = NO_REPAIRS


_TOTALS = _Totals()


@overload
def decode_value(data: bytes) -> Any: ...
@overload
def decode_value(data: bytes, type: type[T]) -> T: ...
def decode_value(data: bytes, type: Any = Any) -> Any:
    """As `decode_json`, for readers: the value alone; repairs are added to those of the thread."""
    value, repairs = decode_json(data, type)
    if repairs is not NO_REPAIRS:
        _TOTALS.repairs = _TOTALS.repairs.plus(repairs)
    return value


def repairs_so_far() -> Repairs:
    """Repairs of all `decode_value` of this thread; the difference of two is what was repaired in between."""
    return _TOTALS.repairs


def repair_json(data: bytes) -> tuple[bytes, Repairs]:
    """JSON text without what decoders refuse, as far as its meaning is clear, and what was replaced."""
    halves = non_finite = 0

    def replace_half(match: re.Match[bytes]) -> bytes:
        nonlocal halves
        if match[1] is None:
            return match[0]
        halves += 1
        return REPLACEMENT

    def replace_token(match: re.Match[bytes]) -> bytes:
        nonlocal non_finite
        token = match[0]
        if token[:1] == b'"':
            return _ESCAPE.sub(replace_half, token) if b"\\u" in token else token
        non_finite += 1
        return b"null"

    text, encoded = _ENCODED_HALF.subn(b"\xef\xbf\xbd", data.removeprefix(BOM))
    text = _STRING_OR_NUMBER.sub(replace_token, text)
    return text, Repairs(halves + encoded, non_finite)


def too_deep() -> str:
    """Message for a value that is nested too deeply."""
    return f"nested more than {MOST_LEVELS} levels deep, which is the limit"


def _check_depth(value: Any, data: bytes) -> Any:
    """The value; RecursionError if it is too deep. Its levels are counted only where there are brackets enough."""
    if data.count(b"[") + data.count(b"{") <= MOST_LEVELS:
        return value
    level, depth = [value], 0
    while level := [
        child
        for one in level
        if isinstance(one, (dict, list))
        for child in (one.values() if isinstance(one, dict) else one)
        if isinstance(child, (dict, list))
    ]:
        depth += 1
        if depth >= MOST_LEVELS:
            raise RecursionError
    return value


def _describe_coding(data: bytes) -> str:
    """Where a text is no UTF-8; the decoder counts from the beginning of a string."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return (
            f"not UTF-8: {error.reason} (byte {error.start}); convert the file first, for example by "
            "iconv -f LATIN1 -t UTF-8"
        )
    return "not UTF-8"


def _describe(error: Exception, text: bytes) -> str:
    """What is wrong with a text, in its own terms where the decoder's would mislead."""
    if not text.strip():
        return "it is empty"
    if text[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\x00" in text[:4]:
        return "it looks like UTF-16; expected UTF-8"
    if "truncated" in str(error):
        return f"{ENDS_EARLY}; expected a complete value (on one line, in JSONL)"
    if b"\r" in text and b"\n" not in text.strip():
        return f"{error}; {ONLY_CR}"
    if "trailing" in str(error):
        return f"{error}. Several documents in one file: write one a line (jq -c . FILE)"
    return str(error)
