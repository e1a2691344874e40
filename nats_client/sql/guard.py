"""The guard around SQL: a statement reads the tables it was given and nothing else.

There are two walls. First, the connection has no files, network, extensions, Python variables or settings.
Second, the statement is one SELECT, as DuckDB's own parser reads it, of the given tables and of functions
that only compute. The second wall keeps details of the machine and the process out of the results. It also
refuses functions that build one huge value, because DuckDB cannot be interrupted within a value.
"""

import contextlib
import json
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import duckdb

from ..errors import SqlColumnError, SqlError, one_of

MEMORY = "256MB"
"""Memory of one connection, which cannot spill to disk."""
LONGEST = 20_000
"""Maximum characters of a statement."""
LONGEST_APART = 100_000
"""Maximum characters of a statement that runs in a process of its own."""
CONFIG = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "python_enable_replacements": "false",  # otherwise FROM can read this program's variables
}
"""The settings of every connection that runs SQL of others, whatever it reads."""
TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "unnest"})
"""Table functions that only compute. Others read files, the catalog or the settings, change the database from
within a SELECT, or contain further SQL."""
_NEVER_CALLED = re.compile(
    r"current_(?!date$|timestamp$|time$|localtime$|localtimestamp$).*"  # settings, user, query, schemas
    r"|pg_(?!typeof$).*|has_.*_privilege|inet_.*|.*database.*|extension_.*|.*_log|.*duckdb_log.*"
    r"|getvariable|getenv|user|session_user|user_agent|version|in_search_path|show_.*|metadata_info"
    r"|nextval|currval|setval|setseed|txid_current|sleep.*|enable_.*|disable_.*|verif.*|.*serialize.*"
)
"""Functions that reveal the machine, the process or the catalog, change the session, or wait."""
_HUGE = frozenset(
    {"array_resize", "bar", "format", "generate_series", "list_resize", "lpad", "printf", "range", "repeat",
     "rpad"}
)  # fmt: skip
"""Functions whose value can be huge although their arguments are small."""
_UNITS = {
    "us": "microsecond", "ms": "millisecond", "s": "second", "sec": "second", "secs": "second", "m": "minute",
    "min": "minute", "mins": "minute", "h": "hour", "hr": "hour", "hrs": "hour", "d": "day", "w": "week",
}  # fmt: skip
_SHORT_UNIT = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$"
    rf"|(?P<before>\binterval\s+\d+\s+)(?P<unit>{'|'.join(sorted(_UNITS, key=len, reverse=True))})\b",
    re.IGNORECASE | re.DOTALL,
)
_AGGREGATE = "The aggregate"
_NOWHERE = 2**64 - 1
_MOMENTS = frozenset(
    {"current_date", "current_localtime", "current_localtimestamp", "current_time", "current_timestamp",
     "get_current_time", "get_current_timestamp", "localtime", "localtimestamp", "now", "today",
     "transaction_timestamp", "random", "uuid", "gen_random_uuid", "uuidv4", "uuidv7"}
)  # fmt: skip
"""Functions whose value differs each time. Some are written without parentheses."""


@dataclass(frozen=True)
class Statement:
    """A checked SELECT, or a checked expression."""

    sql: str
    """The SQL for DuckDB: short units such as `INTERVAL 10 s` are written out."""
    given: str
    """The SQL as the author wrote it."""
    tables: frozenset[str]
    """Those of the given tables that it reads, spelt as given."""
    columns: frozenset[str] | None
    """Lower-case names of the columns that it may read; None for all."""
    parameters: frozenset[str]
    """The names of its parameters, such as `region` for `$region`."""
    moment: bool
    """True if the result also depends on the clock."""

    def error(self, what: str, at: int | None = None) -> SqlError:
        """An error at the byte `at` of `sql`."""
        return _error(self.given, self.sql, what, at)


def connect(memory: str = MEMORY) -> duckdb.DuckDBPyConnection:
    """An empty database in memory, with one thread. It reads only the tables that are registered with it."""
    connection = duckdb.connect(
        ":memory:",
        config={**CONFIG, "memory_limit": memory, "temp_directory": "", "threads": "1"},
    )
    try:
        connection.execute("SET GLOBAL TimeZone = 'UTC'")
        connection.execute("SET errors_as_json = true")
        connection.execute("SET lock_configuration = true")
    except BaseException:
        connection.close()
        raise
    return connection


