"""Who looks at this page, and with which rights: Streamlit's sign-in (OIDC), on with `[auth]` in the secrets.

A sign-in is named by what its signed cookie says, and not by the bytes of the cookies, so all tabs of a
browser share it, a download can be told to belong to it, and every copy of its cookies ends with it.
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
from .streamlit_internals import SESSION_COOKIE, USER_COOKIE, cookie_secret, joined_cookie, signed_value

COOKIE = USER_COOKIE
"""Streamlit's signed cookie with the claims of the ID token; where they are long, further parts stand in
cookies of this name and a number."""
NAMES_IT = ("iss", "sub", "nonce")
"""The claims that name a sign-in: the nonce is made for each (OpenID Connect Core 1.0, section 3.1.2.1)."""
ATTEMPTS = SESSION_COOKIE
"""Streamlit's cookie with the state of attempts to sign in, also of those that nobody finished."""
MOST_OF_ATTEMPTS = 2000
"""Characters of it. Browsers drop a cookie of more than 4,096, and with it the attempt that is under way."""
FIRST_LOOK = 1.5
"""Seconds that a page waits for the provider's word on a sign-in: most are there by then."""
LOOK_AGAIN = 5.0
"""Seconds between two looks at whether a viewer may come in after all, or has to go."""
FAILED = "sign-in-failed"
"""In the address after an attempt that came to nothing."""
ENDED = "signed-out"
"""In the address of a tab whose sign-in was ended in another one, whose cookies may say nothing any more."""
SIGNED_OUT = "You have signed out in another tab of this browser."
"""For the other tabs: the one where it was done leaves for the provider, and comes back without cookies."""

NO_PAGES = ("/_stcore/", "/lookback/", "/auth/", "/media/", "/component/", "/static/", "/app/")
"""What other addresses begin with."""
WANTED = "lookback_wanted"
"""The cookie with the page that a viewer asked for before the sign-in."""
KEPT = 600  # seconds that it is kept
LONGEST = 2000  # characters of it

_reloading = st.components.v2.component(
    "lookback_reload", js="export default ({ data }) => {\n  location.replace(location.pathname + data)\n}"
)
_MINE = "_sign_in"
_LOCAL = re.compile(r"/(?![/\\])[!-~]*")
"""A path of this app, as it travels: no browser takes it for another host's."""
_PAGE = re.compile(r"/[\w-][\w .-]*/?")
"""A path that a page may have. On some others, as where it is not UTF-8, Streamlit's own script stops."""
_AS_IT_CAME = "".join(set(string.printable) - set(string.whitespace))


def key_of(cookies: Mapping[str, str]) -> str | None:
    """What names the sign-in that these cookies prove, None without one: the same whatever else a browser
    sends, in whatever order."""
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
    """What the viewer's sign-in is good for; None where nobody has to sign in. Raises NotSignedIn for who is
    not let in."""
    if launcher.sign_ins is None:
        return None
    standing = _standing()
    if standing is None or standing.rights is None:
        raise NotSignedIn("Nobody is signed in here, or not any more. Reload the page and sign in.")
    return standing


def rights() -> str | None:
    """What the viewer may share with others is kept by this, since with other rights they share nothing: ""
    for everybody where nobody has to sign in, None for who is not let in."""
    if launcher.sign_ins is None:
        return ""
    standing = _standing()
    return standing.rights if standing else None


def owner() -> str | None:
    """What names the viewer's sign-in; None where nobody has to sign in."""
    found = _mine()
    return found.id if found else None


def holds(key: str, rights: str | None) -> bool:
    """Whether the sign-in `key` still has these rights."""
    found = _find(key)
    return found is not None and rights is not None and found.rights == rights


def draw_entrance() -> None:
    """Draw what stands in the place of everything for who is not let in: the way in, or why there is none."""
    _for_all_addresses(_entrance)


def draw_reload() -> None:
    """Have the browser load the page anew, without the choices in its address."""
    _for_all_addresses(_reload)


def is_leaving() -> bool:
    """Whether the viewer has just signed out here, and is on the way to the provider."""
    return not st.user.get("is_logged_in")


def _for_all_addresses(draw: Callable[[], None]) -> None:
    """Let any address lead to `draw`, so that none tells which pages there are."""
    here = urlsplit(st.context.url or "").path.rpartition("/")[2]
    pages = [st.Page(draw, title="Sign in", url_path="sign in", default=True)]  # no address of a page
    if re.fullmatch(r"[\w-]+", here):
        pages.append(st.Page(draw, title="Sign in", url_path=here))
    st.navigation(pages, position="hidden").run()


def _reload() -> None:
    st.info("Your rights here have changed. Reload this page if it does not do so by itself.")
    standing = _standing()
    ended = standing is not None and standing.why == SIGNED_OUT
    _reloading(key="reload", data=f"?{ENDED}=1" if ended else "")


def _entrance() -> None:
    sign_ins, mine = launcher.sign_ins, _mine()
    assert sign_ins is not None
    standing = _standing()
    outer = st.container(key="entrance", horizontal_alignment="center")
    with outer, st.container(border=True, width=440, gap="medium"):
        st.title("Lookback")
        if mine is not None and standing is not None and not standing.why:
            _without_role(mine, standing)
        else:
            _way_in(standing)
    if standing is not None and (standing.passing or not standing.why):
        look_again(None)


