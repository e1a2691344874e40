"""History."""

import streamlit as st

from components import ago, answer_chart, answer_table, choose, downloads, query

PER_MINUTE = """\
SELECT date_trunc('minute', time) AS time, subject, count(*) AS messages
FROM history
WHERE time >= $start AND time < $end
GROUP BY 1, 2
ORDER BY 1"""

sql = st.text_area(
    "SQL",
    PER_MINUTE,
    height=160,
    key="history-sql",
    help="One SELECT. $start and $end are from and until when the page looks: the clock above says it.",
)
answer = query(sql, {"start": ago("PT1H"), "end": ago()})

if answer is not None:
    kinds = answer.columns
    times, numbers, texts = (
        [name for name, kind in kinds.items() if kind == wanted] for wanted in ("time", "number", "text")
    )
    if times and numbers:
        with st.container(horizontal=True):
            y = choose("Field", numbers)
            by = choose("Colour", [*texts, "none"])
        answer_chart(answer, times[0], y, by if by in texts else None)
    answer_table(answer)
    downloads(answer, "history")
