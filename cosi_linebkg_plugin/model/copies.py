"""What astromodels says of each line whenever it copies a model, and which means nothing.

threeML copies the model in each fit and for each simulated data set. The copy is made with a line's
default energy, 0 keV, and gets its limits before its value: a warning for every line each time.
There is no other order to ask for.
"""

from __future__ import annotations

import logging
import re

_SAID = re.compile(r"The current value of the parameter mu_?\d* \(0\.0\) was below the new minimum")


class _Defaults(logging.Filter):
    """Drops the warning of a line at 0 keV, the default, that meets its lower limit."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for this warning alone."""
        return _SAID.match(record.getMessage()) is None


_DEFAULTS = _Defaults()


def drop_words_on_defaults() -> None:
    """Keep this one warning out of the log; all others pass. It does no harm to call it twice."""
    logging.getLogger("astromodels.core.parameter").addFilter(_DEFAULTS)
