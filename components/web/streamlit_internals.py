"""All undocumented parts of Streamlit and uvicorn that Lookback uses.

Each name is compared with the installed version when this module is loaded. Names that decide who may see
which data, or how a page ends, are needed: without them the app does not start. Names for speed or comfort
are optional: without them the app continues, and logs a warning once. Loading this module changes nothing in
Streamlit.
"""

import inspect
import logging
import zlib
from collections.abc import Callable
from functools import partial, reduce
from importlib import import_module
from typing import Any, Protocol

import streamlit as st

from nats_client.errors import LookbackError
from nats_client.signatures import names_in, written

_log = logging.getLogger("lookback")


def _found(module: str, wanted: str) -> tuple[Any, str | None]:
    """The value of `wanted` ("Class.attribute" or "function(parameter, …)") in `module`, and a text that says
    what is wrong with it, or None. The value of an attribute that only instances have is None."""
    path, parenthesis, parameters = wanted.partition("(")
    names = path.split(".")
    try:
        owner = reduce(getattr, names[:-1], import_module(module))
    except (ImportError, AttributeError):
        return None, f"it has no {module}.{path}"
    found: Any = getattr(owner, names[-1], None)
    if not hasattr(owner, names[-1]) and not (inspect.isclass(owner) and _holds(owner, names[-1])):
        return None, f"it has no {module}.{path}"
    if parenthesis and not inspect.isroutine(found):
        return None, f"{module}.{path} is not a function"
    if parenthesis and written(found) != f"{names[-1]}({parameters}":
        return None, f"{module}.{path} is '{written(found)}', expected '{names[-1]}({parameters}'"
    return found, None


def _holds(owner: type, name: str) -> bool:
    return any(name in names_in(each) or name in inspect.get_annotations(each) for each in owner.mro())


def _needed(module: str, wanted: str) -> Any:
    """The value of `wanted` in `module`. Raises LookbackError if it is missing or differs from `wanted`."""
    found, wrong = _found(module, wanted)
    if wrong:
        raise LookbackError(
            f"The installed Streamlit is not supported: {wrong}. The app does not start. Install the "
            "version in requirements.txt."
        )
    return found


def _missed(consequence: str, *wanted: tuple[str, str]) -> list[Any] | None:
    """The values of these names. If one is missing or differs, returns None and logs a warning."""
    found = [_found(*each) for each in wanted]
    wrong = [reason for _, reason in found if reason]
    if wrong:
        _log.warning(
            "The installed Streamlit or uvicorn is not supported: %s. As a result, %s. Install the "
            "versions in requirements.txt.",
            ", ".join(wrong),
            consequence,
        )
    return None if wrong else [value for value, _ in found]


def _missed_setting(consequence: str, name: str) -> None:
    """Log a warning if Streamlit does not have a setting of .streamlit/config.toml."""
    try:
        st.get_option(name)
    except RuntimeError:
        _log.warning(
            "The installed Streamlit is not supported: it has no setting %s. As a result, %s. Install "
            "the version in requirements.txt.",
            name,
            consequence,
        )


_COOKIES = "streamlit.web.server.starlette.starlette_server_config"
_CONTEXT = "streamlit.runtime.scriptrunner_utils.script_run_context"
_PAGES = "streamlit.runtime.pages_manager"
_RUN = ("streamlit.runtime.scriptrunner", "get_script_run_ctx(suppress_warning=False)")

# The next names decide which sign-in a browser's cookies prove.
joined_cookie = _needed("streamlit.auth_util", "get_cookie_with_chunks(get_single_cookie_fn, cookie_name)")
cookie_secret = _needed("streamlit.web.server.server_util", "get_cookie_secret()")
signed_value = _needed(
    "streamlit.web.server.starlette.starlette_app_utils",
    "decode_signed_value(secret, name, value, max_age_days=31.0)",
)
USER_COOKIE: str = _needed(_COOKIES, "USER_COOKIE_NAME")
# The cookie of sign-in attempts, which is dropped if it becomes too long
SESSION_COOKIE: str = _needed(_COOKIES, "SESSION_COOKIE_NAME")
# The only cookie that scripts may read
XSRF_COOKIE: str = _needed(_COOKIES, "XSRF_COOKIE_NAME")
StopException: type[BaseException] = _needed("streamlit.runtime.scriptrunner", "StopException")
"""Ends a page, but not the frame around it. The class is Streamlit's own, so it survives a reload of our
code."""

_paging = _missed(
    "pages are found by their exact name only",
    _RUN,
    (_CONTEXT, "ScriptRunContext.pages_manager"),
    (_PAGES, "PagesManager.intended_page_name"),
    (_PAGES, "PagesManager.intended_page_script_hash"),
    (_PAGES, "PagesManager.set_script_intent(self, page_script_hash, page_name)"),
)
_going_back = _missed(
    "a choice may outlive the browser's back button",
    _RUN,
    (_CONTEXT, "ScriptRunContext.is_history_navigation"),
)
_theming = _missed(
    "a refresh costs a sixth more",
    ("streamlit.runtime.app_session", "_populate_theme_msg(msg, section='theme')"),
    ("streamlit.config", "on_config_parsed(func, force_connect=False, lock=False)"),
)
_serving = _missed(
    "browsers may not connect to the embedded server's websocket", ("streamlit.config", "_server_mode")
)
_main = _missed(
    "st.plotly_chart draws what the content security policy cuts short, unless it is called in a container",
    ("streamlit", "_main"),
)
_counting = _missed(
    "bytes on the wire are not counted, and each websocket takes 40 KB more",
    ("uvicorn.protocols.websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol.conn"),
    ("websockets.protocol", "Protocol.data_to_send(self)"),
)
_writing = _missed(
    "a live viewer costs twice as much",
    ("uvicorn.protocols.websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol.transport"),
    ("uvicorn.protocols.websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol.close_sent"),
)
_DEFLATE = "websockets.extensions.permessage_deflate"
_compressing = _missed(
    "each websocket takes 40 KB more",
    ("websockets.protocol", "Protocol.extensions"),
    (_DEFLATE, "PerMessageDeflate.encoder"),
    (_DEFLATE, "PerMessageDeflate.local_no_context_takeover"),
    (_DEFLATE, "PerMessageDeflate.local_max_window_bits"),
    (_DEFLATE, "PerMessageDeflate.compress_settings"),
    (_DEFLATE, "PerMessageDeflate.encode(self, frame)"),
)
_stacking = _missed(
    "the first viewers after a start may see an error",
    ("streamlit.delta_generator_singletons", "ContextVarWithLazyDefault.get(self)"),
    ("streamlit.delta_generator_singletons", "context_dg_stack"),
)
_missed_setting(
    "a page may stop where a browser has dropped what it is sent a hash of", "global.minCachedMessageSize"
)