def check_select(sql: str, tables: Collection[str], *, apart: bool = False) -> Statement:
    """Check that `sql` is one SELECT of `tables` and of nothing else.

    Names of tables and columns are case-insensitive. `apart`: the statement runs in a process of its own,
    which is killed at its limits, so one value may be huge. Raises SqlError with the place.
    """
    return _checked(sql, tuple(sorted(tables)), apart)


@lru_cache(256)
def _checked(sql: str, tables: tuple[str, ...], apart: bool) -> Statement:
    text = _written_out(sql)
    node = _parsed(sql, text, longest=LONGEST_APART if apart else LONGEST)
    walk = _Walk(sql, text, {name.lower(): name for name in tables}, apart=apart)
    walk.take_all(node)
    return walk.statement()


def check_expression(expression: str, *, aggregate: bool = False) -> Statement:
    """Check that `expression` is one scalar expression: no subquery, aggregate, window, star or parameter.

    With `aggregate`, it may contain aggregates. `sql` of the result is the expression. Raises SqlError with
    the place.
    """
    return _checked_expression(expression, aggregate)


@lru_cache(256)
def _checked_expression(expression: str, aggregate: bool) -> Statement:
    if not expression.strip():
        raise SqlError("The expression is empty. Write one such as: ms > 100.")
    before = "SELECT\n"
    text = _written_out(expression)
    node = _parsed(expression, f"{before}{text}\n", before)
    _parsed(expression, f"{before.strip()}({text}\n)", before)  # as it will be used
    walk = _Walk(expression, text, {}, len(before))
    plain = node["from_table"]["type"] == "EMPTY" and len(node["select_list"]) == 1
    extras = ("where_clause", "having", "qualify", "sample", "modifiers", "group_expressions")
    if plain and node["select_list"][0].get("alias"):
        plain = False
    if node["type"] != "SELECT_NODE" or not plain or any(node.get(part) for part in extras):
        raise SqlError(f"Not one expression: {_short(expression)}. Write one such as: ms > 100.")
    walk.take_all(node["select_list"])
    for what, at in walk.not_scalar:
        if aggregate and what.startswith(_AGGREGATE):
            continue
        raise walk.error(f"{what} cannot be used here. Write an expression of one row's fields.", at)
    if walk.parameters:
        name = min(walk.parameters)
        raise walk.error(f"An expression has no parameters. Write the value in place of ${name}.", None)
    return walk.statement()


def expression_tree(expression: str) -> tuple[dict[str, Any], int]:
    """DuckDB's tree of a checked expression, and the offset in bytes of the expression in the tree's places.
    Raises SqlError."""
    before = "SELECT (\n"
    tree: dict[str, Any] = _parsed(expression, f"{before}{expression}\n)", before)["select_list"][0]
    return tree, len(before)


def expression_sql(tree: Mapping[str, Any]) -> str:
    """The SQL of a tree of expression_tree()."""
    node = {**_parsed("SELECT 1", "SELECT 1"), "select_list": [tree]}
    given = json.dumps({"error": False, "statements": [{"node": node}]})
    with _asking() as connection:
        row = connection.execute("SELECT json_deserialize_sql(CAST(? AS JSON))", [given]).fetchone()
    assert row is not None
    return str(row[0]).removeprefix("SELECT ")


def to_text(values: Mapping[str, object]) -> dict[str, str]:
    """The details of one of DuckDB's errors as texts."""
    return {name: str(value) for name, value in values.items()}


