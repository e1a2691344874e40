"""request(): the answer of a service, for pages."""

from collections.abc import Mapping
from typing import Any

from nats_client import Reply

from .connection import client


def request(
    subject: str,
    payload: Any = None,
    *,
    timeout: float = 2.0,
    every: float = 5.0,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Ask the service at `subject`, and wait at most `timeout` seconds for its answer.

    payload: bytes, a text, or anything that JSON knows. A page runs again each second, so the answer is
    shared by all viewers and asked for anew when it is `every` seconds old; so is a failure. With `every=0`
    it is asked now, as behind a button: `if st.button("Start"): request("pump.start", every=0)`. Equal
    requests are never under way at the same time. Raises what `Client.request` does, drawn by the frame;
    while there is no connection the newest answer stays.
    """
    return client().shared_request(subject, payload, timeout=timeout, every=every, headers=headers)
