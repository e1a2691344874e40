"""Rows as CSV for spreadsheets, which evaluate some texts as formulas."""

import csv
import io
import sys
import unicodedata

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.tables.download import _csv, _parquet

SIGNS = "=+-@|%\N{MINUS SIGN}"
UNSEEN = {
    c
    for c in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(c) in ("Cc", "Cf", "Zs", "Zl", "Zp")
}
UNSEEN |= set(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u2065\u3164\ufe0f\uffa0\u2800\U000e0100"
)  # invisible characters of other categories
ONES = {
    c
    for c in [*SIGNS, *filter(unicodedata.decomposition, map(chr, range(sys.maxunicode + 1)))]
    if c not in UNSEEN and unicodedata.normalize("NFKC", c)[:1] in tuple(SIGNS)
}
"""The signs in all their Unicode widths."""
cell = st.text(st.sampled_from("=+-@\t\r\n\"',;|1.eE a'＝") | st.characters(codec="utf-8"), max_size=8)  # noqa: RUF001


def cells(frame: pd.DataFrame) -> list[list[str]]:
    """The cells of the file as a spreadsheet splits them, header first."""
    return list(csv.reader(io.StringIO("".join(_csv(frame)), newline="")))


def is_number(text: str) -> bool:
    """True if a spreadsheet reads the text as a number, and so evaluates nothing."""
    return (
        text.isascii()
        and "_" not in text
        and text.strip() == text
        and bool(pd.to_numeric(pd.Series([text]), errors="coerce").notna().all())
    )


def is_formula(text: str) -> bool:
    """True if a spreadsheet may read the text as a formula: with a sign of any width, also after invisible
    characters."""
    if text[:1] in tuple("\t\r\n"):
        return True
    first = next((c for c in text if c not in UNSEEN), " ")
    return unicodedata.normalize("NFKC", first)[:1] in tuple(SIGNS) and not is_number(text)


@pytest.mark.parametrize("sign", sorted(ONES))
def test_nothing_unseen_hides_a_formula(sign: str) -> None:
    """No space, control or format character before a sign of any width lets a formula through: in a cell, in
    a column's name, in the index or in its name."""
    texts = [f"{before}{sign}1+1" for before in ["", *sorted(UNSEEN), "\u200b \ufeff", "\xa0\xa0"]]
    header, *rows = cells(pd.DataFrame({texts[-1]: texts}, index=pd.Index(texts, name=texts[0])))
    assert header == [f"'{texts[0]}", f"'{texts[-1]}"]
    assert rows == [[f"'{text}", f"'{text}"] for text in texts]


@given(st.lists(cell, min_size=1, max_size=8), st.booleans(), cell.filter(lambda name: name not in ("", "n")))
@example(["=1", "'=1"], True, "=a")
@example(["a\r=1", "a\n=1", '",=1'], False, "\r")
@example(["-5", "+1e3", "-", "--5", "=5"], False, "@a")
def test_no_text_is_a_formula(texts: list[str], few: bool, name: str) -> None:
    """No text and no column name becomes a formula in a spreadsheet. At most an apostrophe is added in front,
    and numbers are unchanged."""
    column = pd.Series(texts, dtype="category" if few else "str")
    numbers = pd.Series(range(0, -len(texts), -1))
    header, *rows = cells(pd.DataFrame({name: column, "n": numbers}))
    for was, now in zip([name, *texts], [header[0], *(row[0] for row in rows)], strict=True):
        assert now in (was, f"'{was}")
        assert not is_formula(now)
    assert [int(row[1]) for row in rows] == list(numbers)


def test_what_is_no_formula_stays() -> None:
    """Numbers written as text, times, texts with such a sign inside, missing values and columns of equal
    names are unchanged. The Parquet file is exact."""
    frame = pd.DataFrame(
        {
            "text": ["-5", "a=b", None, "=1"],
            "mixed": pd.Series([1, "=x", None, True], dtype="object"),
            "none": pd.Series([None] * 4, dtype="category"),
        }
    ).set_index(pd.date_range("2026-01-01", periods=4, tz="UTC", name="_time"))
    assert cells(frame) == [
        ["_time", "text", "mixed", "none"],
        ["2026-01-01T00:00:00.000000Z", "-5", "1", ""],
        ["2026-01-02T00:00:00.000000Z", "a=b", "'=x", ""],
        ["2026-01-03T00:00:00.000000Z", "", "", ""],
        ["2026-01-04T00:00:00.000000Z", "'=1", "True", ""],
    ]
    assert cells(pd.DataFrame([["=1", 2]], columns=["a", "a"])) == [["a", "a"], ["'=1", "2"]]
    assert cells(frame.iloc[:0]) == [["_time", "text", "mixed", "none"]]
    exact = frame[["text"]]
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(_parquet(exact))), exact, check_freq=False)
