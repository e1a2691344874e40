"""The viewer's sign-in and rights. Uses Streamlit's OIDC sign-in; on if the secrets have `[auth]`.

The key of a sign-in comes from the claims in its signed cookie, not from the cookie's bytes. So all tabs of a
browser share it, a download can be bound to it, and signing out ends every copy of its cookies.
"""

import hashlib
import json
import logging
import re
import string
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.errors import Error as StreamlitError

from nats_client.errors import NotSignedIn

from .. import launcher
from ..launcher import SignIn, Standing
from ..words import cut, plain
from .assets import static_text
from .streamlit_internals import SESSION_COOKIE, USER_COOKIE, cookie_secret, joined_cookie, signed_value

COOKIE = USER_COOKIE
"""Streamlit's signed cookie with the claims of the ID token. Long claims continue in cookies of this name
plus a number."""
NAMES_IT = ("iss", "sub", "nonce")
"""The claims that identify a sign-in. The nonce is unique to each (OpenID Connect Core 1.0, section
3.1.2.1)."""
ATTEMPTS = SESSION_COOKIE
"""Streamlit's cookie with the state of sign-in attempts, including unfinished ones."""
MOST_OF_ATTEMPTS = 2000
"""Longest accepted length of that cookie, in characters. Browsers drop cookies above 4,096, and the running
attempt with it."""
FIRST_WAIT = 1.5
"""Seconds that a page waits for the provider to confirm a sign-in. Most sign-ins are confirmed by then."""
LOOK_AGAIN = 5.0
"""Seconds between two checks of whether a viewer's rights have changed."""
FAILED = "sign-in-failed"
"""URL parameter after a failed attempt to sign in."""
ENDED = "signed-out"
"""URL parameter of a tab whose sign-in ended in another tab. The cookies may be gone by then."""
SIGNED_OUT = "You have signed out in another tab of this browser."
"""Shown in the other tabs. The tab that signs out goes to the provider and comes back without cookies."""

NO_PAGES = ("/_stcore/", "/lookback/", "/auth/", "/media/", "/component/", "/static/", "/app/")
"""Prefixes of paths that are not pages."""
WANTED = "lookback_wanted"
"""Cookie with the page that the viewer requested before signing in."""
KEPT = 600  # its lifetime in seconds
LONGEST = 2000  # its longest value, in characters

_reloading = st.components.v2.component("lookback_reload", js=static_text("reload.js"))
_MINE = "_sign_in"
_LOCAL = re.compile(r"/(?![/\\])[!-~]*")
"""A path within this app, in ASCII. No browser reads it as another host."""
_PAGE = re.compile(r"/[\w-][\w .-]*/?")
"""A path that a page may have. Some other paths, such as those that are not UTF-8, stop Streamlit's
script."""
_AS_IT_CAME = "".join(set(string.printable) - set(string.whitespace))


