"""Scalar SQL expressions over one row: `where` and `columns` of a feed.

DuckDB's own parser reads them. An expression may name fields and call the functions of a list. It may not
select, aggregate, or make rows or lists. So its cost grows only with the rows and with their texts; cost.py
computes by how much.
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ..errors import SqlError
from .cost import Cost, cost_of
from .guard import check_expression, details, expression_sql, expression_tree

LONGEST = 2_000
"""Maximum characters of an expression."""
DEEPEST = 60
"""Maximum levels of an expression."""
MOST_FIELDS = 32
"""Maximum fields that one expression names."""

_NAMES = """
abs ceil ceiling floor round trunc sign sqrt cbrt exp ln log log2 log10 pow power mod fmod divide multiply
add subtract greatest least isnan isinf isfinite sin cos tan asin acos atan atan2 sinh cosh tanh degrees
radians pi gcd lcm even round_even bit_count xor fdiv nullif

lower upper lcase ucase length len char_length strlen trim ltrim rtrim left right substr substring replace
translate concat concat_ws contains starts_with ends_with prefix suffix strpos instr position reverse ascii
chr unicode ord split_part string_split regexp_matches regexp_full_match regexp_extract regexp_replace
regexp_escape like_escape not_like_escape ilike_escape not_ilike_escape levenshtein damerau_levenshtein
hamming jaccard jaro_similarity jaro_winkler_similarity editdist3 mismatches strip_accents nfc_normalize
format_bytes parse_formatted_bytes url_decode url_encode parse_filename parse_dirname md5 sha1 sha256 hash
hex to_hex from_hex unhex bin base64 to_base64 encode decode array_extract list_extract element_at

date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add time_bucket age epoch
epoch_ms epoch_us epoch_ns to_timestamp make_timestamp make_date make_time strftime strptime try_strptime
year quarter month week day hour minute second millisecond microsecond dayofweek dayofmonth dayofyear
dayname monthname isodow isoyear weekday weekofyear yearweek last_day days_in_month timezone to_days
to_hours to_minutes to_seconds to_milliseconds to_microseconds to_weeks to_months to_years

if ifnull typeof json_extract json_extract_string json_extract_path json_extract_path_text json_exists
json_value json_valid json_type json_array_length json_contains

+ - * / // % ^ ** & | ~ << >> || ~~ !~~ ~~* !~~* ~~~ ^@ @ ! -> ->>
"""
_FUNCTIONS = frozenset(_NAMES.split())
"""Functions of the values of one message only, and not of the clock or of chance. They make no lists longer
than a text. sql() may use others of DuckDB's functions as well."""
_KINDS = {
    "COMPARISON", "CONJUNCTION", "CONSTANT", "COLUMN_REF", "FUNCTION", "OPERATOR", "CASE", "CAST", "BETWEEN",
    "COLLATE", "TYPE",
}  # fmt: skip
_NOWHERE = 2**63
_BARE = "{0}"


@dataclass(frozen=True)
class Part:
    """An expression without AND, OR or NOT at its top level."""

    fields: tuple[str, ...]
    """The fields that it names, in order of appearance, each once."""
    _pieces: tuple[str, ...]
    _named: tuple[str, ...]

    def sql(self, put: Mapping[str, str]) -> str:
        """The expression with the SQL in `put` in place of each field."""
        between = [*(put[name] for name in self._named), ""]
        return "".join(piece + other for piece, other in zip(self._pieces, between, strict=True))


@dataclass(frozen=True)
class Expression:
    """An expression that has passed the checks."""

    text: str
    parts: tuple[Part, ...]
    """The parts that AND, OR and NOT join; the expression itself if its top level has none of them."""
    _joint: str
    cost: Cost
    """The bytes that it may make from one row."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that it names, each once. A field of a nested object is a path: a.b"""
        return tuple(dict.fromkeys(name for part in self.parts for name in part.fields))

    @property
    def joins(self) -> bool:
        """True if it joins its parts by AND, OR or NOT."""
        return self._joint != _BARE

    def sql(self, parts: Sequence[str]) -> str:
        """The SQL of the expression from that of its parts."""
        return self._joint.format(*parts)


