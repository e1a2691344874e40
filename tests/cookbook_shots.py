"""The pictures of docs/cookbook.md: `python -m tests.cookbook_shots [page …]`."""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageChops
from playwright.sync_api import Page

from tests.browser import chromium
from tests.cookbook import PAGES, cookbook

WIDTH = 760  # px: GitHub shows this width unscaled, and Streamlit draws it without the menu
HEIGHT = 1000
SETTLE = 2500  # ms
COLOURS = 128
DRAWN = ".js-plotly-plot .trace, .lb-metric-number, .lb-rows tbody tr"


def main(names: list[str]) -> None:
    """Draw these pages, or all."""
    with (
        tempfile.TemporaryDirectory() as temporary,
        cookbook(Path(temporary), ahead=3600) as (running, _),
        chromium() as browser,
    ):
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, timezone_id="UTC")
        for name in names or sorted(page.stem for page in PAGES.glob("*.py")):
            query = "?words=sign" if name == "log_search" else ""
            tab.goto(f"{running.url}/{name.replace('_', '-')}{query}")
            if name == "last_week":
                tab.get_by_role("button", name="Run", exact=True).click(timeout=60_000)
            take(tab, PAGES / f"{name}.png")
            print(name, (PAGES / f"{name}.png").stat().st_size)


def take(tab: Page, file: Path) -> None:
    """Save a picture of the page from its title to the end of its last element, some time after its data
    arrived."""
    tab.locator(DRAWN).first.wait_for(timeout=60_000)
    tab.locator(".lb-status").wait_for()
    tab.evaluate("() => document.querySelector('[data-testid=stHeader]').remove()")  # it overlaps the title
    tab.mouse.move(0, 0)
    tab.wait_for_timeout(SETTLE)
    title = tab.locator("[data-testid=stMainBlockContainer] h1").bounding_box()
    assert title is not None
    top = title["y"] - 8
    tab.screenshot(path=file, clip={"x": 0, "y": top, "width": WIDTH, "height": HEIGHT - top})
    shot = Image.open(file).convert("RGB")
    empty = Image.new("RGB", shot.size, shot.getpixel((0, 0)))
    shown = ImageChops.difference(shot, empty).getbbox()
    assert shown is not None, f"{file.name} is empty"
    shot.crop((0, 0, WIDTH, min(shot.height, shown[3] + 16))).quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
