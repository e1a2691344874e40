"""Signing in: what each person sees, and what nobody else receives."""

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

from tests.provider import CLIENT_SECRET, COOKIE_SECRET, sign_in
from tests.stage import MARKER, WITHIN, Person, Stage
from tests.waiting import until


def test_entrance(stage: Stage) -> None:
    """Who is not signed in gets a card with one button from whatever address, and nothing else."""
    stranger = stage.somebody()
    for path in ("/", "/explore?stream=VAULT", "/no-such-page"):
        stranger.go(path)
        stranger.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
        assert stranger.tab.get_by_test_id("stButton").count() == 1
        assert not stranger.tab.get_by_test_id("stSidebarNavLink").count()
        assert not stranger.tab.get_by_text("Page not found").count()
    for word in ("Overview", "Key-value", 'class="lb-status', "nats://", "METRICS", MARKER):
        assert not stranger.has(word), word


def test_back_to_the_page_that_was_asked_for(stage: Stage) -> None:
    """After the sign-in comes the page, with its choices, that the address named before."""
    stage.provider.person("deep", "operators")
    person = stage.somebody()
    person.go("/explore?stream=CELLAR&look-back=P1D&show=Messages")
    sign_in(person.tab, f"{stage.url}/explore?stream=CELLAR&look-back=P1D&show=Messages", "deep")
    person.sees("Explore")
    person.gets(MARKER)
    assert "stream=CELLAR" in person.tab.url


@pytest.mark.parametrize(
    "address",
    [
        "/概要",
        "/explore?stream=概要",
        "/%E6%A6%82?a=%FF%00",
        "/%C0%AF%C0%AE",  # overlong
        "/a%0D%0ASet-Cookie:%20x=1%3F%23",
        "/%5C%5Cevil.example/",
        "/%09/evil.example",
        "/entrance",
    ],
)
def test_any_address_leads_to_a_sign_in_and_back(stage: Stage, address: str) -> None:
    """Whatever address a link has, one can sign in, once and again, and comes to it, at this app."""
    stage.provider.person("link", "operators")
    person = stage.somebody()
    sign_in(person.tab, f"{stage.url}{address}", "link")
    person.sees("Role: operator")
    here, there = (
        urlsplit(person.tab.url),
        urlsplit(person.tab.evaluate("a => new URL(a, location).href", address)),
    )
    assert here.netloc == there.netloc
    assert here.path in (there.path, "/")  # as it was, or the first page where there is no such one
    assert "lookback_wanted" not in {cookie["name"] for cookie in person.context.cookies()}


def test_attempts_that_were_given_up(stage: Stage) -> None:
    """Who has begun to sign in and gone back a dozen times can still sign in."""
    stage.provider.person("undecided", "operators")
    person = stage.somebody()
    for _ in range(12):
        person.go("/")
        person.tab.get_by_role("button", name="Sign in").click(timeout=60_000)
        person.tab.locator("input[name=sub]").wait_for(timeout=60_000)
    sign_in(person.tab, stage.url, "undecided")
    person.sees("Role: operator")


def test_no_cookie_undoes_a_sign_out(stage: Stage) -> None:
    """A kept copy of a browser's cookies stays signed out, whatever else is sent with it, is left out, comes
    twice or in another order."""
    person, again = stage.person("karl", "operators"), stage.person("karl", "operators")
    for each in (person, again):
        each.sees("Role: operator")
    kept = {
        c["name"]: c["value"] for c in person.context.cookies() if c["name"].startswith("_streamlit_user")
    }
    other = {c["name"]: c["value"] for c in again.context.cookies()}
    user, tokens = kept["_streamlit_user"], kept["_streamlit_user_tokens"]

    def page(*cookies: tuple[str, str]) -> int:
        header = "; ".join(f"{name}={value}" for name, value in cookies)
        asked = {"Cookie": header, "Accept": "text/html"}
        return httpx.get(f"{stage.url}/explore", headers=asked).status_code

    whole = [("_streamlit_user", user), ("_streamlit_user_tokens", tokens)]
    ways = [
        whole,
        whole[::-1],
        whole[:1],
        [("_streamlit_user_x", "1"), *whole],
        [*whole, ("_streamlit_user_1", user), ("_streamlit_user_tokens_1", "")],
        [("_streamlit_user", "x"), *whole, ("_streamlit_user_", "")],
        [("_streamlit_user", f'"{user}"'), whole[1]],
        [whole[0], ("_streamlit_user_tokens", other["_streamlit_user_tokens"])],
        [("_ga", "1"), *whole, *whole],
    ]
    assert [page(*way) for way in ways] == [200] * len(ways)

    def ends() -> list[str]:
        return re.findall(r"INFO The sign-in \w{8} ended \(You have signed out", stage.app.log.read_text())

    ended = len(ends())
    person.tab.get_by_role("button", name="Sign out").click()
    person.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)
    assert [page(*way) for way in ways] == [302] * len(ways)
    assert len(ends()) == ended + 1
    for way in ways:
        thief = stage.somebody()
        thief.context.add_cookies([{"name": n, "value": v, "url": stage.url} for n, v in dict(way).items()])
        thief.go("/explore")
        thief.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
        thief.context.close()
        stage.people.remove(thief)
    again.go("/explore")
    again.sees("Role: operator")


