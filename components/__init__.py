"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .chart import choose_chart
from .choose import choose, chosen
from .download import downloads
from .fields import field_list, time_fields
from .line_chart import line_chart
from .live import View, live, look
from .messages import message_list
from .page_code import page_code
from .scatter_chart import scatter_chart
from .status import empty_state
from .streams import is_demo, newest_messages, stream_line, stream_list, streams, subject_list, subjects
from .table import latest_values, newest_rows
from .words import bytes_text, plain

__all__ = [
    "View",
    "bytes_text",
    "choose",
    "choose_chart",
    "chosen",
    "downloads",
    "empty_state",
    "field_list",
    "is_demo",
    "latest_values",
    "line_chart",
    "live",
    "look",
    "message_list",
    "newest_messages",
    "newest_rows",
    "page_code",
    "plain",
    "scatter_chart",
    "stream_line",
    "stream_list",
    "streams",
    "subject_list",
    "subjects",
    "time_fields",
]
