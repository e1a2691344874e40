"""Calls by authors of pages, right and wrong: choices of several, rates over a stretch, list parameters, and
unknown arguments."""

import json
from collections.abc import Callable, Iterator

import pytest
from streamlit.testing.v1 import AppTest

from tests.nats import NatsServer, running_server

Open = Callable[..., AppTest]
HEAD = (
    "import streamlit as st\nfrom components import *\nfrom components import choose_many\nrows = live('S')\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A nats-server with two counters."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:
        server.add_stream("S", ["s.*"])
        for n in range(5):
            for host, start in (("a", 0), ("b", 1_000_000)):
                server.publish(f"s.{host}", json.dumps({"host": host, "n": start + 10 * n}).encode())
        yield server


def errors(page: AppTest) -> str:
    """The page's errors, without escapes."""
    return " ".join(each.value for each in page.error).replace("\\", "")


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            "latest_values(rows, 'n', colour='host')",
            "got an unexpected keyword argument 'colour'. It is called as latest_values(view,",
        ),
        ("line_chart(rows, 'n', color='host')", "by=None"),
        (
            "metric(rows)",
            "metric() missing 1 required positional argument: 'y'. It is called as metric(view, y,",
        ),
        (
            "metric(rows, 'n', how='sum')",
            "Name the series with by='_subject', or give a stretch with over='PT1M'.",
        ),
        ("every('1s', rows, n='max(m)')", "There is no column 'm'"),
        ("every('1s', rows, n='quantile_cont(n, $q)')", "Write the value in place of $q."),
        ("rate(rows, 'm')", "There is no column 'm'"),
        (
            "sql('SELECT 1 FROM r', parameters={'p': [{}]}, r=rows)",
            "The parameter $p is a list of something else",
        ),
        ("sql('SELECT 1 FROM r', parameters={'p': {}}, r=rows)", "or a list of these."),
    ],
)
def test_a_wrong_call_is_explained(open_page: Open, call: str, sentence: str) -> None:
    """The page says what was wrong with a call and what to write instead. It gives no position in SQL that
    the author did not write."""
    said = errors(open_page(HEAD + call))
    assert sentence in said
    assert "Line 1" not in said


def test_a_wrong_call_within_data_is_not_shown(open_page: Open) -> None:
    """A TypeError of any other function may contain data, so its text is not shown to viewers."""
    said = errors(open_page(HEAD + "def metric2(secret): ...\nmetric2(secret=1, hunter2=2)"))
    assert "This page failed" in said
    assert "hunter2" not in said


def test_each_subject_is_a_counter(open_page: Open) -> None:
    """Without `by`, the counters of two subjects are kept apart; with `over`, the newest rate is the mean
    over that time."""
    page = open_page(
        HEAD + "st.text(rate(rows, 'n').frame()['rate'].min() > 0)\n"
        "mean = rate(rows, 'n', over='5m').latest('rate')\n"
        "frame = rows.frame()\n"
        "for name, mine in frame.groupby('_subject', observed=True):\n"
        "    took = (mine.index[-1] - mine.index[0]).total_seconds()\n"
        "    st.text(abs(mean[name] * took - 40) < 0.01)\n"
    )
    assert not page.exception
    assert [text.value for text in page.text] == ["True"] * 3


def test_several_are_chosen(open_page: Open) -> None:
    """A choice of several options is in the address, with any characters in their names, and can be a list
    parameter of SQL."""
    source = (
        HEAD + "hosts = choose_many('Hosts', ['a', 'b', 'c,d %'], default=['a', 'c,d %'])\n"
        "found = sql('SELECT count(*) AS n FROM r WHERE list_contains($hosts, host)', "
        "parameters={'hosts': hosts}, r=rows)\n"
        "st.text(f'{hosts} {int(found[\"n\"].iloc[0])}')"
    )
    page = open_page(source)
    assert page.text[-1].value == "['a', 'c,d %'] 5"
    assert "hosts" not in page.query_params
    page.multiselect[0].set_value(["b", "c,d %"]).run()
    assert page.text[-1].value == "['b', 'c,d %'] 5"
    assert page.query_params["hosts"] == "b,c%2Cd%20%25"
    page.multiselect[0].set_value([]).run()
    assert page.text[-1].value == "[] 0"
    assert page.query_params["hosts"] == ","
    for asked, chosen in (("b,c%2Cd%20%25", "['b', 'c,d %'] 5"), (",", "[] 0"), ("x,b", "['b'] 5")):
        assert open_page(source, hosts=asked).text[-1].value == chosen


def test_a_number_has_ends(open_page: Open) -> None:
    """A number in the address that is outside the page's limits is ignored."""
    source = HEAD + "st.text(choose_number('Percent', 95, least=1, greatest=99))"
    assert open_page(source, percent="50").text[-1].value == "50.0"
    for wrong in ("500", "0", "-1e99", "nan", "x"):
        assert open_page(source, percent=wrong).text[-1].value == "95.0"


REPLACED = """
import streamlit as st
from components import choose
from components.choices.choose import set_choice

st.button("Second", key="second", on_click=set_choice, args=("Which", "second"))
st.text(f"it is {choose('Which', ['first', 'second'], default='first')}")
"""


def test_a_click_outlives_a_request_under_way(open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A choice made by a click is kept, even if the browser had already sent a request with the previous
    choice. Later requests count as the viewer's own."""
    page = open_page(REPLACED)
    page.button(key="second").click().run()
    page.selectbox(key="which").set_value("first").run()
    assert [each.value for each in page.text] == ["it is second"]
    assert page.query_params["which"] == "second"
    monkeypatch.setattr("components.choices.address.UNDER_WAY", 0.0)
    page.selectbox(key="which").set_value("first").run()
    assert [each.value for each in page.text] == ["it is first"]
    assert "which" not in page.query_params
