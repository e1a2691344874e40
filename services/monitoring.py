"""Requests to the monitoring port of a NATS server.

https://docs.nats.io/running-a-nats-service/nats_admin/monitoring
"""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

FAILURES = (OSError, http.client.HTTPException, ValueError)
"""The exceptions that read() raises."""


def read(url: str, path: str, timeout: float) -> dict[str, Any]:
    """The reply to `path`, such as "/varz", from `url`, such as "http://127.0.0.1:8222". `timeout` is in
    seconds. Raises one of FAILURES if there is no reply, or the reply is not a JSON object."""
    address = urlsplit(url)
    # not urllib, which would use the environment's proxy
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(f"{path} is not a JSON object")
    return answer
