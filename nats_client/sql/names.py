"""The SQL of rate, every, rolling and top. Their table is `rows`."""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import pandas as pd

from ..errors import SqlError, one_of
from .guard import check_expression

Rolling = Literal["mean", "least", "greatest", "sum", "count", "p50", "p95", "p99"]
"""How rolling() combines values."""
Top = Literal["greatest", "least", "mean", "sum", "newest"]
"""The value by which top() compares series."""

AGGREGATES: dict[str, str] = {
    "mean": "avg({})",
    "least": "min({})",
    "greatest": "max({})",
    "sum": "sum({})",
    "count": "count({})",
    "p50": "quantile_cont({}, 0.5)",
    "p95": "quantile_cont({}, 0.95)",
    "p99": "quantile_cont({}, 0.99)",
}
"""The ways to combine values, as SQL of one column."""
_TOP = {
    "greatest": "max({})",
    "least": "-min({})",
    "mean": "avg({})",
    "sum": "sum({})",
    "newest": "arg_max({}, _time)",
}


def columns_of(by: str | Sequence[str] | None) -> tuple[str, ...]:
    """The columns that name a series. Raises SqlError if one of them is not text."""
    columns = () if by is None else (by,) if isinstance(by, str) else tuple(by)
    for column in columns:
        if not isinstance(column, str) or not column:
            raise SqlError(f"by={by!r} is not valid. Give the name of a column, or several.")
    return columns


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def interval(length: pd.Timedelta) -> str:
    """A length as SQL, in whole microseconds. Raises SqlError if it is shorter than a microsecond."""
    microseconds = length.value // 1000
    if microseconds < 1:
        raise SqlError("A length of less than a microsecond is too short.")
    return f"INTERVAL '{microseconds} microseconds'"


def rate_sql(field: str, by: tuple[str, ...], over: pd.Timedelta | None = None) -> str:
    """The SQL of how fast a counter grows per second, at each row but the first of its series.

    The growth is measured from the previous row, or from the first row within the last `over`. A counter that
    falls has started again at 0, as in Prometheus. Of rows with the same time the last one counts.
    """
    series = "".join(f"{quoted(name)}, " for name in by)
    whose = f"PARTITION BY {series[:-2]} " if by else ""
    value = quoted(field)
    steps = f"""WITH _last AS (
    SELECT _time, {series}{value} AS _value
    FROM rows WHERE {value} IS NOT NULL
    QUALIFY _time IS DISTINCT FROM lead(_time) OVER ({whose}ORDER BY _time, _seq)
), _steps AS (
    SELECT *, lag(_value) OVER _series AS _before,
        (epoch_ns(_time) - epoch_ns(lag(_time) OVER _series)) / 1e9 AS _seconds
    FROM _last WINDOW _series AS ({whose}ORDER BY _time)
)"""  # noqa: S608 - names are quoted, and the guard checks all of it
    grown = "(CASE WHEN _value < _before THEN _value ELSE _value - _before END)"
    if over is None:
        return (
            f"{steps}\nSELECT _time, {series}{grown} / _seconds AS rate\n"
            "FROM _steps WHERE _seconds IS NOT NULL"
        )
    return f"""{steps}, _sums AS (
    SELECT _time, {series}
        sum(coalesce({grown}, 0)) OVER ({whose}ORDER BY _time) AS _sum
    FROM _steps
), _stretches AS (
    SELECT *, _sum - first_value(_sum) OVER _stretch AS _grown,
        (epoch_ns(_time) - epoch_ns(first_value(_time) OVER _stretch)) / 1e9 AS _seconds
    FROM _sums WINDOW _stretch AS ({whose}ORDER BY _time
        RANGE BETWEEN {interval(over)} PRECEDING AND CURRENT ROW)
)
SELECT _time, {series}_grown / _seconds AS rate
FROM _stretches WHERE _seconds > 0"""  # noqa: S608 - as above


def every_sql(length: pd.Timedelta, by: tuple[str, ...], shows: Mapping[str, str]) -> str:
    """The SQL of aggregates per bucket of `length` and per series. The grid of buckets begins at the epoch,
    in UTC. Raises SqlError if `shows` is empty, an expression is not valid, or a name is taken."""
    if not shows:
        raise SqlError("every() needs what to show: n='count(*)', or mean='avg(ms)'.")
    for name, expression in shows.items():
        check_expression(expression, aggregate=True)
        if name in (*by, "time", "_time"):
            raise SqlError(f"{name!r} names a column already. Choose another name.")
    series = "".join(f"{quoted(name)}, " for name in by)
    shown = ", ".join(f"({expression}\n) AS {quoted(name)}" for name, expression in shows.items())
    epoch = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"
    groups = ", ".join(map(str, range(1, len(by) + 2)))
    return (
        f"SELECT time_bucket({interval(length)}, _time, {epoch}) AS time, {series}{shown}\n"
        f"FROM rows GROUP BY {groups}"
    )


def rolling_sql(field: str, by: tuple[str, ...], length: pd.Timedelta, how: str) -> str:
    """The SQL of an aggregate of the values from `length` before each row's time to that time, inclusive.
    Raises SqlError if `how` is not valid."""
    if how not in AGGREGATES:
        raise SqlError(f"how={how!r} is not valid. " + one_of(how, get_args(Rolling), what="way"))
    series = "".join(f"{quoted(name)}, " for name in by)
    whose = f"PARTITION BY {series[:-2]} " if by else ""
    value = quoted(field)
    return (
        f"SELECT _time, {series}{AGGREGATES[how].format(value)} OVER ({whose}ORDER BY _time\n"
        f"    RANGE BETWEEN {interval(length)} PRECEDING AND CURRENT ROW) AS {value}\n"
        f"FROM rows WHERE {value} IS NOT NULL"
    )


def top_sql(field: str, by: str, most: int, how: str) -> str:
    """The SQL of the rows of the `most` series with the greatest value; of equal series, the first by name.
    Raises SqlError if `how` or `most` is not valid."""
    if how not in _TOP:
        raise SqlError(f"how={how!r} is not valid. " + one_of(how, get_args(Top), what="way"))
    if not isinstance(most, int) or not 1 <= most <= 1000:
        raise SqlError(f"most={most!r} is not valid. Choose 1 to 1000 series.")
    series, value = quoted(by), quoted(field)
    return f"""WITH _best AS (
    SELECT {series} AS _series FROM rows WHERE {value} IS NOT NULL AND {series} IS NOT NULL
    GROUP BY 1 ORDER BY {_TOP[how].format(value)} DESC, 1 LIMIT {most}
)
SELECT _time, {series}, {value} FROM rows WHERE {series} IN (SELECT _series FROM _best)"""  # noqa: S608 - as above
