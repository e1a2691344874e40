"""What each signed-in user sees, and what no one else receives.

Slow, because everybody has a browser of their own, and what must not come is waited for.
"""

import json
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value

from tests.provider import CLIENT_SECRET, COOKIE_SECRET, sign_in
from tests.stage import MARKER, Person, Stage
from tests.waiting import until


def test_each_sees_their_own(stage: Stage) -> None:
    """The menu and lists contain only what the role permits. The viewer's browser never receives a byte of
    the rest, even while an operator views it."""
    operator = stage.person("olga", "operators", page="/explore?stream=VAULT&last=P1D&show=Messages")
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


def test_each_sees_their_own_consumers(stage: Stage) -> None:
    """The page of consumers and streams lists those of the role. The browser of a user who may read one
    stream never receives the name of another."""
    insider = stage.person("ines", "insiders", page="/consumers")
    operator = stage.person("otto", "operators", page="/consumers")
    tables = operator.tab.locator(".lb-server_list")
    tables.nth(1).locator("td", has_text="VAULT").wait_for(timeout=60_000)
    mine = insider.tab.locator(".lb-server_list")
    mine.nth(1).locator("td", has_text="METRICS").wait_for(timeout=60_000)
    insider.tab.wait_for_timeout(3000)
    names = mine.nth(1).locator("tbody tr td:first-child").all_inner_texts()
    assert names == ["METRICS"]
    assert {"METRICS", "VAULT", "CELLAR", "KV_safe"} <= set(
        tables.nth(1).locator("tbody tr td:first-child").all_inner_texts()
    )
    for word in ("VAULT", "CELLAR", "KV_safe"):
        assert not insider.has(word), word
        assert operator.has(word), word


def test_what_is_not_permitted_is_as_what_does_not_exist(stage: Stage) -> None:
    """An address of a page, stream, bucket or run outside the role gets the same answer as one that does not
    exist."""
    viewer = stage.person("victor", "viewers")
    viewer.sees("Role: viewer")

    def answer(path: str, name: str, settled: str) -> str:
        viewer.go(path.replace("NAME", name))
        found: set[str] = set()
        since, began = None, time.monotonic()
        while since is None or time.monotonic() - since < 3.5:  # toasts are shown only for a moment
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
    """A download link works only in the browser it was shown in, and not after the sign-out."""
    operator = stage.person("oscar", "operators", page="/explore?stream=VAULT&last=P1D")
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
    operator.context.add_cookies(before)  # a kept copy of the cookies
    assert operator.fetch(address)[0] in (403, 404)
    operator.go("/explore?stream=VAULT")
    operator.tab.get_by_role("button", name="Sign in").wait_for(timeout=60_000)


def test_comparison_belongs_to_a_sign_in(stage: Stage) -> None:
    """The addresses of a comparison work only for the sign-in that opened it, and not after the sign-out."""
    operator = stage.person("cora", "comparers", page="/comparison?rate=10&series=2")
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
    operator.context.add_cookies(before)  # a kept copy of the cookies
    assert answers(operator) == nothing


def test_same_rights_share_a_connection(stage: Stage) -> None:
    """Two users with the same role share one NATS connection; another role has its own."""

    def roles() -> set[str]:
        """The signing keys of the connected roles, once each has one connection: while a JWT is renewed, a
        role briefly has two."""
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


def test_no_secret_anywhere(stage: Stage) -> None:
    """No seed, JWT, password or token appears in what browsers receive, in logs, or in downloaded files."""
    operator = stage.somebody()
    stage.provider.person("sue", "operators")
    sign_in(operator.tab, stage.url, "sue")
    people = [operator, stage.person("sid", "viewers"), stage.person("ned", "none")]
    operator.sees("Role: operator")
    for page in sorted(file.stem for file in (Path(__file__).parents[2] / "pages").glob("*.py")):
        operator.go(f"/{page}")
        operator.sees("Role: operator")
        operator.tab.wait_for_timeout(2500)
    operator.go("/history")
    operator.tab.get_by_role("button", name="Run", exact=True).click(timeout=60_000)
    operator.tab.get_by_role("link", name="CSV").wait_for(timeout=60_000)
    output = bytearray()
    for link in operator.tab.get_by_role("link", name=re.compile("CSV|Parquet")).all():
        output += operator.context.request.get(f"{stage.url}/{link.get_attribute('href')}").body()
    assert output
    for file in [stage.app.log, *stage.data.glob("*.out"), *stage.data.glob("*.log")]:
        output += file.read_bytes()
    for person in people:
        output += person.received

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
        assert secret.encode() not in output, f"{secret[:6]}…"
        # Half of a secret would be a leak too, such as a JWT without the end of its signature.
        assert secret.encode()[: max(24, len(secret) // 2)] not in output, f"{secret[:6]}…"
