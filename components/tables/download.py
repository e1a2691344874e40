"""Download links that keep working while the page around them refreshes.

Streamlit's own download button gets a new URL at every refresh and drops the old one when any viewer's page
runs. With many viewers, a click or the file behind it is lost. Links made here stay valid as long as a
viewer's session shows them. With sign-in on, a link works only for the sign-in it was shown to, and only
while that has the same rights.
"""

import contextlib
import io
import re
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol, cast
from urllib.parse import quote

import pandas as pd
import streamlit as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from nats_client import Client, LookbackError
from nats_client.errors import ClosedError, MessageNotFound, NotSignedIn

from ..data.live import Readable, View
from ..launcher import load_components
from ..nats.history import Answer
from ..web.assets import PREFIX
from ..web.sign_in import holds, key_of, owner, rights

MOST = 10_000
"""Links to keep. The link that no page has shown for the longest time is dropped first."""
AT_ONCE = 50_000
"""Rows of a CSV or NDJSON file written at a time."""
KINDS = {"csv": "CSV", "parquet": "Parquet", "ndjson": "NDJSON"}
"""File endings, and the texts of their links."""
_UNSEEN = (
    r"\x00-\x20\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680\u17b4\u17b5"
    r"\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Spaces, control and format characters, and other characters without a glyph. A spreadsheet drops some of
them."""
_SIGNS = (
    r"=+\-@|%\u2212\u207a-\u207c\u208a-\u208c\u2a75\u2a76\ufb29\ufe62\ufe63\ufe66\ufe6a\ufe6b"
    r"\uff05\uff0b\uff0d\uff1d\uff20\uff5c"
)
"""The characters that a formula may begin with, in every width (Unicode NFKC maps them to the same one)."""
_FORMULA = re.compile(f"[\\t-\\r]|[{_UNSEEN}]*[{_SIGNS}]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class StoredPayload:
    """The payload of one message of a stream, read when the link is clicked."""

    nats: Client
    stream: str
    seq: int
    stored: int
    """When the server stored the message, ns since the epoch, UTC. After the stream is recreated, another
    message may have the same sequence."""

    def content(self) -> bytes:
        """The payload. Raises MessageNotFound, LookbackError."""
        message = self.nats.stored_message(self.stream, self.seq)
        if message.stored != self.stored:
            raise MessageNotFound("The stream was recreated, and this message is not in it any more.")
        return message.payload


class Framed(Protocol):
    """Something that can be exported as a table."""

    def frame(self) -> pd.DataFrame:
        """The rows. Raises LookbackError."""


@dataclass(frozen=True, eq=False)
class Offer:
    """The content of a download link, as of the click: the rows of a feed within `look_back` (ns), a table
    such as a query's, or a payload."""

    rows: Readable | Framed | StoredPayload
    look_back: int
    """The look-back in ns for the rows of a feed; 0 for anything else."""
    owner: str | None
    """The sign-in that the link is for; None if sign-in is off."""
    rights: str | None

    def frame(self) -> pd.DataFrame:
        """The rows. Raises ClosedError, LookbackError."""
        if not self.look_back:
            return cast(Framed, self.rows).frame()
        feed = cast(Readable, self.rows)
        return feed.snapshot().since(feed.now() - self.look_back).frame()


_offers: OrderedDict[str, Offer] = OrderedDict()


def downloads(rows: View | Answer | Framed, name: str, *, label: str = "Download") -> None:
    """Draw links to all of `rows` as files, after `label`: CSV and NDJSON (times in ISO 8601, UTC), and
    Parquet. The file is made when the link is clicked, from the rows at that moment. In CSV, text that a
    spreadsheet would read as a formula is prefixed with an apostrophe; NDJSON and Parquet are exact."""
    mine: dict[object, str] = st.session_state.setdefault("_downloads", {})
    key: tuple[object, ...] = (name,)
    if isinstance(rows, View):
        new = Offer(rows.feed, rows.look_back.value, owner(), rights())
        key = (rows.feed.name_key, rows.look_back, name)
        label = label if rows.loaded is None else f"{label} {rows.span}:"
    else:
        of = rows.query if isinstance(rows, Answer) else rows
        new = Offer(of, 0, owner(), rights())
    token = mine.setdefault(key, secrets.token_urlsafe(24))
    _offer(token, new)
    safe = _file_name(name)
    links = (
        f'<a href="{PREFIX}/rows/{token}/{quote(safe)}.{kind}" download="{escape(safe)}.{kind}">{named}</a>'
        for kind, named in KINDS.items()
    )
    st.html(f'<div class="lb-downloads">{escape(label)} {"".join(links)}</div>')


def payload_link(nats: Client, stream: str, seq: int, stored: int) -> str:
    """The URL, relative to the app's root, at which this viewer can download the raw payload of a message. A
    session has one such link at a time: a link to another message replaces it."""
    mine: dict[object, str] = st.session_state.setdefault("_downloads", {})
    rows = StoredPayload(nats, stream, seq, stored)
    token = mine.get("payload", "")
    if (offer := _offers.get(token)) is None or offer.rows != rows:
        _offers.pop(token, None)
        token = mine["payload"] = secrets.token_urlsafe(24)
    _offer(token, Offer(rows, 0, owner(), rights()))
    return f"{PREFIX}/rows/{token}/{quote(_file_name(f'{stream}-{seq}'))}.bin"


def _offer(token: str, new: Offer) -> None:
    offer = _offers.get(token)
    if offer is None or (offer.rows is not new.rows and offer.rows != new.rows):
        _offers[token] = new
    with contextlib.suppress(KeyError):  # another viewer's refresh may have dropped it
        _offers.move_to_end(token)
        while len(_offers) > MOST:
            _offers.popitem(last=False)


def _file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def withdraw() -> None:
    """Drop the links of the viewer's session."""
    mine: dict[object, str] = st.session_state.pop("_downloads", {})
    for token in mine.values():
        _offers.pop(token, None)


def find(token: str, cookies: Mapping[str, str]) -> Offer | None:
    """The offer behind a link, for the browser with these cookies. Raises NotSignedIn if the link was for
    this browser but its sign-in has ended or changed rights."""
    offer = _offers.get(token)
    if offer is None or offer.owner is None:
        return offer
    if offer.owner != key_of(cookies):
        return None
    if not holds(offer.owner, offer.rights):
        raise NotSignedIn("You have signed out or have another role now. Reload the page.")
    return offer


def _csv(frame: pd.DataFrame) -> Iterator[str]:
    for start in range(0, max(1, len(frame)), AT_ONCE):
        part = _defused(frame.iloc[start : start + AT_ONCE])
        named = frame.index.name is not None
        # Line ends as in RFC 4180. With a line feed alone, pandas would not quote a carriage return in a
        # text, and the rest of the text would start a new line.
        yield part.to_csv(
            date_format="%Y-%m-%dT%H:%M:%S.%fZ", header=not start, index=named, lineterminator="\r\n"
        )


def _ndjson(frame: pd.DataFrame) -> Iterator[str]:
    table = frame.reset_index() if frame.index.name is not None else frame
    for start in range(0, len(table), AT_ONCE):
        part = table.iloc[start : start + AT_ONCE]
        yield part.to_json(
            orient="records",
            lines=True,
            date_format="iso",
            date_unit="ns",
            double_precision=15,
            force_ascii=False,
        )


def _defused(part: pd.DataFrame) -> pd.DataFrame:
    """`part` with an apostrophe before each text that a spreadsheet would read as a formula, also in the
    index and in column names. Rule: https://owasp.org/www-community/attacks/CSV_Injection"""
    defused = part.copy(deep=False)
    for i, (_, column) in enumerate(part.items()):
        if not _may_be_text(kind := column.dtype):
            continue
        texts = column.cat.categories if isinstance(kind, pd.CategoricalDtype) else column
        if any(isinstance(text, str) and _is_formula(text) for text in texts):
            defused.isetitem(i, column.map(_defused_text, na_action="ignore").array)
    defused.columns = [_defused_text(name) for name in part.columns]
    if _may_be_text(part.index.dtype):
        defused.index = part.index.map(_defused_text)
    return defused.rename_axis(index=_defused_text(part.index.name))


def _may_be_text(kind: Any) -> bool:
    return not (pd.api.types.is_numeric_dtype(kind) or pd.api.types.is_datetime64_any_dtype(kind))


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def _defused_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _is_formula(value) else value


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def _serve(request: Request) -> Response:
    load_components()
    from .download import find  # imported here because this module may have been reloaded

    file = request.path_params["file"]
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file)}",
        "X-Content-Type-Options": "nosniff",
    }
    kind = file.rpartition(".")[2]
    try:
        offer = find(request.path_params["token"], request.cookies)
        payload = offer is not None and type(offer.rows).__name__ == StoredPayload.__name__
        if offer is None or kind not in (("bin",) if payload else KINDS):
            return PlainTextResponse("No such file. Reload the page that links to it.\n", 404)
        if payload:
            return Response(
                cast(StoredPayload, offer.rows).content(),
                headers=headers,
                media_type="application/octet-stream",
            )
        frame = offer.frame()
    except NotSignedIn as error:
        return PlainTextResponse(f"{error}\n", 403)
    except ClosedError:
        return PlainTextResponse("These rows are no longer held. Reload the page that links to them.\n", 410)
    except MessageNotFound as error:
        return PlainTextResponse(f"{error}\n", 410)
    except LookbackError as error:
        return PlainTextResponse(f"{error}\n", 502)
    if kind == "csv":
        return StreamingResponse(_csv(frame), headers=headers, media_type="text/csv")
    if kind == "ndjson":
        return StreamingResponse(_ndjson(frame), headers=headers, media_type="application/x-ndjson")
    return Response(_parquet(frame), headers=headers, media_type="application/vnd.apache.parquet")


# The second route is for an app below a base path (server.baseUrlPath).
routes: list[BaseRoute] = [
    Route(f"/{PREFIX}/rows/{{token}}/{{file}}", _serve),
    Route(f"/{{base:path}}/{PREFIX}/rows/{{token}}/{{file}}", _serve),
]
