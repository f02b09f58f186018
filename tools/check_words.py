"""Check the words of docs, messages, docstrings, comments and names: ``python tools/check_words.py [FILE ...]``.

Without arguments it reads the Markdown pages and everything in ``src``. It prints each banned phrase with what to use
instead, and exits with status 1 where there is one. ``docs/glossary.md`` settles the terms.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# Phrase (a regular expression; a space matches any white space, also over a line's end) -> what to use instead.
PHRASES = {
    r"asks": "requests help",
    r"asking": "requesting help, request",
    r"lean(?:s|ed|ing)? on": "is shrunk towards, depends on",
    r"rest(?:s|ed|ing)? on": "depends on, is based on",
    r"hangs? on|hanging on": "depends on",
    r"thin (?:rows?|data|states?|counts?)": "low-count rows",
    r"firm|firmer": "supported",
    r"severed": "pruned",
    r"written whole|(?:is )?there whole|whole or not at all": "written atomically",
    r"promises?|promised": "predicted",
    r"came out|comes out": "realised",
    r"(?:told|tell|tells|telling) apart": "significantly different",
    r"a (?:first |second )?look": "an evaluation",
    r"(?:was|were|is|are) there before": "duplicate ...",
    r"is no help type": "unknown help type",
    r"holds? no": "has no; for folders: not a saved model (missing model.json)",
    r"(?<!here\s)is no (?:file|folder|directory|model|name|number|path|form|level|policy|episode|table)":
        "is not a ...",
    r"/(?:work|home|root|opt)/[\w.]+": "a path that exists on every machine",
}  # fmt: skip
# Whole names of functions, methods and classes -> what to use instead.
NAMES = {
    "known|found|kept|told|given|made|taken|lost|seen|drawn|written_whole": "a verb with its object",
    "asks|asking|leans?|rests?|firm|severed": "a term of the glossary",
}
# File (relative to the root) and phrase as it stands there -> why it is right there.
ALLOWED: dict[tuple[str, str], str] = {}
# A log of experiments in the words of its time; the history of the changelog.
LEFT_OUT = ("CHANGELOG.md", "benchmarks/NOTES.md")

PHRASE_RULES = [
    (re.compile(rf"(?<![\w`-])(?:{pattern})(?![\w-])".replace(" ", r"\s+")), use) for pattern, use in PHRASES.items()
]
NAME_RULES = [(re.compile(rf"_*(?:{pattern})"), use) for pattern, use in NAMES.items()]
KERNEL_DEFINITION = re.compile(r"^\s*(?:cdef|cpdef|def)\b[^=(]*?\b(\w+)\s*\(", re.MULTILINE)
QUOTES = re.compile(r"^(\w*)('''|\"\"\"|'|\")|('''|\"\"\"|'|\")$")


class Hit(NamedTuple):
    path: Path
    line: int
    phrase: str
    use: str


def check_file(path: Path) -> Iterator[Hit]:
    """Banned phrases and names of one file."""
    text = path.read_text(encoding="utf-8")
    prose = extract_prose(text) if path.suffix in {".py", ".pyi"} else text
    for rule, use in PHRASE_RULES:
        for match in rule.finditer(prose):
            phrase = " ".join(match.group().split())
            if (_relative(path), phrase) not in ALLOWED:
                yield Hit(path, text.count("\n", 0, match.start()) + 1, phrase, use)
    for name, line in list_definitions(path, text):
        for rule, use in NAME_RULES:
            if rule.fullmatch(name):
                yield Hit(path, line, f"the name {name}", use)


def extract_prose(source: str) -> str:
    """The source with all but its comments, strings and white space replaced, at the same offsets."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    prose = ["\0" if not char.isspace() else char for char in source]
    middle = getattr(tokenize, "FSTRING_MIDDLE", None)  # Python 3.12 and later split f-strings
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        begin, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if token.type in {tokenize.STRING, tokenize.COMMENT, middle}:
            prose[begin:end] = source[begin:end]
        if token.type == tokenize.STRING:
            for match in QUOTES.finditer(source[begin:end]):
                prose[begin + match.start() : begin + match.end()] = " " * len(match.group())
        elif token.type == tokenize.COMMENT:
            prose[begin] = " "
        elif token.string and token.type in {getattr(tokenize, f"FSTRING_{one}", None) for one in ("START", "END")}:
            prose[begin:end] = " " * (end - begin)
    return "".join(prose)


def list_definitions(path: Path, text: str) -> Iterator[tuple[str, int]]:
    """Names of functions, methods and classes, with their lines."""
    if path.suffix in {".py", ".pyi"}:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield node.name, node.lineno
    elif path.suffix in {".pyx", ".pxd"}:
        for match in KERNEL_DEFINITION.finditer(text):
            yield match.group(1), text.count("\n", 0, match.start(1)) + 1


def list_files() -> list[Path]:
    """The pages, and the sources of the package."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("benchmarks/*.md"),
        *ROOT.glob(".github/**/*.md"),
    ]
    sources = [p for suffix in ("py", "pyi", "pyx", "pxd", "h", "hpp", "html") for p in ROOT.glob(f"src/**/*.{suffix}")]
    return sorted(path for path in [*pages, *sources] if _relative(path) not in LEFT_OUT)


def _relative(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix() if path.resolve().is_relative_to(ROOT) else path.name


def main(arguments: list[str]) -> int:
    paths = [Path(argument) for argument in arguments] or list_files()
    hits = [hit for path in paths for hit in check_file(path)]
    for hit in hits:
        print(f"{_relative(hit.path)}:{hit.line}: {hit.phrase!r} -> {hit.use}")
    print(f"{len(paths)} files, {len(hits)} phrases to replace", file=sys.stderr)
    return 1 if hits else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