def _way_in(standing: Standing | None) -> None:
    why = standing.why if standing else SIGNED_OUT if ENDED in st.query_params else None
    if standing is None or not standing.passing:
        st.markdown("Real-time dashboards. Sign in to see them.")
    if why:
        st.info(plain(why), icon=":material/lock:")
    if FAILED in st.query_params:
        st.error(
            "That did not work: the sign-in provider did not answer, or refused. Try again, or ask "
            "who runs this app; its log says more.",
            icon=":material/error:",
        )
    _sign_in_button()


def draw_viewer() -> None:
    """Draw who is signed in, with which role, and the way out; nothing where nobody has to sign in."""
    mine = _mine()
    standing = _standing()
    if mine is None or standing is None or standing.role is None:
        return
    with st.container(key="viewer", gap="xsmall"):
        st.markdown(f"**{plain(cut(mine.name, 60))}**")
        st.caption(f"Role: {plain(standing.role.name.replace('_', ' '))}")
        _sign_out_button()


@st.fragment(run_every=LOOK_AGAIN)
def look_again(drawn_for: str | None) -> None:
    """Draw all anew as soon as the viewer has other rights than those that this was drawn for: for what does
    not refresh by itself."""
    if rights() != drawn_for:
        st.rerun()


class Middleware:
    """Brings who is not signed in to the entrance, and afterwards to the page that was asked for; ends a
    sign-in in all tabs when one of them signs out; and tells of an attempt that failed."""

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
    """Path and query as they came, in ASCII: decoded, they would be neither a header nor the same address."""
    path, query = scope.get("raw_path") or quote(scope["path"]).encode(), scope["query_string"]
    return quote(path + b"?" * bool(query) + query, safe=_AS_IT_CAME)


def _without_attempts(scope: Scope, request: Request) -> Scope:
    """`scope` without the attempts to sign in that nobody has finished: Authlib keeps them all."""
    kept = "; ".join(f"{name}={value}" for name, value in request.cookies.items() if name != ATTEMPTS)
    headers = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": [*headers, (b"cookie", kept.encode("latin-1"))]}


def _is_page(request: Request, path: str) -> bool:
    """Whether a browser asks for one of the pages, other than the first."""
    ours = path.startswith(NO_PAGES)
    document = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    return document and not ours and path.strip("/") != ""


def _may_come_in(key: str | None) -> bool:
    """Whether a page is worth asking for; one that is not known yet is asked about when it is drawn."""
    known = _find(key) if key else None
    return key is not None and (known is None or known.rights is not None)


def _answering(request: Request, root: str, send: Send) -> Send:
    """`send`, which leads on to where the viewer wanted to, and back with a word when an attempt to sign in
    comes to nothing: Streamlit answers with a bare text then, or says nothing."""
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
    """What stands in front of all paths, for an app below a base path."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def _guarded(root: str) -> dict[str, Any]:
    secure = str(st.secrets.get("auth", {}).get("redirect_uri", "")).startswith("https:")
    return {"path": f"{root}/", "httponly": True, "samesite": "lax", "secure": secure}


def _mine() -> SignIn | None:
    """The sign-in of this viewer's browser, None without one."""
    if launcher.sign_ins is None:
        return None
    found: SignIn | None = st.session_state.get(_MINE)
    if found is None and st.user.get("is_logged_in"):
        key = key_of(st.context.cookies.to_dict())
        token = st.user.tokens.get("access")
        # Without the token that is asked for, nobody could be asked whether an unknown sign-in still holds.
        proven = token is not None or not _exposes_token()
        if key is not None and (proven or launcher.sign_ins.find(key)):
            found = launcher.sign_ins.seen(key, _claims, token)
            st.session_state[_MINE] = found
    return found


def _exposes_token() -> bool:
    exposed = st.secrets.get("auth", {}).get("expose_tokens", [])
    return exposed == "access" or "access" in exposed


def _find(key: str) -> Standing | None:
    """What the sign-in `key` is good for; None where it is not known."""
    sign_ins = launcher.sign_ins
    found = sign_ins.find(key) if sign_ins else None
    return sign_ins.standing(found) if sign_ins and found else None


def _claims() -> dict[str, object]:
    return {name: value for name, value in st.user.to_dict().items() if name != "tokens"}


def _standing() -> Standing | None:
    found = _mine()
    return launcher.sign_ins.standing(found) if found and launcher.sign_ins else None


def wait_for_provider() -> None:
    """Wait a moment for the provider's word, where it has not been heard lately."""
    if (found := _mine()) is not None and launcher.sign_ins is not None:
        launcher.sign_ins.wait(found, FIRST_LOOK)


def _without_role(mine: SignIn, standing: Standing) -> None:
    st.markdown(
        f"You are signed in as **{plain(cut(mine.name, 60))}**, but none of your groups has a role here."
    )
    if standing.groups:
        names = ", ".join(plain(group) for group in standing.groups[:20])
        st.caption(f"Your groups: {names}{', …' * (len(standing.groups) > 20)}")
    else:
        st.caption("The sign-in names no groups.")
    st.caption("Ask who runs this app for a role. This page goes on by itself when you have one.")
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
                "The sign-in is not set up completely. The app's log says what is missing.",
                icon=":material/error:",
            )


def _sign_out_button() -> None:
    st.button("Sign out", key="sign out", icon=":material/logout:", on_click=_sign_out)


def _sign_out() -> None:
    if (found := _mine()) is not None and launcher.sign_ins is not None:
        launcher.sign_ins.end(found.id, SIGNED_OUT)
    st.logout()
