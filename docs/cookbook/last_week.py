"""Slower than last week."""

from components import ago, every, line_chart, live, query, sql

week = query(
    "SELECT split_part(subject, '.', 2) AS region, avg(CAST(payload->>'ms' AS double precision)) AS ms"
    " FROM history WHERE stream = 'ORDERS' AND time >= $start GROUP BY 1",
    {"start": ago("P7D")},
)
orders = live("ORDERS", "orders.{region}", look_back="PT15M", time="at")
if week is not None:
    now = every("PT1M", orders, by="region", ms="avg(ms)")
    slower = sql(
        "SELECT now._time, region, 100 * (now.ms / week.ms - 1) AS slower FROM now JOIN week USING (region)",
        now=now,
        week=week,
    )
    line_chart(slower, "slower", by="region", unit="%")
