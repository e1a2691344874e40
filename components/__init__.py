"""What pages are made of.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", color="_subject")
"""

from .alerts import alerts
from .bucket import Bucket
from .chart import choose_chart
from .choose import choose, choose_number
from .compare import compare, compared_means, look_back_for
from .comparison import (
    compare_with,
    compared,
    compared_charts,
    compared_figures,
    compared_notes,
    comparison,
)
from .download import downloads
from .fields import field_list
from .history import Answer, ago, answer_chart, answer_table, query
from .inside import inside
from .line_chart import line_chart
from .live import View, live
from .messages import message_list
from .page_code import page_code
from .request import request
from .rows import choose_rows
from .scatter_chart import scatter_chart
from .services import (
    endpoint_list,
    send_request,
    service_chart,
    service_list,
    service_metadata,
    services,
)
from .streams import is_demo, newest_messages, stream_list, stream_names, streams, subject_list, subjects
from .table import latest_values, newest_rows
from .values import bucket_settings, choose_bucket, key_history, key_list, key_value, values
from .words import bytes_text, plain
from .workflows import (
    asked_run,
    run_chart,
    run_header,
    run_list,
    run_log,
    run_steps,
    start_buttons,
    workflow_run,
    workflow_runs,
)

__all__ = [
    "Answer",
    "Bucket",
    "View",
    "ago",
    "alerts",
    "answer_chart",
    "answer_table",
    "asked_run",
    "bucket_settings",
    "bytes_text",
    "choose",
    "choose_bucket",
    "choose_chart",
    "choose_number",
    "choose_rows",
    "compare",
    "compare_with",
    "compared",
    "compared_charts",
    "compared_figures",
    "compared_means",
    "compared_notes",
    "comparison",
    "downloads",
    "endpoint_list",
    "field_list",
    "inside",
    "is_demo",
    "key_history",
    "key_list",
    "key_value",
    "latest_values",
    "line_chart",
    "live",
    "look_back_for",
    "message_list",
    "newest_messages",
    "newest_rows",
    "page_code",
    "plain",
    "query",
    "request",
    "run_chart",
    "run_header",
    "run_list",
    "run_log",
    "run_steps",
    "scatter_chart",
    "send_request",
    "service_chart",
    "service_list",
    "service_metadata",
    "services",
    "start_buttons",
    "stream_list",
    "stream_names",
    "streams",
    "subject_list",
    "subjects",
    "values",
    "workflow_run",
    "workflow_runs",
]
