"""Decodes messages into the window of a feed, and counts those that cannot be decoded."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from ..decoding.decoders import Malformed, Raw, decode
from ..table.window import Window
from .gaps import Gap, Gaps
from .health import FeedKey

ROW = 16
"""Minimum bytes of a row, used to reserve room for expected rows."""


class Intake:
    """The rows of one feed, and the gaps in them."""

    def __init__(
        self,
        key: FeedKey,
        look_back: pd.Timedelta,
        limits: dict[str, Any],
        room: Callable[[], int],
        grown: Callable[[], None],
    ) -> None:
        """`limits` are those of a Window. `room` returns the bytes that the process has left. `grown` is
        called after rows were added."""
        self.key = key
        self.look_back = look_back
        """How far back the feed reaches: the longest look-back that any reader asked for."""
        self.limits = limits
        self.window = Window(**limits)
        self.malformed = 0
        """Messages that could not be decoded."""
        self.samples: list[Malformed] = []
        """The last few of them."""
        self.gaps = Gaps()
        self.recreated = 0
        """How often the stream turned out to be another one."""
        self.grown = grown
        self._room = room

    def another_window(self) -> Window:
        """An empty window with the same limits."""
        return Window(**self.limits)

    def missing(self, gap: Gap) -> None:
        """Record missing rows."""
        self.gaps.add(gap, self.look_back)

    def take(self, raw: Raw, window: Window, expected: int = 0) -> None:
        """Decode `raw` and append it to `window`, which should reserve room for `expected` further rows."""
        try:
            batch, samples, malformed = decode(raw, self.key.decoder, self.key.time, self.key.headers)
        except Exception as error:
            if len(raw) > 1:
                for one in raw.split():
                    self.take(one, window)
                return
            # One payload must not block the others, even if it breaks the decoder.
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            sample = Malformed(raw.subject[0], raw.seq[0], reason, repr(raw.payload[0][:200]))
            self.malformed += 1
            self.samples = [*self.samples, sample][-5:]
            return
        self.malformed += malformed
        self.samples = [*self.samples, *samples][-5:]
        window.append(batch, expected=min(expected, self._room() // ROW))
        self.grown()
