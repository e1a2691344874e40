"""Signing in and out: permitted users get in, and no one else.

Slow, because everybody has a browser of their own, and other tabs learn of a sign-out within seconds.
"""

import re
from urllib.parse import urlsplit

import httpx
import pytest

from tests.provider import sign_in
from tests.stage import MARKER, WITHIN, Stage
from tests.waiting import until


def test_entrance(stage: Stage) -> None:
    """A user who is not signed in gets a card with one button at any address, and nothing else."""
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
    """After the sign-in, the user gets the page and the choices of the address they had opened."""
    stage.provider.person("deep", "operators")
    person = stage.somebody()
    person.go("/explore?stream=CELLAR&last=P1D&show=Messages")
    sign_in(person.tab, f"{stage.url}/explore?stream=CELLAR&last=P1D&show=Messages", "deep")
    person.sees("Explore")
    person.gets(MARKER)
    assert "stream=CELLAR" in person.tab.url


ADDRESSES = (
    "/概要",
    "/explore?stream=概要",
    "/%E6%A6%82?a=%FF%00",
    "/%C0%AF%C0%AE",  # overlong
    "/a%0D%0ASet-Cookie:%20x=1%3F%23",
    "/%5C%5Cevil.example/",
    "/%09/evil.example",
    "/entrance",
)


def test_any_address_leads_to_a_sign_in_and_back(stage: Stage) -> None:
    """From any address, a user can sign in, also repeatedly, and returns to that address, always at this
    app."""
    stage.provider.person("link", "operators")
    person = stage.somebody()
    for address in ADDRESSES:
        person.context.clear_cookies()
        sign_in(person.tab, f"{stage.url}{address}", "link")
        person.sees("Role: operator")
        here, there = (
            urlsplit(person.tab.url),
            urlsplit(person.tab.evaluate("a => new URL(a, location).href", address)),
        )
        assert here.netloc == there.netloc, address
        # The same path, or the first page if there is no such page.
        assert here.path in (there.path, "/"), address
        assert "lookback_wanted" not in {cookie["name"] for cookie in person.context.cookies()}, address


def test_attempts_that_were_given_up(stage: Stage) -> None:
    """A user who has started and abandoned a dozen sign-ins can still sign in."""
    stage.provider.person("undecided", "operators")
    person = stage.somebody()
    person.go("/")
    with person.tab.expect_request("**/auth/login*") as begun:
        person.tab.get_by_role("button", name="Sign in").click(timeout=60_000)
    person.tab.locator("input[name=sub]").wait_for(timeout=60_000)
    for _ in range(11):  # as the button does, without loading its page again
        answer = person.context.request.get(begun.value.url, max_redirects=0)
        assert answer.status == 302
        assert answer.headers["location"].startswith(stage.provider.url)
    sign_in(person.tab, stage.url, "undecided")
    person.sees("Role: operator")


def test_no_cookie_undoes_a_sign_out(stage: Stage) -> None:
    """After a sign-out, a copy of the browser's cookies does not work, with whatever cookies added, left out,
    repeated or in another order."""
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
    thief = stage.somebody()
    for way in ways:
        thief.context.clear_cookies()
        thief.context.add_cookies([{"name": n, "value": v, "url": stage.url} for n, v in dict(way).items()])
        thief.go("/explore")
        thief.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)
    again.go("/explore")
    again.sees("Role: operator")


def test_comparison_ends_with_the_sign_out(stage: Stage) -> None:
    """The right half of a comparison, opened in a tab of its own, closes its connection when the sign-in
    ends, and its token leaves the browser."""
    person = stage.person("clea", "comparers", page="/comparison?rate=10&series=2")
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


def test_sign_out_reaches_all_tabs(stage: Stage) -> None:
    """Signing out in one tab signs out the other tabs, also a paused one. The same person stays signed in in
    another browser."""
    here, elsewhere = stage.person("vince", "viewers"), stage.person("vince", "viewers")
    second, paused = here.open(), here.open()
    second.goto(f"{stage.url}/values")
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
    """After a sign-out, the other tabs say that it happened in another tab, whether the browser's cookies
    are already gone or not. The tab of the sign-out itself does not. The next sign-in returns to the tab's
    page."""
    here = stage.person("vito", "viewers")
    other = here.open()
    other.goto(f"{stage.url}/explore?last=PT1H")
    other.get_by_text("Role: viewer").wait_for(timeout=60_000)
    if cookies == "are there":
        here.tab.route("**/auth/logout*", lambda route: route.abort())
    here.tab.get_by_role("button", name="Sign out").click(timeout=60_000)
    other.get_by_text("signed out in another tab").wait_for(timeout=WITHIN * 1000)
    other.wait_for_url(lambda url: "signed-out" in url)  # the page before it has the sentence too
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
    """A user without a role sees which groups they have, as plain text, and can sign out."""
    person = stage.person("nora", "guests", "**bold** [link](http://example.com)", page="/explore")
    person.sees("none of your groups")
    person.sees("**bold** [link](http://example.com)")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    assert not person.tab.get_by_text("Page not found").count()
    assert not person.has('class="lb-status')
    person.tab.get_by_role("button", name="Sign out").click()
    person.tab.get_by_role("button", name="End session").wait_for(timeout=60_000)


def test_tampered_cookie(stage: Stage) -> None:
    """A cookie whose claims differ from the signed ones is not a sign-in."""
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
