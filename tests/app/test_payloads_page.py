"""Payloads of other formats in the browser: Explore, an edited decoder, and times outside the look-back."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cbor2
import msgpack
import pytest
from playwright.sync_api import Browser, expect

from tests.browser import fresh_tab
from tests.nats import NatsServer, running_server
from tests.running import App, app
from tests.samples import ORDER, SHOP, order_bytes, write_schemas

pytestmark = pytest.mark.real
SIZES = '''"""Sizes."""
from components import latest_values, live

latest_values(live("PACKED", decoder="sizes", look_back="PT1H"), "size")
'''
ELSEWHERE = '''"""Elsewhere."""
from components import line_chart, live

line_chart(live("PACKED", "packed.late", time="t", decoder="auto", look_back="PT1H"), y="n")
'''
OWN = "def decode(payload):\n    return {'size': %s}\n"


def sample(i: int) -> dict[str, Any]:
    """A reading."""
    return {"temperature": 20 + math.sin(i / 10), "device": {"id": f"d{i % 3}", "on": i % 2 == 0}, "n": i}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server with a stream of MessagePack, CBOR, JSON and line protocol, and one of Protobuf."""
    with running_server(tmp_path_factory.mktemp("nats")) as server:

        async def fill(nc: Any) -> None:
            jetstream = nc.jetstream()
            await jetstream.add_stream(name="PACKED", subjects=["packed.>"])
            await jetstream.add_stream(name="ORDERS", subjects=["orders.>"])
            for i in range(40):
                await jetstream.publish("packed.msgpack", msgpack.packb(sample(i)))
                await jetstream.publish("packed.cbor", cbor2.dumps(sample(i)))
                await jetstream.publish("packed.influx", b"room,device=d1 temperature=%f" % (18 + i / 40))
                await jetstream.publish("orders.eu", order_bytes(i), headers={"traceparent": f"00-{i}"})
            await jetstream.publish("packed.broken", b"\x08\x01\xff")
            seconds = int(time.time() * 1000) // 1000 - 86400 * 400
            await jetstream.publish("packed.late", b'{"t": %d, "n": 1}' % seconds)

        server.run(fill)
        yield server


@pytest.fixture(scope="module")
def running(server: NatsServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[App, Path]]:
    """The app, with a folder of decoders."""
    folder = tmp_path_factory.mktemp("app")
    (folder / "pages").mkdir()
    (folder / "pages" / "sizes.py").write_text(SIZES)
    (folder / "pages" / "elsewhere.py").write_text(ELSEWHERE)
    (folder / "decoders").mkdir()
    (folder / "decoders" / "sizes.py").write_text(OWN % "1000 + len(payload)")
    write_schemas(folder / "decoders")
    settings = {
        "NATS_URL": server.url,
        "LOOKBACK_PAGES": str(folder / "pages"),
        "LOOKBACK_DECODERS": str(folder / "decoders"),
    }
    with app(folder, **settings) as started:
        yield started, folder / "decoders"


def test_explore_recognises_formats(running: tuple[App, Path], browser: Browser) -> None:
    """With `auto`, Explore reads a stream of several formats and names the format of each message. It counts
    the message it cannot decode, and offers the types and decoders of the folder."""
    started, _ = running
    with fresh_tab(browser) as tab:
        tab.goto(f"{started.url}/explore?stream=PACKED&last=PT1H&payloads=auto&field=temperature&by=_format")
        expect(tab.locator(".lb-status")).to_contain_text("121 rows", timeout=60_000)
        for name in ("msgpack", "cbor", "influx"):
            expect(tab.locator("[data-testid=stMain]")).to_contain_text(name)
        tab.get_by_role("button", name="1 warning").click()
        expect(tab.locator("[data-testid=stAlert]")).to_contain_text("1 malformed message left out.")
        tab.keyboard.press("Escape")
        tab.get_by_role("combobox", name="Payloads").click()
        for name in ("msgpack", f"protobuf:{ORDER}@{SHOP}", "sizes"):
            expect(tab.get_by_role("option", name=name, exact=True)).to_have_count(1)


def test_explore_reads_protobuf(running: tuple[App, Path], browser: Browser) -> None:
    """A type of a descriptor set can be chosen, and so can headers; both are in the URL. A file outside the
    folder is refused."""
    started, _ = running
    with fresh_tab(browser) as tab:
        where = f"{started.url}/explore?stream=ORDERS&last=PT1H&payloads="
        tab.goto(f"{where}protobuf:{ORDER}@{SHOP}&field=id")
        expect(tab.locator(".lb-status")).to_contain_text("40 rows", timeout=60_000)
        expect(tab.locator(".js-plotly-plot").first).to_be_visible()
        tab.goto(f"{where}protobuf:{ORDER}@{SHOP}&field=id&headers=traceparent&by=traceparent")
        expect(tab.locator("[data-testid=stMain]")).to_contain_text("00-39", timeout=60_000)
        tab.get_by_role("tab", name="Copy as page").click()
        expect(tab.locator("[data-testid=stCode]")).to_contain_text('headers=("traceparent",)')
        tab.goto(f"{where}avro:../secret")
        expect(tab.locator("body")).to_contain_text("There is no file '../secret'")


def test_an_edited_decoder_takes_effect(running: tuple[App, Path], browser: Browser) -> None:
    """After a decoder is edited, an open tab shows the messages decoded anew, without a reload."""
    started, decoders = running
    with fresh_tab(browser) as tab:
        tab.goto(f"{started.url}/sizes")
        expect(tab.locator("body")).to_contain_text("1003", timeout=60_000)
        (decoders / "sizes.py").write_text(OWN % "2000 + len(payload)")
        expect(tab.locator("body")).to_contain_text("2003", timeout=60_000)
        expect(tab.locator("body")).not_to_contain_text("1003")


def test_a_time_outside_the_look_back(running: tuple[App, Path], browser: Browser) -> None:
    """If the rows' own time puts all rows outside the look-back, the page says so, with the time it read."""
    started, _ = running
    with fresh_tab(browser) as tab:
        tab.goto(f"{started.url}/elsewhere")
        tab.get_by_role("button", name="1 warning").click(timeout=60_000)
        alert = tab.locator("[data-testid=stAlert]")
        expect(alert).to_contain_text("the field 't' puts all 1 row outside the look-back")
        expect(alert).to_contain_text("read as 202")
