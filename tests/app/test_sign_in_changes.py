"""How soon a change at the provider, in the roles or in NATS takes effect for signed-in users.

Slow, because the app asks the provider once in half a minute.
"""

from concurrent.futures import ThreadPoolExecutor

from services.accounts import configuration as accounts
from tests.provider import sign_in
from tests.stage import MARKER, ROLES, TEMPORARY, WITHIN, Stage
from tests.waiting import until


def test_group_changes(stage: Stage) -> None:
    """A change of group changes the role within a minute, and nothing of the former role is left on the page.
    Without a group the user has no role; once a group is back, the page is too."""
    person = stage.person("gina", "operators", page="/explore?stream=VAULT&last=P1D&show=Messages")
    person.sees("Role: operator")
    person.gets(MARKER)
    stage.provider.person("gina", "viewers")
    person.sees("Role: viewer", WITHIN)
    person.tab.wait_for_timeout(2000)
    assert person.menu() == ["Overview", "Explore", "Key-value", "Workflows"]
    assert "VAULT" not in person.tab.inner_text("body")
    assert "VAULT" not in person.tab.url
    del person.received[:]
    person.go("/explore?show=Messages")
    person.sees("Live")
    person.tab.wait_for_timeout(2000)
    assert not person.has(MARKER)
    stage.provider.person("gina", "guests")
    person.sees("none of your groups", WITHIN)
    person.sees("guests")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    stage.provider.person("gina", "viewers")
    person.sees("Role: viewer", WITHIN)


def test_revoked_at_the_provider(stage: Stage) -> None:
    """A sign-in revoked by the provider ends within a minute with a sentence, which also stands after a
    reload."""
    person = stage.person("rita", "viewers")
    person.sees("Role: viewer")
    stage.provider.revoke("rita")
    person.sees("does not accept your sign-in any more", WITHIN)
    person.go("/")
    person.sees("does not accept your sign-in any more")
    assert not person.tab.get_by_test_id("stSidebarNavLink").count()
    sign_in(person.tab, stage.url, "rita")
    person.sees("Role: viewer")


def test_nats_user_revoked(stage: Stage) -> None:
    """A revoked NATS user is disconnected at once; its role continues with a new user."""
    person = stage.person("tara", "temporaries")
    person.sees("Live")
    before = {each["cid"]: each for each in stage.connections()}
    mine = max(before)
    with ThreadPoolExecutor(1) as pool:  # Playwright's event loop runs in this thread
        assert pool.submit(accounts.revoke, stage.data, before[mine]["authorized_user"]).result()
    until(lambda: mine not in {each["cid"] for each in stage.connections()}, WITHIN)
    until(lambda: len(stage.connections()) == len(before), WITHIN)
    person.sees("Live", WITHIN)


def test_role_removed(stage: Stage) -> None:
    """A role that is removed from the table of roles ends within a minute, and so does its connection."""
    person = stage.person("tina", "temporaries")
    person.sees("Live")
    before = len(stage.connections())
    (stage.folder / "roles.toml").write_text(ROLES)
    try:
        person.sees("none of your groups", WITHIN)
        until(lambda: len(stage.connections()) == before - 1)
        until(
            lambda: (
                "connection: closed (the role 'temporary' was changed or removed)"
                in stage.app.log.read_text()
            )
        )
    finally:
        (stage.folder / "roles.toml").write_text(ROLES + TEMPORARY)
    person.sees("Role: temporary", WITHIN)


def test_provider_down(stage: Stage) -> None:
    """Without the provider, no one can sign in, and the card says so. Signed-in users continue for a
    while."""
    person = stage.person("wanda", "viewers")
    person.sees("Role: viewer")
    stage.provider.stop()
    try:
        stranger = stage.somebody()
        stranger.go("/")
        stranger.tab.get_by_role("button", name="Sign in").click(timeout=60_000)
        stranger.sees("Sign-in failed")
        person.tab.wait_for_timeout(35_000)
        person.sees("Role: viewer")
        person.sees("Live")
    finally:
        stage.provider.start()
    stage.provider.person("sam", "viewers")
    sign_in(stranger.tab, stage.url, "sam")
    stranger.sees("Role: viewer")