def test_each_sees_their_own(stage: Stage) -> None:
    """Menu and lists hold what the role permits; the viewer's browser never receives a byte of the rest,
    while an operator looks at just that."""
    operator = stage.person("olga", "operators", page="/explore?stream=VAULT&look-back=P1D&show=Messages")
    viewer = stage.person("vera", "viewers", "others")
    viewer.sees("Vera Example")
    viewer.sees("Role: viewer")
    assert viewer.menu() == ["Overview", "Explore", "Key-value", "Workflows"]
    operator.sees("Role: operator")
    assert "Services" in operator.menu()
    operator.gets(MARKER)

    viewer.go("/explore?show=Messages")
    assert viewer.options("Stream") == ["METRICS"]
    assert "VAULT" in operator.options("Stream")
    viewer.go("/values")
    assert viewer.options("Bucket") == ["host", "thresholds"]
    viewer.go("/")
    viewer.sees("CPU")
    operator.go("/values?bucket=safe")
    operator.sees(MARKER)
    viewer.tab.wait_for_timeout(3000)
    for word in (MARKER, "VAULT", "CELLAR", "strongbox", "combination"):
        assert not viewer.has(word), word
        assert operator.has(word) or word == "CELLAR"


def test_what_is_not_permitted_is_as_what_does_not_exist(stage: Stage) -> None:
    """An address with a page, stream, bucket or run outside the role gets the same answer as one with a
    name that there is not."""
    viewer = stage.person("victor", "viewers")
    viewer.sees("Role: viewer")

    def answer(path: str, name: str, settled: str) -> str:
        viewer.go(path.replace("NAME", name))
        found: set[str] = set()
        since, began = None, time.monotonic()
        while since is None or time.monotonic() - since < 3.5:  # some of it is shown for a moment only
            for kind in ("[data-testid=stAlert]", "[data-testid=stToast]", "[role=dialog]"):
                found |= set(viewer.tab.locator(kind).all_inner_texts())
            if since is None and viewer.tab.get_by_text(settled).count():
                since = time.monotonic()
            assert since or time.monotonic() - began < 60, f"{settled!r} never came: {found}"
            viewer.tab.wait_for_timeout(100)
        return " ".join(sorted(found)).replace(name, "NAME")

    pages = answer("/NAME", "services", "Page not found")
    assert pages
    assert pages == answer("/NAME", "nothing", "Page not found")
    bucket = answer("/values?bucket=NAME", "strongbox", "Stopped")
    assert bucket
    assert bucket == answer("/values?bucket=NAME", "nothing", "Stopped")
    stream = answer("/explore?stream=NAME", "CELLAR", "Stopped")
    assert stream
    assert stream == answer("/explore?stream=NAME", "NOTHING", "Stopped")
    run = answer("/workflows?run=NAME", "archive.20260101T000000-abcdef", "All runs")
    assert run == answer("/workflows?run=NAME", "nothing.20260101T000000-abcdef", "All runs")
    assert not viewer.has(MARKER)
    assert not viewer.has("VAULT")


def test_downloads_belong_to_a_sign_in(stage: Stage) -> None:
    """A link works in the browser that it was shown in, in no other, and not after the sign-out."""
    operator = stage.person("oscar", "operators", page="/explore?stream=VAULT&look-back=P1D")
    other = stage.person("ophelia", "operators")
    viewer = stage.person("viola", "viewers")
    link = operator.tab.get_by_role("link", name="CSV")
    link.wait_for(timeout=60_000)
    address = f"{stage.url}/{link.get_attribute('href')}"
    assert operator.fetch(address)[0] == 200
    assert MARKER in operator.fetch(address)[1]
    for somebody in (viewer, other, stage.somebody()):
        status, text = somebody.fetch(address)
        assert status == 404
        assert MARKER not in text
    before: Any = operator.context.cookies()
    operator.tab.get_by_role("button", name="Sign out").click()
    operator.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)
    operator.context.add_cookies(before)  # somebody has kept them
    assert operator.fetch(address)[0] in (403, 404)
    operator.go("/explore?stream=VAULT")
    operator.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)


