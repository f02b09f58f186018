"""JSON in the text of a state, in one form: the order of keys and white space between them say nothing."""

from __future__ import annotations

import json
import re

FAILURE = 100  # characters that are read in the time that an error takes
_DECODER = json.JSONDecoder()
_OBJECT = re.compile(r"\{(?=\s*[\"}])")
_BEGIN = re.compile(rf"^\s*\[|{_OBJECT.pattern}")


def normalize_json(text: str) -> str:
    """The same text with each JSON object in it, and a text that is a JSON array, on one line with sorted keys.

    What is not JSON is unchanged. Takes time linear in the text.

    Examples
    --------
    >>> from selfreg._util.json_text import normalize_json
    >>> normalize_json('Page 1: {"b": [1,2],\\n "a": null} {x}')
    'Page 1: {"a": null, "b": [1, 2]} {x}'
    """
    if "{" not in text and "[" not in text:
        return text
    parts, done, match = list[str](), 0, _BEGIN.search(text)
    # Parsing that fails is paid for: so much of the text, at most, is read in vain.
    left = 2 * len(text)
    while match is not None and left > 0:
        begin = match.end() - 1
        try:
            value, end = _DECODER.raw_decode(text, begin)
            if text[begin] == "[" and text[end:].strip():
                raise ValueError("more than an array")
            shown = json.dumps(value, sort_keys=True, ensure_ascii=False)
        except json.JSONDecodeError as error:
            left -= error.pos - begin + FAILURE
        except (ValueError, RecursionError):  # integers of thousands of digits, nesting
            left -= len(text) - begin
        else:
            parts += [text[done:begin], shown]
            done = end
        match = _OBJECT.search(text, max(done, begin + 1))
    return "".join([*parts, text[done:]])