def translated(
    error: BaseException, statement: Statement, known: Mapping[str, Collection[str]], memory: str = MEMORY
) -> SqlError:
    """An error of DuckDB in our words. `known` holds the columns of each table; `memory` is the query's limit
    of memory."""
    said = details(error)
    words, name = said.get("exception_message", "").partition("\n")[0], said.get("name", "")
    at = int(said["position"]) if said.get("position", "").isdigit() else None
    names = {column for columns in known.values() for column in columns}
    if at is not None and (nested := _nested(statement.sql.encode()[at:].decode(errors="ignore"), names)):
        return statement.error(
            f'{nested!r} is the name of one column. Write "{nested}" in double quotes.', at
        )
    if said.get("error_subtype") == "COLUMN_NOT_FOUND" or words.startswith("Referenced column"):
        where = "" if names else " The tables have no rows yet."
        hint = one_of(name, names, what="column") if names else ""
        wrong = statement.error(f"There is no column {name!r}.{where} {hint}".strip(), at)
        return SqlColumnError(wrong.what, line=wrong.line, column=wrong.column)
    if said.get("exception_type") == "INTERRUPT":
        return statement.error("The query was stopped.", None)
    if said.get("exception_type") in ("Out of Memory", "OutOfMemory") or isinstance(error, MemoryError):
        return statement.error(
            f"The query needs more memory than one may have, {memory}. Read fewer rows or group them.", None
        )
    near = said.get("candidates", "").partition(",")[0]
    if said.get("error_subtype") == "MISSING_ENTRY" and "unction" in said.get("type", ""):
        hint = f" Did you mean {near!r}?" if near else ""
        return statement.error(f"There is no function {name!r}.{hint}", at)
    return statement.error(words.rstrip(".!") + "." if words else "The query failed.", at)


def _nested(sql: str, names: Collection[str]) -> str:
    """The column of a nested object, such as `disk.used`, at the beginning of `sql`, perhaps after a table's
    name; empty if there is none."""
    found = re.match(r"\w+(?:\.\w+)+", sql)
    written = found[0] if found else ""
    return next((name for name in (written, written.partition(".")[2]) if "." in name and name in names), "")


def details(error: BaseException) -> dict[str, str]:
    """The parts of one of DuckDB's errors: `exception_type`, `exception_message`, `position`, …"""
    kind, _, rest = str(error).partition(": ")
    try:
        parsed = json.loads(rest)
    except ValueError:
        return {"exception_type": kind.removesuffix(" Error"), "exception_message": rest or kind}
    return to_text(parsed) if isinstance(parsed, dict) else {"exception_message": rest}


