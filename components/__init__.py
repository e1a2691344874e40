"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .choose import choose
from .download import downloads
from .history import Answer, ago, answer_chart, answer_table, query
from .line_chart import line_chart
from .live import View, live
from .request import request
from .services import (
    endpoint_list,
    send_request,
    service_chart,
    service_list,
    service_metadata,
    services,
)
from .streams import is_demo, newest_messages, stream_list, streams, subjects
from .table import latest_values, newest_rows
from .words import bytes_text, plain

__all__ = [
    "Answer",
    "View",
    "ago",
    "answer_chart",
    "answer_table",
    "bytes_text",
    "choose",
    "downloads",
    "endpoint_list",
    "is_demo",
    "latest_values",
    "line_chart",
    "live",
    "newest_messages",
    "newest_rows",
    "plain",
    "query",
    "request",
    "send_request",
    "service_chart",
    "service_list",
    "service_metadata",
    "services",
    "stream_list",
    "streams",
    "subjects",
]
