"""What a NATS server tells at its monitoring port.

https://docs.nats.io/running-a-nats-service/nats_admin/monitoring
"""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

FAILURES = (OSError, http.client.HTTPException, ValueError)
"""What read() raises."""


def read(url: str, path: str, timeout: float) -> dict[str, Any]:
    """The answer to `path`, such as "/varz", at `url`, such as "http://127.0.0.1:8222". `timeout` is in
    seconds. Raises one of FAILURES where there is no answer, or none that is a JSON object."""
    address = urlsplit(url)
    # not urllib: it would go through the environment's proxy
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = json.load(connection.getresponse())
    finally:
        connection.close()
    if not isinstance(answer, dict):
        raise ValueError(f"{path} is not a JSON object")
    return answer
