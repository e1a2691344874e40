"""As many rows and series as the run asks for."""

import os

from components import line_chart, live

feed = live("GROWTH", "growth.>", look_back=os.environ["BENCH_LOOK_BACK"], time="t")
line_chart(feed, y="value", color="_subject", most=100)
