"""A page of the stored messages that match the filter of rows, as it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import ref

from nats_client import Client
from nats_client.messages.filtered_page import FilteredPage
from nats_client.messages.search import Search

from ..data.reads import rerun_on
from ..tables.download import downloads
from ..words import count_text
from .kept import kept
from .message_search import Found, begun, choices_of, draw_found, filter_of, how_far, what_is_missing
from .rows import Rows


def draw_filtered_page(
    nats: Client,
    rows: Rows,
    opened: Callable[[int], None],
    *,
    start: int | None,
    upto: int | None,
    seq: int | None,
    most: int,
) -> FilteredPage:
    """Draw the page that begins at the sequence `start` or ends at `upto`, with the message `seq` marked.
    `most`: messages on the page. Raises LookbackError."""
    key = "page", rows.stream, rows.subject, choices_of(rows), start, upto, most

    def begin() -> FilteredPage:
        return nats.filtered_page(
            rows.stream, subject=rows.subject, start=start, upto=upto, most=most, **filter_of(rows)
        )

    page = kept("search", nats, key, lambda: begun(begin))
    rerun_on(_IsOver(page))  # the buttons need the ends of the page, which are known once it is read
    draw_found(page, _said, opened, seq)
    if page.found or not page.is_over:
        downloads(Found(ref(page)), f"{rows.stream}-messages", label="Download these messages")
    return page


@dataclass(frozen=True)
class _IsOver:
    """True, when called, if the page has been read to its end."""

    page: FilteredPage

    def __call__(self) -> bool:
        return self.page.is_over


def _said(page: Search) -> str:
    assert isinstance(page, FilteredPage)
    held = page.held
    if held is not None and not held.messages:
        return "The stream is empty."
    parts = [how_far(page)]
    if page.status == "done" and held is not None and page.low > page.high:
        return f"No message is stored here. The stream holds {held.first:,} to {held.last:,}."
    if page.is_over and held is not None and page.low <= page.high:
        matches = "1 message matches" if len(page.found) == 1 else f"{len(page.found):,} messages match"
        parts = [f"{matches} from {page.low:,} to {page.high:,}; {page.scanned:,} were read.", *parts]
        parts.append(f"The stream holds {held.first:,} to {held.last:,}.")
    else:
        parts = [f"{count_text(len(page.found), 'message')} found, {page.scanned:,} read.", *parts]
    return " ".join(filter(None, [*parts, *what_is_missing(page)]))