def parse_expression(text: str, what: str) -> Expression:
    """Check an expression. `what` is its name in errors, such as "where". Raises SqlError with the mistake
    and its place in the text."""
    if not isinstance(text, str):
        raise SqlError(f"{what}: {text!r} is no text. Write an expression, such as \"level = 'error'\".")
    if len(text) > LONGEST:
        raise SqlError(f"{what}: it has {len(text):,} characters; the most are {LONGEST:,}.")
    try:
        return _parsed(text)
    except SqlError as error:
        raise SqlError(error.what, line=error.line, column=error.column, within=what) from None


def _parsed(text: str) -> Expression:
    statement = check_expression(text)
    tree, before = expression_tree(statement.sql)
    for node, depth in _nodes(tree, 0):
        start = int(node.get("query_location", _NOWHERE)) - before
        at = start if start < _NOWHERE // 2 else None
        if depth > DEEPEST:
            raise SqlError(f"It is nested too deeply: more than {DEEPEST} levels.")
        if node["class"] not in _KINDS:
            kind = str(node["class"]).lower().replace("_", " ")
            raise statement.error(
                f"A {kind} cannot be used here. Write an expression of one row's fields.", at
            )
        if node["class"] == "FUNCTION":
            name = str(node["function_name"]).lower()
            if len((node.get("qualified_name") or {}).get("path", ())) > 1 or name not in _FUNCTIONS:
                raise statement.error(
                    f"{name!r} is no function of the fields of one row.{nearest(name, _FUNCTIONS)}", at
                )
    cost = cost_of(tree)
    parts: list[Part] = []
    joint = _joined(tree, parts)
    found = Expression(text.strip(), tuple(parts), joint, cost)
    if len(found.fields) > MOST_FIELDS:
        raise SqlError(f"It names {len(found.fields)} fields; the most are {MOST_FIELDS}.")
    return found


def _joined(node: dict[str, Any], parts: list[Part]) -> str:
    """A format string of AND, OR and NOT that joins the parts of an expression. Appends those to `parts`."""
    if node["class"] == "CONJUNCTION":
        word = " AND " if node["type"] == "CONJUNCTION_AND" else " OR "
        return f"({word.join(_joined(child, parts) for child in node['children'])})"
    if node["type"] == "OPERATOR_NOT":
        return f"(NOT {_joined(node['children'][0], parts)})"
    parts.append(_part(node))
    return f"{{{len(parts) - 1}}}"


def _part(node: dict[str, Any]) -> Part:
    # DuckDB writes the tree as SQL. A random name, which no author can guess, marks the place of each field.
    mark, names = f"f{secrets.token_hex(8)}_", list[str]()
    for each, _ in _nodes(node, 0):
        if each["class"] == "COLUMN_REF":
            name = ".".join(each["column_names"])
            if name not in names:
                names.append(name)
            each["column_names"] = [f"{mark}{names.index(name)}_"]
    pieces = re.split(rf'"?{mark}(\d+)_"?', expression_sql(node))
    return Part(tuple(names), tuple(pieces[::2]), tuple(names[int(place)] for place in pieces[1::2]))


def nearest(wrong: str, known: Iterable[str]) -> str:
    """A sentence that suggests the name nearest to `wrong`, after a space; empty if none is near."""
    near = get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def words_of(error: Exception) -> str:
    """DuckDB's message of an error, on one line, without a full stop."""
    words = details(error).get("exception_message", "").partition("\n")[0]
    return re.sub(r"\s+", " ", words).strip().rstrip(".") or "it cannot be computed"


def _nodes(part: Any, depth: int) -> Iterator[tuple[dict[str, Any], int]]:
    """All expressions in `part`, each with its depth."""
    if isinstance(part, dict):
        if "class" in part:
            yield part, depth
            depth += 1
        for value in part.values():
            yield from _nodes(value, depth)
    elif isinstance(part, list):
        for value in part:
            yield from _nodes(value, depth)
