"""Keeps the rows of a batch for which an expression is true, and adds computed columns.

Each value has the type that it has in its own message: a number, an integer beyond 2**53, a text, a time in
ISO 8601, or nothing. Rows with the same types are computed together. So the value of an expression for a
message does not depend on the other messages of its batch, and a replay has the same rows as messages that
arrive one by one.

An expression that has no value for a row, because a field is of another type, a cast fails or a number is
out of range, is NULL there. A row is kept where `where` is true.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import duckdb
import numpy as np
import pyarrow as pa

from ..errors import SqlError
from ..subjects import ENVELOPE, token_columns
from ..table.values import Batch, Floats, Ints, Truths, Values
from .cost import MOST, Cost
from .expression import Expression, Part, nearest, parse_expression, words_of
from .guard import connect
from .row_values import (
    LARGE,
    LONGEST_TEXT,
    NONE,
    NUMBER,
    TEXT,
    TIME,
    Made,
    Source,
    absent,
    cut,
    joined,
    lengths,
)

MOST_COLUMNS = 32
"""Computed columns of one feed."""
MOST_AT_ONCE = 5_000
"""Maximum rows computed in one call, so that the filter can be stopped between two calls."""
MOST_FIELDS = 1_000
"""Maximum names of fields kept for suggestions."""
MOST_PLANS = 1_000
"""Maximum combinations of types for which the SQL is kept."""
MOST_NOTES = 5
"""Maximum reasons kept why an expression has no value."""

_WORDS = ("missing", "a number", "an integer beyond 2**53", "text", "a time")
_TYPES: dict[int, tuple[str, ...]] = {
    # Tried in order; the first one with which the expression can be computed is used.
    NONE: ("NULL", "CAST(NULL AS DOUBLE)", "CAST(NULL AS VARCHAR)", "CAST(NULL AS TIMESTAMPTZ)"),
    NUMBER: ("{0}", "CASE WHEN {0} = trunc({0}) THEN TRY_CAST({0} AS BIGINT) END"),
    LARGE: ("TRY_CAST({0} AS HUGEINT)", "TRY_CAST({0} AS DOUBLE)"),
    TEXT: ("{0}",),
    TIME: ("{0}", "{0}_text"),
}
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_HUGE = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_NUMBERS = {"FLOAT", "DOUBLE", "BOOLEAN", "BIGNUM"}


@dataclass(frozen=True)
class Computed:
    """A column that is computed from the fields of a row."""

    name: str
    expression: Expression


@dataclass(frozen=True)
class _Plan:
    """The SQL for rows with the same types."""

    sql: str
    kinds: tuple[str, ...]
    """Kind of each computed column: "whole", "huge", "number", "text", "time", or "none"."""


@dataclass
class Seen:
    """The fields and failures of the messages read so far. Only the filtering thread writes it; any thread
    may read it."""

    fields: set[str] = field(default_factory=set)
    """Names of fields, up to MOST_FIELDS."""
    absent: tuple[str, ...] = ()
    """Fields that an expression names and that no message had."""
    notes: dict[str, None] = field(default_factory=dict)
    """Why an expression has no value for some messages, as sentences."""


class StoppedError(Exception):
    """RowFilter.stop() was called."""


class RowFilter:
    """`where` and `columns` of one feed."""

    def __init__(
        self, where: str | None, columns: Sequence[tuple[str, str]] = (), names: Sequence[str] = ()
    ) -> None:
        """`names` are the tokens of the subject that have names, as in subjects.Pattern. Raises SqlError."""
        self.where = parse_expression(where, "where") if where is not None else None
        if len(columns) > MOST_COLUMNS:
            raise SqlError(f"There are {len(columns)} computed columns; the most are {MOST_COLUMNS}.")
        self.columns = [
            Computed(_checked_name(name), parse_expression(text, f"column {name!r}"))
            for name, text in columns
        ]
        every = [*([self.where] if self.where else []), *(column.expression for column in self.columns)]
        self.fields = tuple(dict.fromkeys(name for each in every for name in each.fields))
        """The names in all expressions."""
        self._cost = sum((each.cost for each in every), Cost())
        self._names = tuple(names)
        self._given = {*ENVELOPE, *filter(None, names)}
        self.seen = Seen(absent=tuple(name for name in self.fields if name not in self._given))
        self._plans: dict[tuple[int, ...], _Plan | None] = {}
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._using = threading.Lock()
        self._stopped = threading.Event()

    def names_used(self, names: Sequence[str]) -> tuple[str, ...]:
        """`names` with only the tokens on which the expressions depend; the other ones are empty. () if there
        are none. A token counts as well if an expression names the payload field that it renames, such as
        `payloadregion` for the token `region`."""
        bare = {
            name.removeprefix("payload" * n) for name in self.fields for n in range(name.count("payload") + 1)
        }
        used = tuple(name if name in bare else "" for name in names)
        return used if any(used) else ()

    def check(self) -> None:
        """Raise SqlError if an expression cannot be computed with any types of its fields, such as a function
        with too few arguments."""
        every = [("where", self.where)] if self.where else []
        every += [(f"column {column.name!r}", column.expression) for column in self.columns]
        for what, part in [(what, part) for what, each in every for part in each.parts]:
            free = [name for name in part.fields if name not in self._given]
            kinds = (NUMBER, TEXT, TIME, NONE)
            some: Iterable[tuple[int, ...]] = itertools.product(kinds, repeat=len(free))
            if len(free) > 3:  # too many combinations; the mistake is hardly one of types
                some = ((kind,) * len(free) for kind in kinds)
            wrong: duckdb.Error | None = None
            for each in some:
                try:
                    self._bind(part, self._kinds_of(dict(zip(free, each, strict=True))))
                    break
                except duckdb.Error as error:
                    wrong = wrong or error
            else:
                assert wrong is not None
                raise SqlError(f"{what}: {words_of(wrong)}.")

    def prepare(self) -> None:
        """Open the database, which takes some milliseconds the first time."""
        if self._connection is None:
            self._connection = connect()

    def stop(self) -> None:
        """Stop the computation in another thread, which then raises StoppedError."""
        self._stopped.set()
        if self._connection is not None:
            self._connection.interrupt()

    def go_on(self) -> None:
        """Take stop() back."""
        self._stopped.clear()

    def apply(self, batch: Batch) -> Batch:
        """The rows of `batch` that are kept, with the computed columns. Raises StoppedError."""
        with self._using:
            self._note_fields(batch)
            named = self._sources(batch)
            parts = [
                self._some(batch, named, slice(start, start + MOST_AT_ONCE))
                for start in range(0, len(batch), MOST_AT_ONCE)
            ]
        kept = np.concatenate([rows for rows, _ in parts]) if parts else np.zeros(0, dtype=np.int64)
        made = cut(batch, kept)
        computed: dict[str, Values] = {}
        integral, truths = set(made.integral), set(made.truths)
        extra = 0
        for i, column in enumerate(self.columns):
            values, whole, wrong = joined(
                [columns[i] for _, columns in parts], self._missing_in(batch, column, kept)
            )
            extra += wrong
            if values is not None:
                computed[column.name] = values
                if whole:
                    integral.add(column.name)
        held = dict(made.values)
        for name in [column.name for column in self.columns if column.name in held]:
            own = name
            while own in held or own in computed:
                own = f"payload{own}"
            held[own] = held.pop(name)
            if name in made.integral and name not in computed:
                integral.discard(name)
            if name in made.integral:
                integral.add(own)
            truths.discard(name)
            if name in made.truths:
                truths.add(own)
        return replace(
            made,
            values={**computed, **held},
            integral=frozenset(integral),
            not_finite=made.not_finite + extra,
            truths=frozenset(truths),
        )

    # -- the fields of a batch ---------------------------------------------------------------------------

    def _note_fields(self, batch: Batch) -> None:
        seen = self.seen
        if len(seen.fields) < MOST_FIELDS:
            seen.fields.update(itertools.islice(batch.values, MOST_FIELDS))
        if seen.absent:
            own = self._own_names(batch)
            seen.absent = tuple(name for name in seen.absent if name not in own)

    def _own_names(self, batch: Batch) -> dict[str, str]:
        """The fields of a batch by the names that expressions use. Tokens and the envelope take precedence,
        as in Snapshot.named()."""
        if not self._names:
            return {name: name for name in batch.values}
        found: dict[str, str] = {}
        for name in batch.values:
            own = name
            while own in found or own in self._names or (own != name and own in batch.values):
                own = f"payload{own}"
            found[own] = name
        return found

    def _sources(self, batch: Batch) -> dict[str, "Source"]:
        own = self._own_names(batch)
        found: dict[str, Source] = {}
        tokens: dict[str, list[str | None]] | None = None
        for name in self.fields:
            if name == "_seq":
                found[name] = Source.fixed(pa.array(batch.seq))
            elif name == "_time":
                found[name] = Source.fixed(pa.array(batch.time // 1000, pa.timestamp("us", "UTC")))
            elif name == "_subject":
                found[name] = Source.of(batch.subject)
            elif name in self._names:
                tokens = tokens or token_columns(self._names, batch.subject)
                found[name] = Source.of(tokens[name], plain=True)
            elif name in own:
                found[name] = Source.of(batch.values[own[name]])
            else:
                found[name] = Source.nothing(len(batch))
        return found

    def _kinds_of(self, free: Mapping[str, int]) -> dict[str, int]:
        fixed = {"_seq": NUMBER, "_time": TIME}
        return {name: free.get(name, fixed.get(name, TEXT)) for name in self.fields}

    def _missing_in(self, batch: Batch, column: Computed, rows: Ints) -> Truths:
        """True for the `rows` that lack a field of the column. In those the column is missing, not null."""
        own = self._own_names(batch)
        lacking = np.zeros(len(rows), dtype=np.bool_)
        for name in column.expression.fields:
            if name in self._given:
                continue
            values = batch.values.get(own.get(name, ""))
            lacking |= True if values is None else absent(values, rows)
        return lacking

    # -- SQL ---------------------------------------------------------------------------------------------

    def _some(self, batch: Batch, named: Mapping[str, "Source"], part: slice) -> "tuple[Ints, list[Made]]":
        """The kept rows of a part of the batch, ascending, and the values of each computed column in them."""
        count = min(part.stop, len(batch)) - part.start
        code = np.zeros(count, dtype=np.int64)
        for name in self.fields[:27]:  # five to the power of 27 still fits
            code = code * 5 + named[name].kinds[part]
        rest = self.fields[27:]
        if rest:
            _, code = np.unique(
                np.column_stack([code, *(named[name].kinds[part] for name in rest)]),
                axis=0,
                return_inverse=True,
            )
            code = code.reshape(-1)
        groups = [np.arange(count)] if not self.fields or (code == code[0]).all() else []
        groups = groups or [np.flatnonzero(code == each) for each in np.unique(code)]
        found: list[tuple[Ints, list[Made]]] = []
        for group in groups:
            rows = group + part.start
            plan = self._plan(tuple(int(named[name].kinds[rows[0]]) for name in self.fields))
            if plan is None:
                continue
            columns = {f"f{i}": named[name].arrow(rows) for i, name in enumerate(self.fields)}
            columns |= {
                f"f{i}_text": named[name].texts(rows)
                for i, name in enumerate(self.fields)
                if f"f{i}_text" in plan.sql
            }
            table = pa.table({"row": pa.array(rows), **columns})
            costs = self._costs(table)
            if (large := costs > MOST).any():
                self._note(
                    "An expression has no value for some messages: it could make too much of their texts."
                )
                found.append(self._nothing(rows[large]))
                table, costs = table.filter(pa.array(~large)), costs[~large]
            found += [self._ask(plan, some) for some in _parts(table, costs)]
        if len(found) == 1:
            return found[0]
        if not found:
            return np.zeros(0, dtype=np.int64), [Made.empty() for _ in self.columns]
        kept = np.concatenate([rows for rows, _ in found])
        order = np.argsort(kept, kind="stable")
        made = [Made.joined([columns[i] for _, columns in found], order) for i in range(len(self.columns))]
        return kept[order], made

    def _costs(self, table: pa.Table) -> Floats:
        """The bytes that the expressions may make of each row."""
        nbytes = np.zeros(len(table))
        for column in table.columns:
            nbytes += lengths(column.combine_chunks())
        costs: Floats = self._cost.of(nbytes)
        return costs

    def _nothing(self, rows: Ints) -> "tuple[Ints, list[Made]]":
        """The kept rows and their computed values, for rows in which no expression has a value."""
        kept = rows if self.where is None else rows[:0]
        return kept, [Made(np.full(len(kept), np.nan)) for _ in self.columns]

    def _ask(self, plan: _Plan, table: pa.Table) -> "tuple[Ints, list[Made]]":
        self.prepare()
        assert self._connection is not None
        if self._stopped.is_set():
            raise StoppedError
        try:
            self._connection.register("rows", table)
            answer = self._connection.sql(plan.sql).to_arrow_table()
        except duckdb.Error as error:
            if self._stopped.is_set():
                raise StoppedError from None
            if table.num_rows == 1:  # such as a text that does not fit into memory
                self._note(f"An expression has no value for some messages: {words_of(error)}.")
                return self._nothing(table["row"].to_numpy().astype(np.int64))
            half = table.num_rows // 2
            one, other = self._ask(plan, table.slice(0, half)), self._ask(plan, table.slice(half))
            made = [Made.joined([a, b], None) for a, b in zip(one[1], other[1], strict=True)]
            return np.concatenate([one[0], other[0]]), made
        rows = answer["row"].to_numpy().astype(np.int64)
        made = [Made.of(answer[f"c{i}"], kind) for i, kind in enumerate(plan.kinds)]
        if len(rows) > 1 and (np.diff(rows) < 0).any():
            order = np.argsort(rows, kind="stable")
            return rows[order], [Made.joined([each], order) for each in made]
        return rows, made

    def _plan(self, signature: tuple[int, ...]) -> _Plan | None:
        """The SQL for rows of these types; None if none of them can be kept."""
        if signature in self._plans:
            return self._plans[signature]
        held = dict(zip(self.fields, signature, strict=True))
        plan: _Plan | None = None
        kept = "" if self.where is None else self._truth("where", self.where, held)
        if kept is not None:
            made = [self._computed(column, held) for column in self.columns]
            wanted = "".join(f", {sql} AS c{i}" for i, (sql, _) in enumerate(made))
            filtered = f" WHERE {kept}" if kept else ""
            sql = f"SELECT row{wanted} FROM rows{filtered}"  # noqa: S608 - of checked expressions
            plan = _Plan(sql, tuple(kind for _, kind in made))
        if len(self._plans) >= MOST_PLANS:
            self._plans.clear()
        self._plans[signature] = plan
        return plan

    def _truth(self, what: str, expression: Expression, held: Mapping[str, int]) -> str | None:
        """The SQL of a condition for fields of these types; None if no part of it has a value. A part without
        a value is NULL, and the other parts still count: true OR NULL is true."""
        found: list[str | None] = []
        for part in expression.parts:
            try:
                inner, _ = self._bind(part, held)
                found.append(f"TRY(CAST(({inner}) AS BOOLEAN))")
            except duckdb.Error as error:
                self._note_failure(what, part, held, error)
                found.append(None)
        if not any(found):
            return None
        return expression.sql([each or "CAST(NULL AS BOOLEAN)" for each in found])

    def _computed(self, column: Computed, held: Mapping[str, int]) -> tuple[str, str]:
        """The SQL of a computed column for fields of these types, and its kind."""
        what = f"column {column.name!r}"
        if column.expression.joins:
            truth = self._truth(what, column.expression, held)
            return ("NULL", "none") if truth is None else (f"CAST({truth} AS DOUBLE)", "number")
        try:
            inner, kind = self._bind(column.expression.parts[0], held)
        except duckdb.Error as error:
            self._note_failure(what, column.expression.parts[0], held, error)
            return "NULL", "none"
        return _typed(inner, kind), kind

    def _bind(self, part: Part, held: Mapping[str, int]) -> tuple[str, str]:
        """The SQL of an expression for fields of these types, and the kind of its values. Raises
        duckdb.Error if there is none."""
        places = {name: f"f{i}" for i, name in enumerate(self.fields)}
        types = {f"f{i}": self._type_of(name, held[name]) for i, name in enumerate(self.fields)}
        types |= {f"f{i}_text": "VARCHAR" for i, name in enumerate(self.fields) if held[name] == TIME}
        table = ", ".join(f"CAST(NULL AS {kind}) AS {place}" for place, kind in types.items()) or "1 AS one"
        used = sorted({held[name] for name in part.fields if name not in ENVELOPE})
        first: duckdb.Error | None = None
        for some in itertools.product(*(_TYPES[kind] for kind in used)):
            written = dict(zip(used, some, strict=True))
            put = {
                name: f"({written[held[name]].format(places[name])})"
                if name not in ENVELOPE
                else places[name]
                for name in part.fields
            }
            inner = part.sql(put)
            try:
                with _binding:
                    wanted = f"SELECT TRY({inner}) AS v FROM (SELECT {table})"  # noqa: S608 - likewise
                    kind = str(_binder().sql(wanted).types[0])
            except duckdb.Error as error:
                first = first or error
                continue
            return inner, _kind(kind)
        assert first is not None
        raise first

    def _type_of(self, name: str, kind: int) -> str:
        if name == "_seq":
            return "BIGINT"
        return {NONE: "DOUBLE", NUMBER: "DOUBLE", LARGE: "VARCHAR", TEXT: "VARCHAR", TIME: "TIMESTAMPTZ"}[
            kind
        ]

    def _note_failure(self, what: str, part: Part, held: Mapping[str, int], error: Exception) -> None:
        types = " and ".join(
            f"{name} is {_WORDS[held[name]]}" for name in part.fields if name not in self._given
        )
        self._note(f"{what} has no value where {types or 'it is computed'}: {words_of(error)}.")

    def _note(self, sentence: str) -> None:
        if len(self.seen.notes) < MOST_NOTES:
            self.seen.notes = {**self.seen.notes, sentence: None}


_binding = threading.Lock()


def _parts(table: pa.Table, costs: Floats) -> Iterator[pa.Table]:
    """The rows in parts, each of which makes little more than MOST bytes."""
    part = costs.cumsum() // MOST
    ends = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(table)]
    return (table.slice(start, end - start) for start, end in itertools.pairwise(ends) if end > start)


@lru_cache(1)
def _binder() -> duckdb.DuckDBPyConnection:
    """The connection that determines the types of expressions."""
    return connect()


@lru_cache(256)
def _checked(
    where: str | None, columns: tuple[tuple[str, str], ...], names: tuple[str, ...]
) -> tuple[str, ...]:
    row_filter = RowFilter(where, columns, names)
    row_filter.check()
    for name, _ in columns:
        if name in names:
            raise SqlError(f"{name!r} is a token of the subject. Give the computed column another name.")
    return row_filter.names_used(names)


def checked_expressions(
    where: str | None, columns: Mapping[str, str], names: Sequence[str]
) -> tuple[str | None, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """`where`, the computed `columns`, and the token `names` on which they depend, as they identify a feed.
    An empty `where` becomes None. Raises SqlError with the mistake and its place."""
    wanted = where.strip() if isinstance(where, str) else where
    some = tuple(columns.items())
    if not wanted and not some:
        return None, (), ()
    return wanted or None, some, _checked(wanted or None, some, tuple(names))


def unseen_text(name: str, seen: Seen) -> str:
    """A sentence for a field that no message has had so far, with the nearest name."""
    return f"No message so far has the field {name!r}.{nearest(name, seen.fields)}"


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not name or len(name) > 200 or not name.isprintable():
        raise SqlError(f"{name!r} is no name of a column. Use up to 200 printable characters.")
    if name in ENVELOPE:
        raise SqlError(f"{name!r} is a column of every row. Give the computed column another name.")
    return name


def _kind(of: str) -> str:
    if of in _WHOLE:
        return "whole"
    if of in _HUGE:
        return "huge"
    if of in _NUMBERS or of.startswith("DECIMAL"):
        return "number"
    if of.startswith("TIMESTAMP") or of == "DATE":
        return "time"
    return "none" if of == '"NULL"' or of == "NULL" else "text"


def _typed(inner: str, kind: str) -> str:
    if kind == "whole":
        return f"TRY(CAST(({inner}) AS BIGINT))"
    if kind == "huge":
        return f"TRY(CAST(({inner}) AS VARCHAR))"
    if kind == "number":
        return f"TRY(CAST(({inner}) AS DOUBLE))"
    if kind == "time":
        return f"TRY(CAST(({inner}) AS TIMESTAMPTZ))"
    return f"left(TRY(CAST(({inner}) AS VARCHAR)), {LONGEST_TEXT + 1})" if kind == "text" else "NULL"