def test_comparison_belongs_to_a_sign_in(stage: Stage) -> None:
    """The addresses of a comparison work for the sign-in that opened it, for no other, and not after the
    sign-out."""
    operator = stage.person("cora", "comparers", page="/comparison")
    other = stage.person("carl", "comparers")
    frame = operator.tab.wait_for_selector('iframe[src*="/lookback/comparison/"]', timeout=60_000)
    assert frame is not None
    address = f"{stage.url}{urlsplit(frame.get_attribute('src') or '').path}"
    body = {"ticket": "", "at": 0, "offset": 0, "bytes": 0, "left": [], "name": None, "live": False}
    body |= {"pixel": None, "browser": None}

    def answers(person: Person) -> dict[str, int]:
        own, found = {"Origin": stage.url, "Sec-Fetch-Site": "same-origin"}, {}
        for path in ("", "reader.js"):
            found[path] = person.context.request.get(address + path).status
        for path in ("report", "session"):
            post = person.context.request.post(address + path, data=body, headers=own)
            found[path] = post.status
        return found

    expected = {"": 200, "reader.js": 200, "report": 200}
    assert answers(operator) == {**expected, "session": answers(operator)["session"]}
    nothing = dict.fromkeys(["", "reader.js", "report", "session"], 404)
    for somebody in (other, stage.somebody()):
        assert answers(somebody) == nothing
    before: Any = operator.context.cookies()
    operator.go("/auth/logout")
    operator.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)
    operator.context.add_cookies(before)  # somebody has kept them
    assert answers(operator) == nothing


def test_comparison_ends_with_the_sign_out(stage: Stage) -> None:
    """The right half of a comparison that stands alone, where nothing loads it anew, closes its connection
    when the sign-in ends, and its token leaves the browser."""
    person = stage.person("clea", "comparers", page="/comparison")
    frame = person.tab.wait_for_selector('iframe[src*="/lookback/comparison/"]', timeout=60_000)
    assert frame is not None
    inside = frame.content_frame()
    assert inside is not None
    inside.get_by_text("Live", exact=True).wait_for(timeout=60_000)
    alone = person.open()
    alone.goto(inside.url.split("#")[0])
    alone.get_by_text("Live", exact=True).wait_for(timeout=60_000)

    def readers() -> list[str]:
        return [each["name"] for each in stage.all_connections() if "comparison-" in each.get("name", "")]

    assert len(readers()) == 2
    person.go("/auth/logout")
    person.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)
    alone.get_by_text("This comparison is over").wait_for(timeout=60_000)
    until(lambda: not readers())
    assert "nats_jwt" not in {cookie["name"] for cookie in person.context.cookies()}
    assert not alone.locator(".js-plotly-plot").count()


def test_same_rights_share_a_connection(stage: Stage) -> None:
    """Two people with the same role share one NATS connection; another role has one of its own."""

    def roles() -> set[str]:
        """The signing keys of the roles that are connected; each once, but for a moment while a JWT is
        renewed."""
        until(lambda: max(_keys(stage).values()) == 1)
        return set(_keys(stage))

    stage.person("otto", "operators").sees("Live")
    before = roles()
    stage.person("odile", "operators").sees("Live")
    assert roles() == before
    stage.person("tom", "temporaries").sees("Live")
    assert len(roles()) == len(before) + 1


def _keys(stage: Stage) -> Counter[str]:
    return Counter(each["issuer_key"] for each in stage.connections())


def test_sign_out_reaches_all_tabs(stage: Stage) -> None:
    """Signing out in one tab signs out the others, one that is paused too; another browser of the same
    person goes on."""
    here, elsewhere = stage.person("vince", "viewers"), stage.person("vince", "viewers")
    second, paused = here.open(), here.open()
    second.goto(f"{stage.url}/explore")
    second.get_by_text("Role: viewer").wait_for(timeout=60_000)
    paused.goto(f"{stage.url}/explore?refresh=Paused")
    paused.locator(".lb-paused").wait_for(timeout=60_000)
    here.tab.get_by_role("button", name="Sign out").click(timeout=60_000)
    for tab in (second, paused):
        tab.get_by_text("Sign in to see them").wait_for(timeout=WITHIN * 1000)
        assert not tab.get_by_test_id("stSidebarNavLink").count()
    elsewhere.sees("Role: viewer")
    here.tab.get_by_role("button", name="End session").click()
    here.tab.get_by_text("Sign in to see them").wait_for(timeout=60_000)


