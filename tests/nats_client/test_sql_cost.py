"""The cost of expressions of one row: whatever a viewer writes, memory and time stay bounded."""

import resource
import subprocess
import sys
from dataclasses import replace

import duckdb
import numpy as np
import pytest

from nats_client.errors import SqlError
from nats_client.sql.cost import MOST
from nats_client.sql.expression import parse_expression
from nats_client.sql.row_filter import RowFilter
from nats_client.table.values import Batch

TOO_MUCH = [
    f"len({'hex(' * 25}t{')' * 25})",
    f"len({'bin(' * 9}t{')' * 9})",
    f"len({'to_base64(encode(' * 28}t{'))' * 28})",
    f"len({'regexp_escape(' * 40}t{')' * 40})",
    f"len({'url_encode(' * 30}t{')' * 30})",
    "len(" + "replace(" * 12 + "t" + ", 'a', 'aaaaaaaaaa')" * 12 + ")",
    "len(" + "regexp_replace(" * 12 + "t" + ", 'a', 'aaaaaaaaaa', 'g')" * 12 + ")",
    "len(" + "replace(" * 4 + "t" + ", 'a', t)" * 4 + ")",
    "len(" + "regexp_replace(" * 12 + "t" + r", '(a*)', '\1\1\1\1', 'g')" * 12 + ")",
    "len(" + "CAST(CAST(" * 14 + "t" + " AS BIT) AS VARCHAR)" * 14 + ")",
]
BOUNDED = [
    f"len(concat({'t, ' * 600}t))",
    "len(replace(t, 'a', t))",
    "len(regexp_replace(t, 'a', t, 'g'))",
    "levenshtein(t, t || 'b')",
    "damerau_levenshtein(t, t || 'b')",
    "editdist3(t, t)",
    "jaro_similarity(t, t)",
    "jaro_winkler_similarity(t, t)",
    "jaccard(t, t)",
    "regexp_matches(t, t)",
    "regexp_matches(t, '(a*)*b')",
    "regexp_matches(t, '((a?){100}){9}$')",
    "t LIKE '%a%a%a_%a%c%'",
    "t GLOB '*a*a?*a*c*'",
    "len(string_split(t, ''))",
    "CAST(concat('[', replace(t, 'a', '1,'), '1]') AS INT[])[1]",
    "CAST(CAST(replace(t, 'a', '9') AS BIGNUM) AS VARCHAR)",
    "json_extract(concat(replace(t, 'a', '['), replace(t, 'a', ']')), '$..*')",
    "len(strftime(_time, concat(t, '%c')))",
    "CAST('1e999999999' AS DOUBLE)",
    "CAST(t AS DECIMAL(38, 37))",
    "2 ** 1e308",
    "len(hex(hex(hex(t))))",
]
SIZES = [(200_000, 1), (2_000, 30)]
CHILD = """
import sys
sys.path.insert(0, ".")
from tests.nats_client import test_sql_cost
test_sql_cost.work_all()
"""


def rows(size: int, count: int, letter: str = "a") -> Batch:
    """`count` rows, each with a text of `size` letters."""
    numbers = np.arange(count)
    return Batch(
        numbers,
        numbers,
        numbers * 1_000_000_000,
        ["s"] * count,
        {"t": [letter * size] * count},
        frozenset(),
        0,
    )


def work_all() -> None:
    """Evaluate all of BOUNDED, and print by how many KiB the peak memory grew."""
    RowFilter(None, [("x", "len(t)")]).apply(rows(1, 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for text in BOUNDED:
        for size, count in SIZES:
            assert len(RowFilter(None, [("x", text)]).apply(rows(size, count))) == count, text
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


@pytest.mark.parametrize("text", TOO_MUCH)
def test_what_multiplies_is_refused(text: str) -> None:
    """An expression that makes a huge text from a short one is refused before it is evaluated."""
    with pytest.raises(SqlError, match=r"^where: It can make texts that are far too long\."):
        RowFilter(text)


def test_no_expression_takes_the_memory() -> None:
    """Whatever an expression does with texts, even long ones in many messages, memory stays within a few
    times the limit. A message that would exceed it has no value, but is still a row."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    taken = int(done.stdout.split()[-1]) << 10
    assert taken < 6 * MOST


def test_a_row_that_costs_too_much_is_alone() -> None:
    """A message whose text is too long has no value, which is reported; the other messages have theirs. As a
    filter, the expression does not match it."""
    batch = replace(rows(3, 3), values={"t": ["ab", "a" * 300_000, "abc"]})
    columns = RowFilter(None, [("x", "levenshtein(t, reverse(t))")])
    kept = columns.apply(batch)
    found = kept.values["x"]
    assert isinstance(found, np.ndarray)
    assert [None if np.isnan(value) else value for value in found.tolist()] == [2, None, 2]
    assert any("could make too much of their texts" in note for note in columns.seen.notes)
    assert RowFilter("levenshtein(t, reverse(t)) = 2").apply(batch).seq.tolist() == [0, 2]


@pytest.mark.parametrize(
    "text",
    [
        "lower(t)",
        "upper(t)",
        "nfc_normalize(t)",
        "strip_accents(t)",
        "hex(t)",
        "bin(t)",
        "to_base64(encode(t))",
        "url_encode(t)",
        "regexp_escape(t)",
        "reverse(t)",
        "translate(t, 'aé', '€€')",
        "replace(t, 'a', 'bcd')",
        "replace(t, 'a', t)",
        "replace(t, '', 'xy')",
        "regexp_replace(t, '', 'xyz', 'g')",
        r"regexp_replace(t, '(.)', '\1\1€', 'g')",
        "regexp_replace(t, 'a', t, 'g')",
        "concat(t, t, '€')",
        "concat_ws(t, t, t, 'x')",
        "CAST(encode(t) AS VARCHAR)",
        "CAST(string_split(t, '') AS VARCHAR)",
        "CAST(t AS JSON)",
        "CASE WHEN t LIKE 'a%' THEN t || t ELSE hex(t) END",
        "coalesce(t, 'x') COLLATE NOCASE",
        "strftime(TIMESTAMP '2026-11-29', '%c%A%B%Z')",
        "regexp_extract(t, '.*')",
        "split_part(t, 'b', 1)",
        "left(t, 999)",
        "url_decode(t)",
    ],
)
def test_the_bound_is_never_too_low(text: str) -> None:
    """No value has more bytes than the bound computed for the lengths of its texts."""
    cost = parse_expression(text, "x").cost
    for given in (
        "",
        "a",
        "aaaaaaaa",
        "é€😀",
        "ΐŉΰ",
        "\\.%+[",
        "%%%%%",
        "a b c",
        "ab" * 500,
        "\u0001" * 9,
        '"a"',
    ):
        made = duckdb.execute(f"SELECT strlen(CAST(TRY({text}) AS VARCHAR)) FROM (SELECT $1 AS t)", [given])
        (length,) = made.fetchone() or (0,)
        assert (length or 0) <= cost.of(float(len(given.encode()))), given