def key_of(cookies: Mapping[str, str]) -> str | None:
    """The key of the sign-in that these cookies prove; None if they prove none. Other cookies and their order
    make no difference."""
    secret = cookie_secret()

    def part(name: str) -> bytes | None:
        value = cookies.get(name)
        return None if value is None else signed_value(secret, name, value.encode("latin-1"))

    try:
        claims = json.loads(joined_cookie(part, COOKIE) or b"null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    named = [claims.get(name) for name in NAMES_IT]
    content = json.dumps(named if named[-1] else claims, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def viewer() -> Standing | None:
    """The rights and role of the viewer's sign-in; None if sign-in is off. Raises NotSignedIn if the viewer
    is not signed in or has no rights."""
    if launcher.sign_ins is None:
        return None
    standing = _standing()
    if standing is None or standing.rights is None:
        raise NotSignedIn("You are not signed in. Reload the page and sign in.")
    return standing


def rights() -> str | None:
    """A name for the viewer's rights. It is part of the key of everything that viewers share, so viewers with
    different rights share nothing. "" if sign-in is off; None if the viewer is not signed in or has no
    rights."""
    if launcher.sign_ins is None:
        return ""
    standing = _standing()
    return standing.rights if standing else None


def owner() -> str | None:
    """The key of the viewer's sign-in; None if sign-in is off."""
    found = _mine()
    return found.id if found else None


def holds(key: str, rights: str | None) -> bool:
    """True if the sign-in `key` still has these rights."""
    found = _find(key)
    return found is not None and rights is not None and found.rights == rights


def draw_sign_in_page() -> None:
    """Draw the sign-in page, or why the viewer is refused, in place of everything else."""
    _for_all_addresses(_draw_sign_in)


def draw_reload() -> None:
    """Make the browser reload the page, without the choices in its URL."""
    _for_all_addresses(_reload)


def is_leaving() -> bool:
    """True if the viewer has just signed out here and is being sent to the provider."""
    return not st.user.get("is_logged_in")


def _for_all_addresses(draw: Callable[[], None]) -> None:
    """Draw `draw` at every URL, so that none reveals which pages exist."""
    here = urlsplit(st.context.url or "").path.rpartition("/")[2]
    pages = [st.Page(draw, title="Sign in", url_path="sign in", default=True)]  # no address of a page
    if re.fullmatch(r"[\w-]+", here):
        pages.append(st.Page(draw, title="Sign in", url_path=here))
    st.navigation(pages, position="hidden").run()


def _reload() -> None:
    st.info("Your permissions have changed. Reload this page if it does not reload by itself.")
    standing = _standing()
    ended = standing is not None and standing.why == SIGNED_OUT
    _reloading(key="reload", data=f"?{ENDED}=1" if ended else "")


def _draw_sign_in() -> None:
    sign_ins, mine = launcher.sign_ins, _mine()
    assert sign_ins is not None
    standing = _standing()
    outer = st.container(key="entrance", horizontal_alignment="center")
    with outer, st.container(border=True, width=440, gap="medium"):
        st.title("Lookback")
        if mine is not None and standing is not None and not standing.why:
            _without_role(mine, standing)
        else:
            _sign_in_form(standing)
    if standing is not None and (standing.passing or not standing.why):
        rerun_on_change(None)


def _sign_in_form(standing: Standing | None) -> None:
    why = standing.why if standing else SIGNED_OUT if ENDED in st.query_params else None
    if standing is None or not standing.passing:
        st.markdown("Real-time dashboards. Sign in to see them.")
    if why:
        st.info(plain(why), icon=":material/lock:")
    if FAILED in st.query_params:
        st.error(
            "Sign-in failed: the provider did not answer or refused. Try again, or ask the operator of this "
            "app; its log has the details.",
            icon=":material/error:",
        )
    _sign_in_button()


def draw_viewer() -> None:
    """Draw who is signed in, with which role, and the sign-out button; nothing if sign-in is off."""
    mine = _mine()
    standing = _standing()
    if mine is None or standing is None or standing.role is None:
        return
    with st.container(key="viewer", gap="xsmall"):
        st.markdown(f"**{plain(cut(mine.name, 60))}**")
        st.caption(f"Role: {plain(standing.role.name.replace('_', ' '))}")
        _sign_out_button()


@st.fragment(run_every=LOOK_AGAIN)
def rerun_on_change(drawn_for: str | None) -> None:
    """Rerun the script once the viewer's rights differ from `drawn_for`. For pages that neither refresh by
    themselves nor have the tab's websocket."""
    if rights() != drawn_for:
        st.rerun()


class Middleware:
    """Sends viewers who are not signed in to the sign-in page, and afterwards to the page that they
    requested. Ends a sign-in in all tabs when one tab signs out, and reports failed attempts."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        sign_ins = launcher.sign_ins
        if scope["type"] != "http" or sign_ins is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        root = _root()
        path = str(scope["path"]).removeprefix(root)
        key = key_of(request.cookies)
        if path == "/auth/logout" and key:
            sign_ins.end(key, SIGNED_OUT)
        if path == "/auth/login" and len(request.cookies.get(ATTEMPTS, "")) > MOST_OF_ATTEMPTS:
            scope = _without_attempts(scope, request)
        if path in ("/auth/login", "/oauth2callback"):
            send = _answering(request, root, send)
        elif _is_page(request, path) and not _may_come_in(key):
            ended = ENDED in request.query_params
            response = RedirectResponse(
                f"{root}/" + f"?{ENDED}=1" * ended, 302, {"Cache-Control": "no-store"}
            )
            asked = {**scope, "query_string": b""} if ended else scope
            wanted = quote(_target(asked).removeprefix(root), safe="")
            if len(wanted) <= LONGEST and _PAGE.fullmatch(path):
                response.set_cookie(WANTED, wanted, KEPT, **_guarded(root))
            else:
                response.delete_cookie(WANTED, **_guarded(root))
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _target(scope: Scope) -> str:
    """Path and query as received, in ASCII. Decoded, they would not be valid in a header and might mean a
    different URL."""
    path, query = scope.get("raw_path") or quote(scope["path"]).encode(), scope["query_string"]
    return quote(path + b"?" * bool(query) + query, safe=_AS_IT_CAME)


def _without_attempts(scope: Scope, request: Request) -> Scope:
    """`scope` without the cookie of unfinished sign-in attempts: Authlib keeps all of them."""
    kept = "; ".join(f"{name}={value}" for name, value in request.cookies.items() if name != ATTEMPTS)
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": [*headers, (b"cookie", kept.encode("latin-1"))]}


def _is_page(request: Request, path: str) -> bool:
    """True if a browser requests a page other than the first."""
    ours = path.startswith(NO_PAGES)
    document = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    return document and not ours and path.strip("/") != ""


def _may_come_in(key: str | None) -> bool:
    """True if a page may be requested with this sign-in. An unknown sign-in is checked when the page is
    drawn."""
    known = _find(key) if key else None
    return key is not None and (known is None or known.rights is not None)


def _answering(request: Request, root: str, send: Send) -> Send:
    """`send`, with redirects: after a sign-in to the page that the viewer requested, and after a failed
    attempt back with an error message. Streamlit would reply with bare text, or nothing."""
    came_back = not {"code", "error"}.isdisjoint(request.query_params)
    wanted = unquote(request.cookies.get(WANTED, ""))
    failed = False

    async def answer(message: Message) -> None:
        nonlocal failed
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=list(message["headers"]))
            cookies = headers.getlist("set-cookie")
            signed_in = any(each.startswith(f"{COOKIE}=") and "Max-Age=0" not in each for each in cookies)
            failed = message["status"] == 400 or (came_back and not signed_in)
            if failed:
                headers["location"] = f"{root}/?{FAILED}=1"
                headers["content-length"] = "0"
                message = {**message, "status": 302}
            elif signed_in and wanted:
                if _LOCAL.fullmatch(wanted):
                    headers["location"] = root + wanted
                gone = Response()
                gone.delete_cookie(WANTED, **_guarded(root))
                headers.append("set-cookie", gone.headers["set-cookie"])
            message = {**message, "headers": headers.raw}
        elif failed:
            message = {**message, "body": b""}
        await send(message)

    return answer


def _root() -> str:
    """The prefix of all paths, for an app below a base path."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def _guarded(root: str) -> dict[str, Any]:
    secure = str(st.secrets.get("auth", {}).get("redirect_uri", "")).startswith("https:")
    return {"path": f"{root}/", "httponly": True, "samesite": "lax", "secure": secure}


def _mine() -> SignIn | None:
    """The sign-in of this viewer's browser; None if there is none."""
    if launcher.sign_ins is None:
        return None
    found: SignIn | None = st.session_state.get(_MINE)
    if found is None and st.user.get("is_logged_in"):
        key = key_of(st.context.cookies.to_dict())
        token = st.user.tokens.get("access")
        # Without the access token, the provider cannot confirm that an unknown sign-in is still valid.
        proven = token is not None or not _exposes_token()
        if key is not None and (proven or launcher.sign_ins.find(key)):
            found = launcher.sign_ins.seen(key, _claims, token)
            st.session_state[_MINE] = found
    return found


def _exposes_token() -> bool:
    exposed = st.secrets.get("auth", {}).get("expose_tokens", [])
    return exposed == "access" or "access" in exposed


def _find(key: str) -> Standing | None:
    """The rights and role of the sign-in `key`; None if it is unknown."""
    sign_ins = launcher.sign_ins
    found = sign_ins.find(key) if sign_ins else None
    return sign_ins.standing(found) if sign_ins and found else None


def _claims() -> dict[str, object]:
    return {name: value for name, value in st.user.to_dict().items() if name != "tokens"}


def _standing() -> Standing | None:
    found = _mine()
    return launcher.sign_ins.standing(found) if found and launcher.sign_ins else None


def wait_for_provider() -> None:
    """Wait a moment for the provider to confirm the sign-in, unless it did so recently."""
    if (found := _mine()) is not None and launcher.sign_ins is not None:
        launcher.sign_ins.wait(found, FIRST_WAIT)


def _without_role(mine: SignIn, standing: Standing) -> None:
    st.markdown(
        f"You are signed in as **{plain(cut(mine.name, 60))}**, but none of your groups has a role here."
    )
    if standing.groups:
        names = ", ".join(plain(group) for group in standing.groups[:20])
        st.caption(f"Your groups: {names}{', …' * (len(standing.groups) > 20)}")
    else:
        st.caption("Your sign-in provider sent no groups.")
    st.caption("Ask the operator of this app for a role. This page continues by itself once you have one.")
    _sign_out_button()


def _sign_in_button() -> None:
    if st.button("Sign in", key="sign in", type="primary", icon=":material/login:", width="stretch"):
        for word in (FAILED, ENDED):
            st.query_params.pop(word, None)
        try:
            st.login()
        except StreamlitError as error:
            logging.getLogger("lookback").error("The section [auth] of the secrets: %s", error)
            st.error(
                "Sign-in is not fully configured. The app's log says what is missing.",
                icon=":material/error:",
            )


def _sign_out_button() -> None:
    st.button("Sign out", key="sign out", icon=":material/logout:", on_click=_sign_out)


def _sign_out() -> None:
    if (found := _mine()) is not None and launcher.sign_ins is not None:
        launcher.sign_ins.end(found.id, SIGNED_OUT)
    st.logout()