@pytest.mark.parametrize("cookies", ["are gone", "are there"])
def test_other_tabs_say_why(stage: Stage, cookies: str) -> None:
    """The other tabs say that it was done in another one, whether they come back before the browser's cookies
    are gone or after; the tab where it was done does not. The page comes back with the next sign-in."""
    here = stage.person("vito", "viewers")
    other = here.open()
    other.goto(f"{stage.url}/explore?look-back=PT1H")
    other.get_by_text("Role: viewer").wait_for(timeout=60_000)
    if cookies == "are there":
        here.tab.route("**/auth/logout*", lambda route: route.abort())
    here.tab.get_by_role("button", name="Sign out").click(timeout=60_000)
    other.get_by_text("signed out in another tab").wait_for(timeout=WITHIN * 1000)
    other.get_by_text("Sign in to see them").wait_for(timeout=60_000)
    if cookies == "are gone":
        here.tab.get_by_role("button", name="End session").click(timeout=60_000)
        here.sees("Sign in to see them")
        assert not here.tab.get_by_text("in another tab").count()
    other.get_by_role("button", name="Sign in").click()
    other.locator("input[name=sub]").fill("vito", timeout=60_000)
    other.get_by_role("button", name="Authorize", exact=True).click()
    other.get_by_text("Role: viewer").wait_for(timeout=60_000)
    assert urlsplit(other.url).path == "/explore"
    assert "signed-out" not in other.url


def test_no_role(stage: Stage) -> None:
    """Somebody without a role is told which groups were seen, and can sign out."""
    person = stage.person("nora", "guests", "**bold** [link](http://example.com)", page="/explore")
    person.sees("none of your groups")
    person.sees("**bold** [link](http://example.com)")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    assert not person.tab.get_by_text("Page not found").count()
    assert not person.has('class="lb-status')
    person.tab.get_by_role("button", name="Sign out").click()
    person.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)


def test_tampered_cookie(stage: Stage) -> None:
    """A cookie with other claims than those that were signed is no sign-in."""
    person = stage.person("tess", "viewers")
    person.sees("Role: viewer")
    for cookie in person.context.cookies():
        if cookie["name"] == "_streamlit_user":
            head, dot, rest = cookie["value"].strip('"').partition(".")
            forged = {key: cookie[key] for key in ("name", "domain", "path")}
            person.context.add_cookies([{**forged, "value": f"{head[:-4]}AAAA{dot}{rest}"}])  # type: ignore
    person.go("/explore")
    person.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()


def test_no_secret_anywhere(stage: Stage) -> None:
    """No seed, JWT, password or token is in what a browser receives, in a log, or in a downloaded file."""
    people = [stage.person("sue", "operators"), stage.person("sid", "viewers"), stage.person("ned", "none")]
    operator = people[0]
    operator.sees("Role: operator")
    for page in sorted(file.stem for file in (Path(__file__).parents[2] / "pages").glob("*.py")):
        operator.go(f"/{page}")
        operator.sees("Role: operator")
        operator.tab.wait_for_timeout(2500)
    operator.go("/history")
    operator.tab.get_by_role("button", name="Run", exact=True).click(timeout=60_000)
    operator.tab.get_by_role("link", name="CSV").wait_for(timeout=60_000)
    told = bytearray()
    for link in operator.tab.get_by_role("link", name=re.compile("CSV|Parquet")).all():
        told += operator.context.request.get(f"{stage.url}/{link.get_attribute('href')}").body()
    assert told
    for file in [stage.app.log, *stage.data.glob("*.out"), *stage.data.glob("*.log")]:
        told += file.read_bytes()
    for person in people:
        told += person.received

    secrets = {CLIENT_SECRET, COOKIE_SECRET}
    for file in (stage.data / "keys").glob("*.nk"):
        secrets.add(file.read_text().strip())
    for file in (stage.data / "creds").glob("*.creds"):
        secrets |= {line for line in file.read_text().splitlines() if len(line) > 50 and "-----" not in line}
    for person in people:
        for cookie in person.context.cookies(stage.url):
            if cookie["name"] == "_streamlit_user_tokens":
                value = decode_signed_value(COOKIE_SECRET, cookie["name"], cookie["value"].strip('"'))
                assert value is not None
                secrets |= set(json.loads(value).values())
    assert len(secrets) > 12
    for secret in secrets:
        assert secret.encode() not in told, f"{secret[:6]}…"
        # A JWT is no less of one without its signature's end.
        assert secret.encode()[: max(24, len(secret) // 2)] not in told, f"{secret[:6]}…"
