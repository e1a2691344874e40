"""Bounds the cost of an expression of one row: the bytes of all values that it makes.

The bound depends on the bytes of the row's texts. DuckDB neither counts the values that a function makes, nor
can it be interrupted within a function. Most functions return no more than they get. Some return more, such
as replace(), hex() and casts, and nesting multiplies that. A few go through all pairs of characters of two
texts, such as levenshtein(). The bound is rough but never too low, and no expression of practical use reaches
it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import SqlError
from ..table.values import Floats

T = TypeVar("T", float, Floats)

MOST = 64 << 20
"""Bytes that the expressions may make at once."""
SHORT = 16
"""Bytes of a row's texts for which every expression must stay within MOST."""
_VALUE = 32.0
"""Bytes of a number, a time or a truth."""
_GROWS = {
    "lower": 3, "upper": 3, "lcase": 3, "ucase": 3, "nfc_normalize": 3, "translate": 4, "hex": 2, "to_hex": 2,
    "bin": 8, "base64": 2, "to_base64": 2, "url_encode": 3, "regexp_escape": 2, "string_split": 17,
    "strftime": 16,
}  # fmt: skip
"""Functions whose value may have more bytes than their arguments, and the maximum ratio."""
_SMALL = {
    "ascii", "bit_count", "char_length", "contains", "dayname", "ends_with", "format_bytes", "hamming",
    "hash", "ilike_escape", "instr", "isfinite", "isinf", "isnan", "jaccard", "json_array_length",
    "json_contains", "json_exists", "json_type", "json_valid", "len", "length", "like_escape", "md5",
    "mismatches", "monthname", "not_ilike_escape", "not_like_escape", "ord", "parse_formatted_bytes",
    "position", "prefix", "regexp_full_match", "regexp_matches", "sha1", "sha256", "starts_with", "strlen",
    "strpos", "strptime", "suffix", "try_strptime", "typeof", "unicode", "~~", "!~~", "~~*", "!~~*", "~~~",
    "^@",
}  # fmt: skip
"""Functions of texts whose value is small. The value of any other function is taken to have the bytes of all
its arguments."""
_PAIRS = {"levenshtein": 1, "editdist3": 1, "damerau_levenshtein": 8, "jaro_similarity": 1,
          "jaro_winkler_similarity": 1}  # fmt: skip
"""Functions that go through all pairs of characters of two texts, and their bytes per pair."""
_PATTERNS = frozenset({"regexp_matches", "regexp_full_match", "regexp_extract", "regexp_replace"})
_PATHS = frozenset(
    {"json_extract", "json_extract_string", "json_extract_path", "json_extract_path_text", "->", "->>"}
)
_SMALL_TYPES = {
    "bigint", "boolean", "date", "decimal", "double", "float", "hugeint", "int", "integer", "interval",
    "numeric", "real", "smallint", "time", "timestamp", "timestamptz", "tinyint", "ubigint", "uhugeint",
    "uinteger", "usmallint", "utinyint", "uuid",
}  # fmt: skip
_TEXT_TYPES = frozenset({"varchar", "text", "string", "char", "blob", "bytea", "json"})


@dataclass(frozen=True)
class Cost:
    """Bytes: `fixed`, plus `each` per byte of the row's texts, plus `pair` per pair of such bytes."""

    fixed: float = 0.0
    each: float = 0.0
    pair: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.fixed + other.fixed, self.each + other.each, self.pair + other.pair)

    def times(self, factor: float) -> "Cost":
        """The cost multiplied by `factor`."""
        return Cost(self.fixed * factor, self.each * factor, self.pair * factor)

    def pairs(self, other: "Cost") -> "Cost":
        """The cost of one byte for each pair of a byte of this cost and a byte of `other`. Raises
        OverflowError if it would grow faster than the square of the texts' bytes."""
        if self.pair * (other.pair + other.each) or other.pair * self.each:
            raise OverflowError
        return Cost(
            self.fixed * other.fixed,
            self.fixed * other.each + self.each * other.fixed,
            self.fixed * other.pair + self.each * other.each + self.pair * other.fixed,
        )

    def of(self, nbytes: T) -> T:
        """The bytes for a row whose texts have `nbytes`; for an array, those of each row."""
        return self.fixed + self.each * nbytes + self.pair * nbytes * nbytes


