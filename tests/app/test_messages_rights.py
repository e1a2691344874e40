"""Two people with different roles open the same link to a message, in the whole app behind a sign-in.

Slow, because an identity provider, the app and two browsers start for it.
"""

import re

from tests.stage import MARKER, Stage

LINK = "/explore?stream=VAULT&last=P1D&show=Messages&seq=1"


def test_a_link_shows_what_the_role_may_read(stage: Stage) -> None:
    """A user who may read the stream sees the message that a link opens. Any other user gets a sentence and
    no byte of the message, whether by the link, by a search or from the file's address."""
    operator = stage.person("olga", "operators", page=LINK)
    operator.sees("Sequence 1")
    operator.gets(MARKER)
    viewer = stage.person("vera", "viewers", page=LINK)
    viewer.sees("not permitted")
    link = operator.tab.locator(".lb-message").get_by_role("link", name="Download").get_attribute("href")
    address = f"{stage.url}/{link}"
    assert MARKER in operator.fetch(address)[1]
    status, text = viewer.fetch(address)
    assert (status, MARKER in text) == (404, False)
    viewer.go(f"{LINK}&find=for-operators&whole=true")
    viewer.sees("not permitted")
    operator.go(f"{LINK}&find=FOR-operators&whole=true")
    operator.sees("1 message found")
    assert not viewer.has(MARKER)
    assert not re.search("gold", viewer.tab.locator("body").inner_text())
