"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .chart import choose_chart
from .choose import choose
from .download import downloads
from .fields import field_list
from .line_chart import line_chart
from .live import View, live
from .messages import message_list
from .page_code import page_code
from .rows import choose_rows
from .scatter_chart import scatter_chart
from .streams import is_demo, newest_messages, stream_list, streams, subject_list, subjects
from .table import latest_values, newest_rows
from .words import bytes_text, plain

__all__ = [
    "View",
    "bytes_text",
    "choose",
    "choose_chart",
    "choose_rows",
    "downloads",
    "field_list",
    "is_demo",
    "latest_values",
    "line_chart",
    "live",
    "message_list",
    "newest_messages",
    "newest_rows",
    "page_code",
    "plain",
    "scatter_chart",
    "stream_list",
    "streams",
    "subject_list",
    "subjects",
]