def cost_of(tree: Mapping[str, Any]) -> Cost:
    """The cost of an expression, from DuckDB's tree of it. Raises SqlError if that is too high."""
    total = [Cost()]
    try:
        _length(tree, total)
        if total[0].of(SHORT) <= MOST:
            return total[0]
    except OverflowError:
        pass
    raise SqlError("It can make texts that are far too long. Nest fewer functions that make texts longer.")


def _length(node: Mapping[str, Any], total: list[Cost]) -> Cost:
    """The bytes of the value of `node`. The bytes of all values made for it are added to `total`."""
    kind = node["class"]
    if kind == "COLUMN_REF":
        return Cost(_VALUE, 1.0)
    if kind == "CONSTANT":
        return Cost(len(_constant(node) or b"") + 1.0)
    below = [_length(each, total) for each in _children(node)]
    together = sum(below, Cost(1.0))
    if kind == "FUNCTION":
        found = _of_function(node, below, together)
    elif kind == "CAST":
        found = _of_cast(str(node["type_expr"].get("type_name", "")).lower(), together)
    elif kind in ("COMPARISON", "CONJUNCTION", "BETWEEN") or node.get("type") in _TRUTHS:
        found = Cost(_VALUE)
    else:
        found = together.times(3) if kind == "COLLATE" else together
    total[0] += found
    return found


_TRUTHS = ("COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_NOT", "OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL")


def _of_function(node: Mapping[str, Any], below: list[Cost], together: Cost) -> Cost:
    name = str(node["function_name"]).lower()
    given = list(_children(node))
    texts = [_constant(each) for each in given]
    if name in _PAIRS and len(below) > 1:
        return below[0].pairs(below[1]).times(_PAIRS[name])
    work = Cost(_VALUE)
    if name in _PATTERNS and len(below) > 1 and texts[1] is None:
        work += below[0].pairs(below[1])  # each character is compared with each of the pattern
    if name in _PATHS and len(below) > 1 and (texts[1] is None or b"*" in texts[1]):
        work += below[0].pairs(below[0])  # parts of parts
    if name == "replace" and len(below) == 3:
        if texts[2] is None:
            return work + below[0].pairs(below[2])
        shortest = max(1, len(texts[1] or b""))
        return work + below[0].times(max(1.0, len(texts[2]) / shortest))
    if name == "regexp_replace" and len(below) > 2:
        if texts[2] is None:
            return work + below[0].pairs(below[2]).times(2)
        references = texts[2].count(b"\\")
        if len(below) == 3:
            return work + below[0].times(1 + references) + below[2]
        return work + below[0].times(1 + references + len(texts[2])) + below[2]
    if name == "concat_ws" and below:
        return work + together + below[0].times(len(below))
    return work if name in _SMALL else work + together.times(_GROWS.get(name, 1))


def _of_cast(to: str, inner: Cost) -> Cost:
    if to in _SMALL_TYPES:
        return Cost(_VALUE)
    return inner.times(4 if to in _TEXT_TYPES else 16)


def _constant(node: Mapping[str, Any]) -> bytes | None:
    """The bytes of a constant; None for anything else."""
    if node["class"] != "CONSTANT":
        return None
    return str((node.get("literal") or {}).get("text", "")).encode()


def _children(part: Any) -> list[Mapping[str, Any]]:
    """The expressions directly below `part`, in order."""
    found: list[Mapping[str, Any]] = []
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict) and "class" in value:
            if value["class"] != "TYPE":
                found.append(value)
        elif isinstance(value, dict | list):
            found += _children(value)
    return found
