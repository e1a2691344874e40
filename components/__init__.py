"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .choose import choose
from .compare import compare, compared_means, look_back_for
from .download import downloads
from .line_chart import line_chart
from .live import View, live
from .streams import is_demo, newest_messages, stream_list, streams, subjects
from .table import latest_values, newest_rows
from .words import bytes_text, plain

__all__ = [
    "View",
    "bytes_text",
    "choose",
    "compare",
    "compared_means",
    "downloads",
    "is_demo",
    "latest_values",
    "line_chart",
    "live",
    "look_back_for",
    "newest_messages",
    "newest_rows",
    "plain",
    "stream_list",
    "streams",
    "subjects",
]