class _Walk:
    """Reads the tree of a statement and refuses everything that is not permitted."""

    def __init__(
        self, given: str, sql: str, tables: dict[str, str], before: int = 0, *, apart: bool = False
    ) -> None:
        self._given, self._sql, self._tables, self._before = given, sql, tables, before
        self._apart = apart
        self._names: set[str] = set()
        self._all = False
        self._read: set[str] = set()
        self._ours: list[set[str]] = []  # names that WITH gives, innermost last
        self._aliases: set[str] = set()
        self._moment = False
        self.parameters: set[str] = set()
        self.not_scalar: list[tuple[str, int | None]] = []

    def statement(self) -> Statement:
        everything = self._all or bool(self._names & self._aliases)
        return Statement(
            self._sql,
            self._given,
            frozenset(self._read),
            None if everything else frozenset(self._names),
            frozenset(self.parameters),
            self._moment,
        )

    def error(self, what: str, at: int | None) -> SqlError:
        """An error at byte `at` of what was parsed."""
        return _error(self._given, self._sql, what, None if at is None else at - self._before)

    def take_all(self, node: Any) -> None:
        """Check `node` and all below it."""
        try:
            self.take(node)
        except RecursionError:
            raise SqlError("The SQL is nested too deeply. Write it in steps, with WITH.") from None

    def take(self, node: Any) -> None:
        """Like take_all(), but raises RecursionError if the SQL is nested too deeply."""
        if isinstance(node, list):
            for each in node:
                self.take(each)
            return
        if not isinstance(node, dict):
            return
        named = self._with(node)
        self._one(node)
        for part, value in node.items():
            if part == "function" and node.get("type") == "TABLE_FUNCTION":
                self.take({**value, "function_name": ""})
            elif part != "cte_map":
                self.take(value)
        if named:
            self._ours.pop()

    def _with(self, node: dict[str, Any]) -> bool:
        """Check the WITH of a SELECT, whose names are then known in the rest of the SELECT. Returns True if
        there is one."""
        ctes = node.get("cte_map", {}).get("map") if isinstance(node.get("cte_map"), dict) else None
        if not ctes:
            return False
        names: set[str] = set()
        self._ours.append(names)
        for entry in ctes:
            if entry["key"].lower() in system_views():
                raise self.error(f"WITH cannot use the name {entry['key']!r}. Choose another.", None)
            names.add(entry["key"].lower())  # before its query: it may be recursive
            self._aliases.add(entry["key"].lower())
            self.take(entry["value"])
        return True

    def _one(self, node: dict[str, Any]) -> None:
        at = _place(node)
        kind, sort = node.get("type"), node.get("class")
        if name := node.get("function_name"):
            self._function(str(name), at)
            if sort == "WINDOW":
                self.not_scalar.append(("A window function", at))
            elif name.lower() in aggregates():
                self.not_scalar.append((f"{_AGGREGATE} {name!r}", at))
        if kind == "TABLE_FUNCTION":
            name = str(node["function"]["function_name"])
            if name.lower() not in TABLE_FUNCTIONS:
                raise self.error(f"The table function {name!r} is not open to queries.", at)
        elif kind == "BASE_TABLE":
            self._table(node, at)
        elif kind == "SHOW_REF":
            if node.get("query") is None:
                raise self.error("SHOW is not open to queries.", at)
            self._all = True
        elif kind == "COLUMN_REF":
            parts = [str(part).lower() for part in node["column_names"]]
            self._names.update(parts)
            self._moment |= parts[0] in _MOMENTS
        elif kind in ("PIVOT", "STAR", "POSITIONAL_REFERENCE", "COLUMN_DATA"):
            self._all = True
            self.not_scalar.append(("A star", at))
        elif kind == "VALUE_PARAMETER":
            self.parameters.add(str(node.get("identifier", "")))
        elif sort == "SUBQUERY":
            self.not_scalar.append(("A subquery", at))
        if isinstance(node.get("using_columns"), list):
            self._names.update(str(part).lower() for part in node["using_columns"])
        if node.get("ref_type") in ("NATURAL", "POSITIONAL"):
            self._all = True
        if isinstance(node.get("alias"), str) and kind in ("BASE_TABLE", "SUBQUERY", "JOIN"):
            self._aliases.add(node["alias"].lower())

    def _function(self, name: str, at: int | None) -> None:
        low = name.lower()
        if _NEVER_CALLED.fullmatch(low):
            raise self.error(f"The function {name!r} is not open to queries.", at)
        if low in _HUGE and not self._apart:
            hint = " Write it after FROM." if low in TABLE_FUNCTIONS else ""
            raise self.error(
                f"The function {name!r} is not open to queries: its value can be huge.{hint}", at
            )
        self._moment |= low in _MOMENTS

    def _table(self, node: dict[str, Any], at: int | None) -> None:
        name = str(node["table_name"])
        if node.get("schema_name") or node.get("catalog_name") or len(node["qualified_name"]["path"]) > 1:
            parts = ".".join(map(str, node["qualified_name"]["path"]))
            raise self.error(f"The table {parts!r} is not open to queries. {self._known(name)}", at)
        if any(name.lower() in names for names in self._ours):
            return
        if name.lower() not in self._tables:
            raise self.error(f"There is no table {name!r}. {self._known(name)}", at)
        self._read.add(self._tables[name.lower()])
        self._aliases.add(name.lower())

    def _known(self, name: str) -> str:
        if not self._tables:
            return "This query was given no tables."
        return one_of(name, self._tables.values(), what="table")


_WORD, _WORD_BEFORE = re.compile(r"(\w+)"), re.compile(r"(\w+)\s*$")
_STRUCTURE = re.compile(
    "all|and|as|by|case|distinct|from|having|in|is|join|like|not|null|on|or|select|then|true|union|using"
    "|where|with",
    re.IGNORECASE,
)
"""Words of SQL that are hardly ever meant as a name."""
_lock = threading.Lock()
_parser: list[duckdb.DuckDBPyConnection] = []


@contextlib.contextmanager
def _asking() -> Iterator[duckdb.DuckDBPyConnection]:
    with _lock:
        if not _parser:
            _parser.append(connect())
        yield _parser[0]


