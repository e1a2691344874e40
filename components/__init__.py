"""The functions that pages call.

from components import line_chart, live

cpu = live("METRICS", "metrics.cpu.*", look_back="PT15M")
line_chart(cpu, y="percent", by="_subject")
"""

from .charts.compare import compare, compared_means, look_back_for
from .charts.counts import counts
from .charts.events import events
from .charts.heatmap import heatmap
from .charts.line_chart import line_chart
from .charts.scatter_chart import scatter_chart
from .charts.states import states
from .choices.choose import (
    choose,
    choose_flag,
    choose_many,
    choose_number,
    choose_step,
    choose_tab,
    choose_text,
)
from .data.bucket import Bucket
from .data.live import View, live
from .data.request import request
from .explore.chart import choose_chart
from .explore.messages import message_explorer
from .explore.page_code import page_code
from .explore.rows import choose_rows
from .explore.sql_panel import sql_panel
from .inside.page import inside
from .metrics.metric import metric
from .nats.buckets import bucket_settings, choose_bucket, key_history, key_list, key_value, values
from .nats.consumers import consumer_list, stream_limits
from .nats.history import Answer, ago, answer_chart, answer_table, query
from .nats.services import (
    endpoint_list,
    send_request,
    service_chart,
    service_list,
    service_metadata,
    services,
)
from .nats.streams import is_demo, newest_messages, stream_list, stream_names, streams, subjects
from .nats.subject_tree import subject_tree
from .nats.workflows import (
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
from .sql.views import every, rate, rolling, sql, top
from .tables.alerts import alerts
from .tables.download import downloads
from .tables.fields import field_list
from .tables.latest_values import latest_values
from .tables.messages import message_list
from .tables.newest_rows import newest_rows
from .tables.tail import tail
from .websocket_demo.page import (
    compare_with,
    compared,
    compared_charts,
    compared_figures,
    compared_notes,
    comparison,
)
from .words import bytes_text, plain

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
    "choose_flag",
    "choose_many",
    "choose_number",
    "choose_rows",
    "choose_step",
    "choose_tab",
    "choose_text",
    "compare",
    "compare_with",
    "compared",
    "compared_charts",
    "compared_figures",
    "compared_means",
    "compared_notes",
    "comparison",
    "consumer_list",
    "counts",
    "downloads",
    "endpoint_list",
    "events",
    "every",
    "field_list",
    "heatmap",
    "inside",
    "is_demo",
    "key_history",
    "key_list",
    "key_value",
    "latest_values",
    "line_chart",
    "live",
    "look_back_for",
    "message_explorer",
    "message_list",
    "metric",
    "newest_messages",
    "newest_rows",
    "page_code",
    "plain",
    "query",
    "rate",
    "request",
    "rolling",
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
    "sql",
    "sql_panel",
    "start_buttons",
    "states",
    "stream_limits",
    "stream_list",
    "stream_names",
    "streams",
    "subject_tree",
    "subjects",
    "tail",
    "top",
    "values",
    "workflow_run",
    "workflow_runs",
]