def make_container_stack() -> None:
    """Create the variable in which Streamlit keeps the current container of each thread. Streamlit creates it
    at its first use, without a lock, so one of two simultaneous first viewers would lose the container."""
    if _stacking:
        _stacking[1].get()


def asked_page() -> str | None:
    """The page name in the URL if Streamlit does not know it, else None."""
    pages = _pages()
    return None if pages is None or pages.intended_page_script_hash else pages.intended_page_name or None


def open_page_url(page: str) -> None:
    """Make the URL open the page of that name, "" for the first one."""
    if (pages := _pages()) is not None:
        pages.set_script_intent("", page)


def _pages() -> Any:
    run = _paging[0]() if _paging else None
    return run.pages_manager if run is not None else None


def has_gone_back() -> bool:
    """True if the browser's back or forward button caused this rerun."""
    run = _going_back[0]() if _going_back else None
    return run is not None and bool(run.is_history_navigation)


def is_started_by_streamlit() -> bool:
    """True if `streamlit run` started the web server. Streamlit's settings then have its port."""
    return bool(_serving) and st.config._server_mode in ("starlette-app", "starlette-app-direct")


def replace_theme(
    made: Callable[[Callable[..., None]], Callable[..., None]], read: Callable[[], None]
) -> None:
    """Replace Streamlit's function that fills a section of the theme by the result of `made` for it, for all
    viewers. Calls `read` whenever Streamlit has re-read its settings. Only the launcher may do this."""
    if _theming:
        from streamlit import config
        from streamlit.runtime import app_session

        app_session._populate_theme_msg = made(app_session._populate_theme_msg)
        config.on_config_parsed(read, force_connect=True)


def replace_main(name: str) -> None:
    """Replace `st.<name>` by the current method of that name of all containers. Only calls.py may do this,
    once."""
    if _main:
        setattr(st, name, getattr(st._main, name))


def on_sent(send: object, sent: Callable[[int], None]) -> bool:
    """Call `sent` with the number of bytes each time uvicorn takes output from the websocket that `send`
    belongs to. False if that is not possible."""
    # If uvicorn uses another class for websockets than the one checked above, there is no `conn`.
    connection: Any = getattr(getattr(send, "__self__", None), "conn", None) if _counting else None
    take: Callable[[], list[bytes]] | None = getattr(connection, "data_to_send", None)
    if take is None:
        return False

    def counted() -> list[bytes]:
        parts = take()
        sent(sum(map(len, parts)))
        return parts

    connection.data_to_send = counted
    return True


def replace_compressor(send: object, made: Callable[[Callable[[], Any]], object]) -> None:
    """Replace the compressor of the websocket that `send` belongs to, if it has one. `made` gets a function
    that creates a compressor with the settings that browser and server have agreed on."""
    known = _counting and _compressing
    connection: Any = getattr(getattr(send, "__self__", None), "conn", None) if known else None
    for extension in getattr(connection, "extensions", ()):
        if hasattr(extension, "encoder") and not extension.local_no_context_takeover:
            bits, settings = extension.local_max_window_bits, extension.compress_settings
            extension.encoder = made(partial(zlib.compressobj, wbits=-bits, **settings))


class Carried(Protocol):
    """The traffic counters of a websocket; see traffic.py."""

    messages: int
    plain: int
    wire: int | None


def direct(send: object, carried: Carried) -> Callable[[bytes], None] | None:
    """A function that writes one binary message, uncompressed, straight to the transport of the websocket
    that `send` belongs to, and adds it to `carried`. It raises RuntimeError once the websocket is closed.
    None if that is not possible."""
    protocol: Any = getattr(send, "__self__", None) if _writing else None
    if getattr(protocol, "transport", None) is None or not hasattr(protocol, "close_sent"):
        return None
    transport = protocol.transport

    def write(message: bytes) -> None:
        if protocol.close_sent or transport.is_closing():
            raise RuntimeError("the websocket is closed")
        size = len(message)
        if size < 126:
            head = _HEADS[size]
        elif size < 65536:
            head = b"\x82\x7e" + size.to_bytes(2, "big")
        else:
            head = b"\x82\x7f" + size.to_bytes(8, "big")
        transport.write(head + message)
        carried.messages += 1
        carried.plain += size
        if carried.wire is not None:
            carried.wire += len(head) + size

    return write


_HEADS = [bytes((0x82, size)) for size in range(126)]
"""The frame headers of short binary messages, by size."""
