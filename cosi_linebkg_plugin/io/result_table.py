"""The astropy table of a result; a module of its own, so that astropy is imported on use."""

from __future__ import annotations

from astropy.table import Table

#: Digits that are printed; files get every one.
_SHOWN = ".7g"


class ResultTable(Table):  # type: ignore[misc]
    """An astropy table that prints all of its columns, numbers rounded; what it holds is not.

    astropy leaves out the columns in the middle where a table is wider than the terminal.
    """

    def __str__(self) -> str:
        shown = Table(self, copy=False)
        for column in shown.itercols():
            if column.dtype.kind == "f" and column.format is None:
                shown[column.name].format = _SHOWN
        return "\n".join(shown.pformat(max_width=-1))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} length={len(self)}>\n{self}"
