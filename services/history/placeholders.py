"""Finds the parameters in SQL, and turns `$name` into PostgreSQL's `$1`."""

import re
from collections.abc import Iterator

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
      (?P<text>   [eE]'(?:[^'\\]|\\.|'')*'              # E'it\'s'
                | '(?:[^']|'')*'                        # 'it''s'
                | "(?:[^"]|"")*"                        # "a column"
                | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$   # $$it's$$, $tag$it's$tag$
                | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<word>   [^\W\d][\w$]* )                       # a name may contain $
    | \$(?P<name> [^\W\d]\w* )
    | (?P<rest>   . )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")


def numbered(sql: str) -> tuple[str, list[str]]:
    """`sql` with each `$name` replaced by `$1`, `$2`, …, and the names in that order.

    Literals, quoted names and comments are not changed. No value is ever put into the text, so at worst
    the database refuses SQL that is parsed wrongly here.
    """
    parts: list[str] = []
    names: list[str] = []
    for part, name in _parts(sql):
        if name and name not in names:
            names.append(name)
        parts.append(f"${names.index(name) + 1}" if name else part)
    return "".join(parts), names


def without_semicolon(sql: str) -> str:
    """`sql` without semicolons and comments at its end, so that it can be put in parentheses."""
    end = at = 0
    for part, _ in _parts(sql):
        at += len(part)
        if not (part.startswith(("--", "/*")) or part.isspace() or part == ";"):
            end = at
    return sql[:end]


def _parts(sql: str) -> Iterator[tuple[str, str | None]]:
    """The tokens of `sql`, each with its name if it is a parameter."""
    at = 0
    while token := _TOKEN.match(sql, at):
        start, at = token.span()
        if token["comment"]:
            at = _end_of_comment(sql, at)
        yield sql[start:at], token["name"]


def _end_of_comment(sql: str, at: int) -> int:
    """Where the block comment that starts before `at` ends. Comments nest."""
    depth = 1
    for mark in _COMMENT.finditer(sql, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)
