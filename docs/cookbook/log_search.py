"""Search in logs."""

from components import choose_text, live, newest_rows, sql

logs = live("LOGS", "logs.{service}", look_back="PT15M", time="at")
found = sql(
    "SELECT _time, service, level, text FROM logs WHERE contains(lower(text), lower($words))",
    parameters={"words": choose_text("Words")},
    logs=logs,
)
newest_rows(found, 10)
