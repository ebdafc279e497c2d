"""Where in a TOML file each key stands, so that a message can name the line.

Only for text that `tomllib` has accepted: it finds places, it judges nothing.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections import Counter

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*("(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)[ \t]*""")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"""' r"|'''.*?'''" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'" r"|\#[^\n]*|[\[\]{}]|\n",
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """Line of every table and key outside inline tables. Arrays of tables have an index in their path:
    `("sensor", 0, "port")`."""
    newlines = [match.start() for match in re.finditer("\n", text)]
    lines: dict[Path, int] = {}
    arrays: Counter[Path] = Counter()
    table: Path = ()
    at = _end(_BLANK, text, 0)
    while at < len(text):
        line = bisect_right(newlines, at) + 1
        if text.startswith("[[", at):
            parts, at = _dotted(text, at + 2)
            array = (*_resolve(parts[:-1], arrays), parts[-1])
            lines.setdefault(array, line)
            table = (*array, arrays[array])
            arrays[array] += 1
            lines[table] = line
            at = text.index("]]", at) + 2
        elif text[at] == "[":
            parts, at = _dotted(text, at + 1)
            table = _resolve(parts, arrays)
            lines[table] = line
            at = text.index("]", at) + 1
        else:
            parts, at = _dotted(text, at)
            for n in range(1, len(parts) + 1):
                lines.setdefault((*table, *parts[:n]), line)
            at = _after_value(text, at)
        at = _end(_BLANK, text, at)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Line of the nearest known place at or above a path; None for the file as a whole."""
    for n in range(len(path), 0, -1):
        if path[:n] in lines:
            return lines[path[:n]]
    return None


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


def _dotted(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """A dotted key from `at`: its parts and where it ends."""
    parts: list[str] = []
    while match := _PART.match(text, at):
        raw = match[1]
        parts.append(tomllib.loads(f"k={raw}")["k"] if raw[0] in "\"'" else raw)
        at = match.end()
        if not text.startswith(".", at):
            break
        at += 1
    return tuple(parts), at


def _resolve(parts: tuple[str, ...], arrays: Counter[Path]) -> Path:
    """A header's path with the index of the array element it speaks of: always the latest."""
    path: Path = ()
    for part in parts:
        path = (*path, part)
        if arrays[path]:
            path = (*path, arrays[path] - 1)
    return path


def _after_value(text: str, at: int) -> int:
    """The end of the value that follows a key: a line end outside strings and brackets."""
    depth = 0
    for match in _TOKEN.finditer(text, at):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
        elif match[0] == "\n" and depth == 0:
            return match.end()
    return len(text)