def _parsed(given: str, sql: str, before: str = "", longest: int = LONGEST) -> dict[str, Any]:
    """The tree of the one SELECT in `sql`, which begins with `before`. Raises SqlError with a place in
    `given`."""
    if len(given) > longest:
        raise SqlError(f"The SQL has {len(given):,} characters. At most {longest:,} are read.")
    if "\0" in given:
        raise SqlError("The SQL has a character with the code 0. Remove it.")
    with _asking() as connection:
        try:
            kinds = [statement.type.name for statement in connection.extract_statements(sql)]
            row = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchone()
        except (duckdb.Error, ValueError) as error:
            said = details(error)
            at = int(said["position"]) if said.get("position", "").isdigit() else None
            words = said.get("exception_message", "").partition("\n")[0].rstrip(".")
            at = None if at is None else min(at - len(before), len(given.encode()))
            hint = _name_hint(sql[len(before) :], at)
            raise _error(given, sql[len(before) :], f"{words[:1].upper()}{words[1:]}.{hint}", at) from None
    if kinds == ["MULTI"]:
        raise SqlError("Name the values of a PIVOT: FROM (PIVOT t ON x IN ('a', 'b') USING sum(y)).")
    if kinds != ["SELECT"]:
        named = f"this is {' and '.join(kinds)}" if kinds else "there is none here"
        raise SqlError(f"Only one SELECT is answered; {named}.")
    assert row is not None
    try:
        tree = json.loads(row[0])
    except RecursionError:
        raise SqlError("The SQL is nested too deeply. Write it in steps, with WITH.") from None
    if tree["error"]:
        raise SqlError(f"{tree['error_message'].rstrip('.')}.")
    node: dict[str, Any] = tree["statements"][0]["node"]
    return node


def _name_hint(sql: str, at: int | None) -> str:
    """A hint if the word before byte `at` of `sql`, or the word there, is a reserved word that may be meant
    as a name; empty otherwise."""
    if at is None or at < 0:
        return ""
    until = sql.encode()[:at].decode(errors="ignore")
    for found in (_WORD_BEFORE.search(until), _WORD.match(sql, len(until))):
        if found and not _STRUCTURE.fullmatch(found[1]) and found[1].lower() in _reserved():
            return f' If {found[1]!r} is a name here, write "{found[1]}" in double quotes.'
    return ""


@lru_cache(1)
def _reserved() -> frozenset[str]:
    """The words that cannot be a name without quotes. The caller holds the parser's connection."""
    rows = _parser[0].execute(
        "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
    )
    return frozenset(name for (name,) in rows.fetchall())


@lru_cache(1)
def aggregates() -> frozenset[str]:
    """The names of DuckDB's aggregate functions."""
    with _asking() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    return frozenset(name for (name,) in rows)


@lru_cache(1)
def system_views() -> frozenset[str]:
    """The names of DuckDB's own views, which reveal details of the process."""
    with _asking() as connection:
        rows = connection.execute("SELECT DISTINCT view_name FROM duckdb_views()").fetchall()
    return frozenset(name.lower() for (name,) in rows)


def _written_out(sql: str) -> str:
    """`sql` with short units of intervals written out: DuckDB reads `10 seconds` and `'10 s'`, not `10 s`."""
    return _SHORT_UNIT.sub(
        lambda found: f"{found['before']}{_UNITS[found['unit'].lower()]}" if found["unit"] else found.group(),
        sql,
    )


def _place(node: dict[str, Any]) -> int | None:
    at = node.get("query_location")
    return at if isinstance(at, int) and at != _NOWHERE else None


def _error(given: str, sql: str, what: str, at: int | None) -> SqlError:
    """An error at byte `at` of `sql`, with the line and the column in `given`, which has short units."""
    if at is None or at < 0:
        return SqlError(what)
    place = len(sql.encode()[:at].decode(errors="ignore"))
    for found in _SHORT_UNIT.finditer(given):
        if found["unit"] and found.end("unit") <= place:
            place -= len(_UNITS[found["unit"].lower()]) - len(found["unit"])
    place = max(0, min(place, len(given)))
    line = given.count("\n", 0, place) + 1
    column = place - (given.rfind("\n", 0, place) + 1) + 1
    return SqlError(what, line=line, column=column)


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "…"
