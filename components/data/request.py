"""request(): the reply of a service, for pages."""

from collections.abc import Mapping
from typing import Any

from nats_client import Reply

from ..spent import timed
from .connection import client


@timed
def request(
    subject: str,
    payload: Any = None,
    *,
    timeout: float = 2.0,
    every: float = 5.0,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send a request to the service at `subject` and wait at most `timeout` seconds for the reply.

    payload: bytes, a text, or anything JSON can encode. A page reruns each second, so all viewers share the
    reply, and the request is repeated once the reply is `every` seconds old. The same holds for a failure.
    With `every=0` the request is sent now, as for a button: `if st.button("Start"): request("pump.start",
    every=0)`. Equal requests are never under way at the same time. Raises as `Client.request` does; the frame
    draws the error. While there is no connection, the newest reply is returned.
    """
    return client().shared_request(subject, payload, timeout=timeout, every=every, headers=headers)
