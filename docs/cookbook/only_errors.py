"""Only the errors."""

from components import live, newest_rows, sql

errors = live("LOGS", "logs.{service}", look_back="PT15M", time="at", where="level = 'error'")
newest_rows(sql("SELECT _time, service, text, ms FROM errors", errors=errors), 10)
