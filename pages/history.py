"""History."""

import streamlit as st

from components import ago, answer_chart, answer_table, choose, downloads, query

LOOK_BACKS = ["PT15M", "PT1H", "PT6H", "P1D", "P7D", "P30D"]
PER_MINUTE = """\
SELECT date_trunc('minute', time) AS time, subject, count(*) AS messages
FROM history
WHERE time >= $start AND time < $end
GROUP BY 1, 2
ORDER BY 1"""

sql = st.text_area(
    "SQL", PER_MINUTE, height=160, help="One SELECT. $end is now, $start the look-back before."
)
look_back = choose("Look-back", LOOK_BACKS, default="PT1H", own=True, help="For example 5m, 6 hours or PT5M")

answer = query(sql, {"start": ago(look_back), "end": ago()})

if answer is not None:
    kinds = answer.columns
    times, numbers, texts = (
        [name for name, kind in kinds.items() if kind == wanted] for wanted in ("time", "number", "text")
    )
    if times and numbers:
        with st.container(horizontal=True):
            y = choose("Field", numbers)
            color = choose("Colour", [*texts, "none"])
        answer_chart(answer, times[0], y, color if color in texts else None)
    answer_table(answer)
    downloads(answer, "history")
