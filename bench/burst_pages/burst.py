"""A stream that comes in bursts, in event time. The file BENCH_SEEN holds the newest row's sequence."""

import os
from pathlib import Path

from components import line_chart, live

feed = live("BURST", "burst.>", look_back="PT1M", time="t")
line_chart(feed, y="value", color="_subject")
if len(feed):
    Path(os.environ["BENCH_SEEN"]).write_text(str(feed.snapshot.seq[-1]))
