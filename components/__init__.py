"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .alerts import alerts
from .choose import choose, choose_number
from .download import downloads
from .line_chart import line_chart
from .live import View, live
from .streams import is_demo, newest_messages, stream_list, streams, subjects
from .table import latest_values, newest_rows
from .words import bytes_text, plain

__all__ = [
    "View",
    "alerts",
    "bytes_text",
    "choose",
    "choose_number",
    "downloads",
    "is_demo",
    "latest_values",
    "line_chart",
    "live",
    "newest_messages",
    "newest_rows",
    "plain",
    "stream_list",
    "streams",
    "subjects",
]
