"""A PNG of every page, light and dark, wide and narrow: `python -m tests.shots [folder]`."""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page

from tests.browser import chromium
from tests.running import ROOT, app

SIZES = {"wide": (1440, 900), "narrow": (390, 844)}


def ask_history(tab: Page) -> None:
    """Run the query of the page "History"."""
    tab.get_by_role("button", name="Run", exact=True).click()


def start_run(tab: Page) -> None:
    """Start a run on the page "Workflows", which then shows it."""
    tab.get_by_role("button", name="Start a run of archive").click(timeout=60_000)


FILLED_BY: dict[str, Callable[[Page], None]] = {"history": ask_history, "workflows": start_run}
"""Pages that show their data after a click."""


def main(folder: Path, settle: float = 6.0) -> None:
    """Run the embedded demo, then take the pictures. `settle` is in seconds."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = sorted(file.stem for file in (ROOT / "pages").glob("*.py"))
    with tempfile.TemporaryDirectory() as data, app(Path(data)) as running, chromium() as browser:
        time.sleep(30)  # so that the charts have data
        with browser.new_page() as tab:  # so that the archive has data, too
            tab.goto(f"{running.url}/workflows")
            start_run(tab)
            tab.wait_for_timeout(settle * 1000)
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme, device_scale_factor=1.5
                )
                for page in pages:
                    tab = context.new_page()
                    tab.goto(f"{running.url}/{'' if page == 'overview' else page}")
                    tab.wait_for_selector(".lb-status", timeout=30_000)
                    if page in FILLED_BY:
                        FILLED_BY[page](tab)
                    tab.wait_for_timeout(settle * 1000)
                    tab.screenshot(path=folder / f"{page}-{theme}-{size}.png")
                    tab.close()
                context.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "shots")
