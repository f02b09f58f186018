"""Text of logs as a terminal may show it."""

from __future__ import annotations

import unicodedata


def escape_controls(text: str) -> str:
    r"""A text without characters that command a terminal or turn the direction of writing: they become escapes.

    Line ends and tabs stay.

    Examples
    --------
    >>> print(escape_controls("a\x1b]0;title\x07b"))
    a\x1b]0;title\x07b
    """
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    if character in "\u200c\u200d":  # joiners, which emoji and several scripts need
        return character
    return character.encode("unicode_escape").decode()
