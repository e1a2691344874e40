"""Keeps the rows of a batch for which an expression is true, and adds computed columns.

Each value has the type that it has in its own message: a number, an integer beyond 2**53, a text, a time in
ISO 8601, or nothing. Rows with the same types are worked out together. So what an expression says of a
message does not depend on which others came with it, and a replay has the same rows as messages that come
one by one.

An expression that has no value for a row, because a field is of another type, a cast fails or a number is
out of range, is NULL there. A row is kept where `where` is true.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import cast

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import SqlError
from ..subjects import ENVELOPE, token_columns
from ..table.columns import is_floats
from ..table.iso_times import LONGEST, MISSING, IsoTimes, iso_texts, parse_iso_times
from ..table.values import EXACT, NULL, Batch, Coded, Floats, Ints, Mixed, Truths, Values, is_null
from .cost import MOST, Cost
from .expression import Expression, Part, nearest, parse_expression, words_of
from .guard import connect

MOST_COLUMNS = 32
"""Computed columns of one feed."""
LONGEST_TEXT = 4096
"""Maximum characters kept of a computed text."""
MOST_AT_ONCE = 5_000
"""Rows worked out in one call, so that it can be stopped in between."""
MOST_FIELDS = 1_000
"""Names of fields kept to suggest one."""
MOST_PLANS = 1_000
"""Combinations of types for which the SQL is kept."""
MOST_NOTES = 5
"""Reasons kept why an expression has no value."""

NONE, NUMBER, LARGE, TEXT, TIME = range(5)
"""What a row has in one field: nothing; a number; an integer that float64 cannot hold; a text; a time."""
_WORDS = ("missing", "a number", "an integer beyond 2**53", "text", "a time")
_TYPES: dict[int, tuple[str, ...]] = {
    # The types that are tried, in order: the first with which the expression can be worked out.
    NONE: ("NULL", "CAST(NULL AS DOUBLE)", "CAST(NULL AS VARCHAR)", "CAST(NULL AS TIMESTAMPTZ)"),
    NUMBER: ("{0}", "CASE WHEN {0} = trunc({0}) THEN TRY_CAST({0} AS BIGINT) END"),
    LARGE: ("TRY_CAST({0} AS HUGEINT)", "TRY_CAST({0} AS DOUBLE)"),
    TEXT: ("{0}",),
    TIME: ("{0}", "{0}_text"),
}
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
_HUGE = {"UBIGINT", "HUGEINT", "UHUGEINT"}
_NUMBERS = {"FLOAT", "DOUBLE", "BOOLEAN", "BIGNUM"}
_FIRST, _LAST = (np.datetime64(f"{year}-01-01", "us").astype(np.int64) for year in (1700, 2200))
_SIX_DIGITS = 12
"""The form "2000-01-01T00:00:00.000000Z" of a time; see iso_times.py."""


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
    """What the messages so far had. Written in the thread that filters, read from any."""

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
        """Those of the token `names` on which the expressions depend, the others empty; () if there are
        none. A field called like a token is another field with the name than without it, so it counts too."""
        bare = {
            name.removeprefix("payload" * n) for name in self.fields for n in range(name.count("payload") + 1)
        }
        used = tuple(name if name in bare else "" for name in names)
        return used if any(used) else ()

    def check(self) -> None:
        """Raises SqlError if an expression cannot be worked out whatever the fields hold, such as a function
        with too few arguments."""
        every = [("where", self.where)] if self.where else []
        every += [(f"column {column.name!r}", column.expression) for column in self.columns]
        for what, part in [(what, part) for what, each in every for part in each.parts]:
            free = [name for name in part.fields if name not in self._given]
            kinds = (NUMBER, TEXT, TIME, NONE)
            some: Iterable[tuple[int, ...]] = itertools.product(kinds, repeat=len(free))
            if len(free) > 3:  # the mistake is hardly one of types then
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
        """Stop what is being worked out in another thread, which then raises StoppedError."""
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
        made = _cut(batch, kept)
        computed: dict[str, Values] = {}
        integral = set(made.integral)
        extra = 0
        for i, column in enumerate(self.columns):
            values, whole, wrong = _joined(
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
        return replace(
            made,
            values={**computed, **held},
            integral=frozenset(integral),
            not_finite=made.not_finite + extra,
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
        """The fields of a batch by the names that expressions have for them: a token or the envelope comes
        first, as in Snapshot.named()."""
        if not self._names:
            return {name: name for name in batch.values}
        found: dict[str, str] = {}
        for name in batch.values:
            own = name
            while own in found or own in self._names or (own != name and own in batch.values):
                own = f"payload{own}"
            found[own] = name
        return found

    def _sources(self, batch: Batch) -> dict[str, "_Source"]:
        own = self._own_names(batch)
        found: dict[str, _Source] = {}
        tokens: dict[str, list[str | None]] | None = None
        for name in self.fields:
            if name == "_seq":
                found[name] = _Source.fixed(pa.array(batch.seq))
            elif name == "_time":
                found[name] = _Source.fixed(pa.array(batch.time // 1000, pa.timestamp("us", "UTC")))
            elif name == "_subject":
                found[name] = _Source.of(batch.subject)
            elif name in self._names:
                tokens = tokens or token_columns(self._names, batch.subject)
                found[name] = _Source.of(tokens[name], plain=True)
            elif name in own:
                found[name] = _Source.of(batch.values[own[name]])
            else:
                found[name] = _Source.nothing(len(batch))
        return found

    def _kinds_of(self, free: Mapping[str, int]) -> dict[str, int]:
        fixed = {"_seq": NUMBER, "_time": TIME}
        return {name: free.get(name, fixed.get(name, TEXT)) for name in self.fields}

    def _missing_in(self, batch: Batch, column: Computed, rows: Ints) -> Truths:
        """Which of the `rows` lack a field that the column needs: there it is missing, too, and no null."""
        own = self._own_names(batch)
        lacking = np.zeros(len(rows), dtype=np.bool_)
        for name in column.expression.fields:
            if name in self._given:
                continue
            values = batch.values.get(own.get(name, ""))
            lacking |= True if values is None else _absent(values, rows)
        return lacking

    # -- SQL ---------------------------------------------------------------------------------------------

    def _some(self, batch: Batch, named: Mapping[str, "_Source"], part: slice) -> "tuple[Ints, list[_Made]]":
        """The rows kept of a part of the batch, ascending, and for each computed column its values there."""
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
        found: list[tuple[Ints, list[_Made]]] = []
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
            large = self._costs(table) > MOST
            if large.any():
                self._note(
                    "An expression has no value for some messages: it could make too much of their texts."
                )
                found.append(self._nothing(rows[large]))
                table = table.filter(pa.array(~large))
            found += [self._ask(plan, part) for part in self._parts(table)]
        if len(found) == 1:
            return found[0]
        if not found:
            return np.zeros(0, dtype=np.int64), [_Made.empty() for _ in self.columns]
        kept = np.concatenate([rows for rows, _ in found])
        order = np.argsort(kept, kind="stable")
        made = [_Made.joined([columns[i] for _, columns in found], order) for i in range(len(self.columns))]
        return kept[order], made

    def _costs(self, table: pa.Table) -> Floats:
        """The bytes that the expressions may make of each row."""
        nbytes = np.zeros(len(table))
        for column in table.columns:
            nbytes += _lengths(column.combine_chunks())
        costs: Floats = self._cost.of(nbytes)
        return costs

    def _parts(self, table: pa.Table) -> Iterator[pa.Table]:
        """The rows in parts, so that one has little more than MOST bytes to make."""
        part = self._costs(table).cumsum() // MOST
        ends = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(table)]
        return (table.slice(start, end - start) for start, end in itertools.pairwise(ends) if end > start)

    def _nothing(self, rows: Ints) -> "tuple[Ints, list[_Made]]":
        """What becomes of rows for which no expression has a value."""
        kept = rows if self.where is None else rows[:0]
        return kept, [_Made(np.full(len(kept), np.nan)) for _ in self.columns]

    def _ask(self, plan: _Plan, table: pa.Table) -> "tuple[Ints, list[_Made]]":
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
            made = [_Made.joined([a, b], None) for a, b in zip(one[1], other[1], strict=True)]
            return np.concatenate([one[0], other[0]]), made
        rows = answer["row"].to_numpy().astype(np.int64)
        made = [_Made.of(answer[f"c{i}"], kind) for i, kind in enumerate(plan.kinds)]
        if len(rows) > 1 and (np.diff(rows) < 0).any():
            order = np.argsort(rows, kind="stable")
            return rows[order], [_Made.joined([each], order) for each in made]
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
        """The SQL of a condition for fields of these types. A part without a value is NULL, and the others
        still count: true OR NULL is true. None if no part has one."""
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
        self._note(f"{what} has no value where {types or 'it is worked out'}: {words_of(error)}.")

    def _note(self, sentence: str) -> None:
        if len(self.seen.notes) < MOST_NOTES:
            self.seen.notes = {**self.seen.notes, sentence: None}


_binding = threading.Lock()


@lru_cache(1)
def _binder() -> duckdb.DuckDBPyConnection:
    """The connection that says of which type an expression is."""
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
    """`where`, the computed `columns`, and those of the token `names` on which they depend, as they identify
    a feed. An empty `where` is none. Raises SqlError, which says what is wrong and where."""
    wanted = where.strip() if isinstance(where, str) else where
    some = tuple(columns.items())
    if not wanted and not some:
        return None, (), ()
    return wanted or None, some, _checked(wanted or None, some, tuple(names))


def unseen_text(name: str, seen: Seen) -> str:
    """A sentence for a field that no message had so far, with the nearest one."""
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


# -- the values of a batch, by type ----------------------------------------------------------------------


@dataclass
class _Source:
    """One field of a batch: what each row has, and the values of some rows for DuckDB."""

    kinds: npt.NDArray[np.int8]
    arrow: Callable[[Ints], pa.Array]
    texts: Callable[[Ints], pa.Array]
    """Times as they were written."""

    @staticmethod
    def nothing(count: int) -> "_Source":
        return _Source(np.zeros(count, dtype=np.int8), _no_numbers, _no_numbers)

    @staticmethod
    def fixed(array: pa.Array) -> "_Source":
        """A column of every row: always there, of one type."""
        kind = TIME if pa.types.is_timestamp(array.type) else NUMBER

        def some(rows: Ints) -> pa.Array:
            return array.take(pa.array(rows))

        def texts(rows: Ints) -> pa.Array:
            return some(rows).cast(pa.string())

        return _Source(np.full(len(array), kind, dtype=np.int8), some, texts)

    @staticmethod
    def of(values: Values, *, plain: bool = False) -> "_Source":
        """A field with these values. `plain`: texts are no times, whatever they look like."""
        if isinstance(values, Mixed):
            return _mixed_source(values)
        if is_floats(values):
            return _number_source(cast(Floats, values))
        if isinstance(values, np.ndarray):
            return _time_source(cast(IsoTimes, values))
        coded = values if isinstance(values, Coded) else _encoded(values)
        return _text_source(coded, plain=plain)


def _lengths(array: pa.Array) -> Floats:
    """The bytes of each text; 0 for anything else."""
    if pa.types.is_dictionary(array.type):
        known: Floats = np.append(pc.binary_length(array.dictionary).to_numpy(), 0).astype(np.float64)
        found: Floats = known[array.indices.fill_null(-1).to_numpy()]
        return found
    if pa.types.is_string(array.type):
        return np.asarray(pc.binary_length(array).fill_null(0).to_numpy(), dtype=np.float64)
    return np.zeros(len(array))


def _no_numbers(rows: Ints) -> pa.Array:
    return pa.nulls(len(rows), pa.float64())


def _number_source(numbers: Floats) -> _Source:
    def some(rows: Ints) -> pa.Array:
        return pa.array(numbers[rows], from_pandas=True)

    return _Source(np.where(np.isnan(numbers), NONE, NUMBER).astype(np.int8), some, some)


def _time_source(times: IsoTimes) -> _Source:
    def some(rows: Ints) -> pa.Array:
        there = times["ns"][rows]
        return pa.array(there // 1000, pa.timestamp("us", "UTC"), mask=there == MISSING["ns"])

    def texts(rows: Ints) -> pa.Array:
        return pa.array(iso_texts(times[rows]), pa.string())

    kinds = np.where(times["ns"] == MISSING["ns"], NONE, TIME).astype(np.int8)
    return _Source(kinds, some, texts)


def _text_source(coded: Coded, *, plain: bool = False) -> _Source:
    labels = pa.array(coded.labels, pa.string())
    kind_of = np.full(len(coded.labels) + 1, TEXT, dtype=np.int8)
    kind_of[-1] = NONE
    stamps = np.full(len(coded.labels), MISSING)
    for i, label in enumerate(coded.labels) if not plain else ():
        if 19 <= len(label) <= LONGEST and label[4] == "-" and label[:4].isdigit():
            parsed = parse_iso_times([label])
            if parsed is not None:
                kind_of[i], stamps[i] = TIME, parsed[0]
    kinds = kind_of[coded.codes]

    def texts(rows: Ints) -> pa.Array:
        codes = coded.codes[rows]
        return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), labels)

    def some(rows: Ints) -> pa.Array:
        if len(rows) and kinds[rows[0]] == TIME:
            return pa.array(stamps["ns"][coded.codes[rows]] // 1000, pa.timestamp("us", "UTC"))
        return texts(rows)

    return _Source(kinds, some, texts)


def _mixed_source(mixed: Mixed) -> _Source:
    there = np.array([text is not None for text in mixed.texts], dtype=np.bool_)
    is_number = ~np.isnan(mixed.numbers)
    text_only = [
        text if text is not None and not number else None
        for text, number in zip(mixed.texts, is_number.tolist(), strict=True)
    ]
    words = _text_source(_encoded(text_only))
    kinds = np.where(is_number, np.where(there, LARGE, NUMBER), words.kinds).astype(np.int8)

    def some(rows: Ints) -> pa.Array:
        kind = kinds[rows[0]] if len(rows) else NONE
        if kind == LARGE:
            return pa.array([mixed.texts[row] for row in rows.tolist()], pa.string())
        return (
            pa.array(mixed.numbers[rows], from_pandas=True) if kind in (NUMBER, NONE) else words.arrow(rows)
        )

    return _Source(kinds, some, words.texts)


def _encoded(texts: Sequence[str | None]) -> Coded:
    code_of: dict[str | None, int] = {
        text: i for i, text in enumerate(dict.fromkeys(t for t in texts if t is not None))
    }
    labels = cast(list[str], list(code_of))
    code_of[None] = -1
    return Coded(np.fromiter(map(code_of.__getitem__, texts), dtype=np.int32, count=len(texts)), labels)


def _absent(values: Values, rows: Ints) -> Truths:
    """Which of the rows have no such field; an explicit null is one, where it is known."""
    if isinstance(values, Mixed):
        numbers = values.numbers[rows]
        bare = np.array([values.texts[row] is None for row in rows.tolist()], dtype=np.bool_)
        return np.isnan(numbers) & ~is_null(numbers) & bare
    if is_floats(values):
        numbers = cast(Floats, values)[rows]
        return np.isnan(numbers) & ~is_null(numbers)
    if isinstance(values, np.ndarray):
        return np.asarray(cast(IsoTimes, values)["ns"][rows] == MISSING["ns"])
    if isinstance(values, Coded):
        return values.codes[rows] < 0
    return np.array([values[row] is None for row in rows.tolist()], dtype=np.bool_)


# -- the rows that are kept ------------------------------------------------------------------------------


def _cut(batch: Batch, rows: Ints) -> Batch:
    """Only these rows. A field without a value in any of them is gone, and texts that are times now that
    others are gone are times: as if the other messages had never come."""
    if len(rows) == len(batch):
        return batch
    subject = batch.subject
    values: dict[str, Values] = {}
    nans = 0
    for name, held in batch.values.items():
        part = _cut_values(held, rows)
        if part is None:
            continue
        values[name] = part
        if is_floats(part):
            numbers = cast(Floats, part)
            nans += int((np.isnan(numbers) & ~is_null(numbers)).sum())
    return Batch(
        batch.seq[rows],
        batch.received[rows],
        batch.time[rows],
        [subject[row] for row in rows.tolist()],
        values,
        batch.integral & values.keys(),
        min(batch.not_finite, nans),
    )


def _cut_values(values: Values, rows: Ints) -> Values | None:
    if isinstance(values, Mixed):
        numbers = values.numbers[rows]
        texts = [values.texts[row] for row in rows.tolist()]
        if all(text is None for text in texts):
            return _cut_values(numbers, np.arange(len(numbers)))
        bare = np.isnan(numbers) & ~is_null(numbers)
        return _timed(texts) if bare.all() else Mixed(numbers, texts)
    if is_floats(values):
        numbers = cast(Floats, values)[rows]
        return None if (np.isnan(numbers) & ~is_null(numbers)).all() else numbers
    if isinstance(values, np.ndarray):
        times = cast(IsoTimes, values)[rows]
        return None if (times["ns"] == MISSING["ns"]).all() else times
    if isinstance(values, Coded):
        used, place = np.unique(values.codes[rows], return_inverse=True)
        first = int(used[0] < 0) if len(used) else 0
        labels = [values.labels[code] for code in used[first:].tolist()]
        if not labels:
            return None
        codes = (place.reshape(-1) - first).astype(np.int32)
        stamps = parse_iso_times(labels)
        return Coded(codes, labels) if stamps is None else np.append(stamps, MISSING)[codes]
    texts = [values[row] for row in rows.tolist()]
    return None if all(text is None for text in texts) else _timed(texts)


def _timed(texts: list[str | None]) -> Values:
    there = [i for i, text in enumerate(texts) if text is not None]
    times = parse_iso_times([cast(str, texts[i]) for i in there])
    if times is None:
        return texts
    found = np.full(len(texts), MISSING)
    found[there] = times
    return found


# -- computed values -------------------------------------------------------------------------------------


@dataclass
class _Made:
    """The values of one computed column in some rows. Each row has at most one of number, text and time."""

    numbers: Floats
    texts: list[str | None] | None = None
    times: IsoTimes | None = None
    whole: bool = True
    """True if all numbers are integers."""
    not_finite: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    @staticmethod
    def empty() -> "_Made":
        return _Made(np.zeros(0))

    @staticmethod
    def of(column: pa.ChunkedArray, kind: str) -> "_Made":
        count = len(column)
        nothing = np.full(count, np.nan)
        if kind == "text":
            long = [
                text if text is None or len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
                for text in column.to_pylist()
            ]
            return _Made(nothing, texts=long)
        if kind == "time":
            numbers = column.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            there = numbers.is_valid().to_numpy() if numbers.null_count else np.ones(count, dtype=np.bool_)
            stamps = numbers.fill_null(0).to_numpy()
            there = there & (stamps >= _FIRST) & (stamps < _LAST)
            found = np.full(count, MISSING)
            found["ns"][there], found["form"][there] = stamps[there] * 1000, _SIX_DIGITS
            return _Made(nothing, times=found)
        if kind == "none":
            return _Made(nothing)
        if kind == "huge":
            written = cast(list[str | None], column.to_pylist())
            numbers = np.array(
                [np.nan if each is None else float(each) for each in written], dtype=np.float64
            )
            large = [
                each if each is not None and abs(number) >= EXACT else None
                for each, number in zip(written, numbers.tolist(), strict=True)
            ]
            return _Made(numbers, texts=large if any(large) else None)
        if kind == "whole":
            exact = column.fill_null(0).to_numpy()
            numbers = exact.astype(np.float64)
            there = column.is_valid().to_numpy() if column.null_count else np.ones(count, dtype=np.bool_)
            numbers[~there] = np.nan
            whole_large = np.flatnonzero(there & (np.abs(numbers) >= EXACT))
            if not len(whole_large):
                return _Made(numbers)
            digits: list[str | None] = [None] * count
            for row in whole_large.tolist():
                digits[row] = str(exact[row])
            return _Made(numbers, texts=digits)
        numbers = np.array(column.to_numpy(), dtype=np.float64)
        infinite = np.isinf(numbers)
        numbers[infinite] = np.nan
        return _Made(numbers, whole=False, not_finite=int(infinite.sum()))

    @staticmethod
    def joined(parts: "list[_Made]", order: Ints | None) -> "_Made":
        numbers = np.concatenate([part.numbers for part in parts]) if parts else np.zeros(0)
        texts = times = None
        if any(part.texts is not None for part in parts):
            texts = [text for part in parts for text in (part.texts or [None] * len(part))]
        if any(part.times is not None for part in parts):
            held = [np.full(len(part), MISSING) if part.times is None else part.times for part in parts]
            times = np.concatenate(held)
        if order is not None:
            numbers = numbers[order]
            texts = [texts[i] for i in order.tolist()] if texts is not None else None
            times = times[order] if times is not None else None
        # A part without any number says nothing of whether they are integers.
        whole = all(part.whole for part in parts if not np.isnan(part.numbers).all())
        return _Made(numbers, texts, times, whole, sum(part.not_finite for part in parts))


def _joined(parts: list[_Made], lacking: Truths) -> tuple[Values | None, bool, int]:
    """The values of a computed column; whether they are integers; and how many were not finite. A row that
    has no value although no field is missing has a null."""
    made = _Made.joined(parts, None)
    numbers = made.numbers
    texts = made.texts if made.texts is not None and any(text is not None for text in made.texts) else None
    times = made.times if made.times is not None and (made.times["ns"] != MISSING["ns"]).any() else None
    there = ~np.isnan(numbers)
    empty = ~there
    if texts is not None:
        empty &= np.array([text is None for text in texts], dtype=np.bool_)
    if times is not None:
        empty &= times["ns"] == MISSING["ns"]
    numbers = np.where(empty & ~lacking, NULL, numbers)
    if times is not None and (there.any() or texts is not None):
        written = iso_texts(times)
        texts = [
            a if a is not None else b for a, b in zip(texts or [None] * len(written), written, strict=True)
        ]
        times = None
    if times is not None:
        return times, False, made.not_finite
    if texts is None:
        return (numbers if len(numbers) else None), made.whole and not empty.any(), made.not_finite
    if there.any():
        return Mixed(numbers, texts), False, made.not_finite
    return _timed(texts), False, made.not_finite
