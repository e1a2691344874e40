"""The bins of a chart of a result.

Each result replaces the previous one, so the bins are computed from all of its rows. Bins that stay the same
do not count as changed.
"""

import numpy as np
import pandas as pd

from ..series.bins import MOST, Bins
from ..series.series_choice import SeriesChoice
from ..series.zoom_tiles import Newest, same_numbers
from ..table.snapshot import Snapshot


class ResultBins(Bins):
    """See Bins. A browser gets only the bins whose least or greatest value differs from the one it holds."""

    _replaced = True

    def __init__(
        self,
        fields: tuple[str, ...],
        color: str | None,
        look_back: pd.Timedelta,
        *,
        most: int = MOST,
        step: int | None = None,
        hold: bool = False,
        facet: str | None = None,
        choice: SeriesChoice | None = None,
    ) -> None:
        """Raises LookbackError as Bins does."""
        super().__init__(
            fields, color, look_back, most=most, step=step, hold=hold, facet=facet, choice=choice
        )
        self._labels: list[str] | None = None

    def _is_other(self, snapshot: Snapshot) -> bool:
        """True if the codes of labels have another meaning now."""
        labels = self.codes(snapshot)[1] if self.split_by and len(snapshot) else self._labels
        known, self._labels = self._labels, labels
        return known is not None and labels is not known

    def _take(self, snapshot: Snapshot) -> None:
        low, high, null, changed = (
            each.copy() for each in (self._low, self._high, self._null, self._changed)
        )
        newest, self._newest = self._newest, Newest(low.shape) if self.hold else None
        self._low[:], self._high[:], self._null[:] = np.inf, -np.inf, False
        for seen in self._seen:
            seen.count[:] = 0
            seen.newest[:] = 0
        self.future, self._too_early, self._end = 0, None, None
        super()._take(snapshot)
        held = slice(0, len(low))  # further rows belong to new series
        same = (self._low[held] == low) & (self._high[held] == high) & (self._null[held] == null)
        if newest is not None and self._newest is not None:
            same &= same_numbers(self._newest.value[held], newest.value)
        self._changed[held] = np.where(same, changed, self.version)
