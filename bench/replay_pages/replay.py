"""Ten series, and beside them a replay, from when the file BENCH_REPLAY is there until it is taken away."""

import os
from pathlib import Path

from bench.replay import STREAM, SUBJECTS
from components import line_chart, live
from components.data.connection import client

feed = live("BENCH", "bench.>", look_back="PT5M", time="t")
line_chart(feed, y="value", color="_subject")
asked = Path(os.environ["BENCH_REPLAY"])
if asked.exists() and client().feed(STREAM, SUBJECTS, look_back="PT1H").wait(0):
    asked.unlink(missing_ok=True)
