"""Pages that show streams of a cluster in which one node does not respond."""

import signal
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.app.test_pages import ROOT, texts
from tests.cluster import running_cluster
from tests.waiting import until

PAGE = """
'''Newest.'''
from components import newest_messages

newest_messages(["GOOD", "LOST"])
"""


def test_newest_messages_beside_a_stream_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest message of each available stream is shown, and unavailable streams are named."""
    with running_cluster(tmp_path) as cluster:

        async def make(nc: Any) -> None:
            js = nc.jetstream(timeout=5)
            for name, count in (("GOOD", 3), ("LOST", 1)):
                await js.add_stream(name=name, subjects=[f"{name}.>"], num_replicas=count)
                await js.publish(f"{name}.a", name.encode())

        cluster.run(make)
        lost = cluster.leader("LOST")
        (tmp_path / "pages").mkdir()
        (tmp_path / "pages" / "page.py").write_text(PAGE)
        monkeypatch.setattr("components.pages.FOLDER", tmp_path / "pages")
        monkeypatch.setenv("NATS_URL", ",".join(n.url for name, n in cluster.nodes.items() if name != lost))
        page = AppTest.from_file(str(ROOT / "components" / "frame.py"), default_timeout=30)
        try:
            assert page.run().dataframe[0].value["payload"].tolist() == ["GOOD", "LOST"]
            cluster.nodes[lost].signal(signal.SIGSTOP)
            until(lambda: "because their nodes do not answer: 'LOST'." in texts(page.run()), 60)
            assert page.dataframe[0].value["payload"].tolist() == ["GOOD"]
            assert not page.error
            assert not page.exception
        finally:
            cluster.nodes[lost].signal(signal.SIGCONT)
            st.cache_data.clear()
            st.cache_resource.clear()
