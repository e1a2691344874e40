"""Growth.

As many rows and series as the run asks for. The file BENCH_READY is made once the history is there.
"""

import os
from pathlib import Path

from components import line_chart, live

feed = live("GROWTH", "growth.>", look_back=os.environ["BENCH_LOOK_BACK"], time="t")
line_chart(feed, y="value", by="_subject", most=100)
ready = Path(os.environ["BENCH_READY"])
if not ready.exists() and feed.health.phase == "following":
    ready.touch()
