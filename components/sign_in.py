"""Who looks at this page, and with which rights: Streamlit's sign-in (OIDC), on with `[auth]` in the secrets.

A sign-in is named by the cookies that prove it, so all tabs of a browser share it, a download can be told to
belong to it, and a copy of its cookies ends with it.
"""

import hashlib
import logging
from collections.abc import Mapping
from urllib.parse import parse_qs

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.errors import Error as StreamlitError

from nats_client.errors import NotSignedIn

from . import handed
from .handed import SignIn, Standing
from .words import plain

COOKIE = "_streamlit_user"
"""Streamlit's signed cookie with the claims of the ID token; further parts of it, and the tokens, stand in
cookies whose names begin with it."""
FIRST_LOOK = 1.5
"""Seconds that a page waits for the provider's word on a sign-in: most are there by then."""
LOOK_AGAIN = 5.0
"""Seconds between two looks at whether a viewer may come in after all, or has to go."""
FAILED = "sign-in-failed"
"""In the address after an attempt that came to nothing."""

_MINE = "_sign_in"


def key_of(cookies: Mapping[str, str]) -> str | None:
    """What names the sign-in that these cookies prove, None without one."""
    parts = sorted((name, value) for name, value in cookies.items() if name.startswith(COOKIE))
    if COOKIE not in cookies:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def viewer() -> Standing | None:
    """What the viewer's sign-in is good for; None where nobody has to sign in. Raises NotSignedIn for who is
    not let in."""
    if handed.sign_ins is None:
        return None
    standing = _standing()
    if standing is None or standing.rights is None:
        raise NotSignedIn("Nobody is signed in here, or not any more. Reload the page and sign in.")
    return standing


def rights() -> str | None:
    """What the viewer may share with others is kept by this, since with other rights they share nothing: ""
    for everybody where nobody has to sign in, None for who is not let in."""
    if handed.sign_ins is None:
        return ""
    standing = _standing()
    return standing.rights if standing else None


def owner() -> str | None:
    """What names the viewer's sign-in; None where nobody has to sign in."""
    found = _mine()
    return found.id if found else None


def holds(key: str, rights: str | None) -> bool:
    """Whether the sign-in `key` still has these rights."""
    sign_ins = handed.sign_ins
    found = sign_ins.find(key) if sign_ins else None
    return (
        sign_ins is not None
        and found is not None
        and rights is not None
        and sign_ins.standing(found).rights == rights
    )


def draw_entrance() -> None:
    """Draw what stands in the place of everything for who is not let in: the way in, or why there is none."""
    sign_ins, mine = handed.sign_ins, _mine()
    assert sign_ins is not None
    standing = _standing()
    outer = st.container(key="entrance", horizontal_alignment="center")
    with outer, st.container(border=True, width=440, gap="medium"):
        st.title("Lookback")
        if mine is None or standing is None:
            st.markdown("Real-time dashboards. Sign in to see them.")
            if FAILED in st.query_params:
                st.error(
                    "That did not work: the sign-in provider did not answer, or refused. Try again, or ask "
                    "who runs this app; its log says more.",
                    icon=":material/error:",
                )
            _sign_in_button()
        elif standing.why:
            st.info(plain(standing.why), icon=":material/lock:")
            _sign_in_button()
        else:
            _without_role(mine, standing)
    if standing is not None and (standing.passing or not standing.why):
        look_again(None)


def draw_viewer() -> None:
    """Draw who is signed in, with which role, and the way out; nothing where nobody has to sign in."""
    mine = _mine()
    standing = _standing()
    if mine is None or standing is None or standing.role is None:
        return
    with st.container(key="viewer", gap="small"):
        st.markdown(f"**{plain(mine.name)}**  \n{plain(standing.role.name.replace('_', ' '))}")
        _sign_out_button()


@st.fragment(run_every=LOOK_AGAIN)
def look_again(drawn_for: str | None) -> None:
    """Draw all anew as soon as the viewer has other rights than those that this was drawn for: for what does
    not refresh by itself."""
    if rights() != drawn_for:
        st.rerun()


class Middleware:
    """Ends a sign-in in all tabs when one of them signs out, and tells of an attempt that failed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        path = scope["path"] if scope["type"] == "http" and handed.sign_ins is not None else ""
        if path.endswith("/auth/logout"):
            if key := key_of(_cookies(scope)):
                handed.sign_ins.end(key)  # type: ignore[union-attr]
        elif path.endswith(("/auth/login", "/oauth2callback")):
            send = _telling(scope, send)
        await self._app(scope, receive, send)


def _telling(scope: Scope, send: Send) -> Send:
    """`send`, which leads back to the app with a word when an attempt to sign in comes to nothing: Streamlit
    answers with a bare text then, or says nothing."""
    root = scope["path"].removesuffix("/auth/login").removesuffix("/oauth2callback")
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    failed = False

    async def told(message: Message) -> None:
        nonlocal failed
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            cookies = headers.getlist("set-cookie")
            signed_in = any(each.startswith(f"{COOKIE}=") and "Max-Age=0" not in each for each in cookies)
            came_back = "code" in asked or "error" in asked
            failed = message["status"] == 400 or (came_back and not signed_in)
            if failed:
                message = {**message, "status": 302}
                headers["location"] = f"{root}/?{FAILED}=1"
                headers["content-length"] = "0"
                message["headers"] = headers.raw
        elif failed:
            message = {**message, "body": b""}
        await send(message)

    return told


def _cookies(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        if name == b"cookie":
            found |= cookie_parser(value.decode("latin-1"))
    return found


def _mine() -> SignIn | None:
    """The sign-in of this viewer's browser, None without one."""
    if handed.sign_ins is None:
        return None
    found: SignIn | None = st.session_state.get(_MINE)
    if found is None and st.user.get("is_logged_in"):
        key = key_of(st.context.cookies.to_dict())
        if key is not None:
            token = st.user.tokens.get("access")
            found = handed.sign_ins.seen(key, _claims, token)
            st.session_state[_MINE] = found
    return found


def _claims() -> dict[str, object]:
    return {name: value for name, value in st.user.to_dict().items() if name != "tokens"}


def _standing() -> Standing | None:
    found = _mine()
    return handed.sign_ins.standing(found) if found and handed.sign_ins else None


def wait_for_provider() -> None:
    """Wait a moment for the provider's word, where it has not been heard lately."""
    if (found := _mine()) is not None and handed.sign_ins is not None:
        handed.sign_ins.wait(found, FIRST_LOOK)


def _without_role(mine: SignIn, standing: Standing) -> None:
    st.markdown(f"You are signed in as **{plain(mine.name)}**, and no role here is for you.")
    if standing.groups:
        names = ", ".join(plain(group) for group in standing.groups[:20])
        st.caption(f"Your groups: {names}{', …' * (len(standing.groups) > 20)}. None of them has a role.")
    else:
        st.caption("The sign-in names no groups.")
    st.caption("Ask who runs this app for a role. This page goes on by itself when you have one.")
    _sign_out_button()


def _sign_in_button() -> None:
    if st.button("Sign in", key="sign in", type="primary", icon=":material/login:", width="stretch"):
        st.query_params.pop(FAILED, None)
        try:
            st.login()
        except StreamlitError as error:
            logging.getLogger("lookback").error("The section [auth] of the secrets: %s", error)
            st.error(
                "The sign-in is not set up completely. The app's log says what is missing.",
                icon=":material/error:",
            )


def _sign_out_button() -> None:
    st.button("Sign out", key="sign out", icon=":material/logout:", on_click=_sign_out)


def _sign_out() -> None:
    if (found := _mine()) is not None and handed.sign_ins is not None:
        handed.sign_ins.end(found.id)
    st.logout()
