"""LineBackgroundFit: what a fit found, frozen; its numbers, words, samples and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..io.atomic import whole_file
from ..io.guard import require_file
from . import words
from .numbers import FitNumbers

if TYPE_CHECKING:
    from astropy.table import Table

    from ..io.progress import Progress


@dataclass(frozen=True, eq=False, repr=False)
class LineBackgroundFit(FitNumbers):
    """A background spectrum fitted to the unmasked energy bins.

    Its numbers are those of `FitNumbers`; here are the words, the sampling and the JSON.
    """

    def sample(
        self, n_samples: int = 4000, *, seed: int | None = None, progress: Progress | None = None
    ) -> LineBackgroundFit:
        """Sample the posterior with emcee on the compiled likelihood, starting around this fit.

        Each parameter has its own prior (kept in JSON, see docs/spectrum.md), or a flat one within
        its limits.

        Parameters
        ----------
        n_samples : int
            At least this many are returned, unless 20,000 steps give fewer.
        seed : int, optional
            The same seed gives the same samples.
        progress : Progress, optional
            Is told after each thousand steps how many are done, and how many are needed as far as
            the chain shows.

        Returns
        -------
        LineBackgroundFit
            With medians as values, the samples, and their covariance.

        Raises
        ------
        DataError
            If n_samples is below 1, or no parameter is free.
        ModelError
            If the fit was read from a file that could not keep its function, law or prior.
        FitError
            If the chain is still shorter than 30 autocorrelation times after 20,000 steps; its
            ``result`` holds the samples.
        FitInterrupted
            At Ctrl-C after 200 steps or more; its ``result`` holds the samples so far, not valid.

        References
        ----------
        Foreman-Mackey et al. 2013, PASP 125, 306 (emcee).
        """
        from .posterior import sample_posterior

        return sample_posterior(self, n_samples=n_samples, seed=seed, progress=progress)

    def __repr__(self) -> str:
        return words.brief(self)

    def __str__(self) -> str:
        return f"{words.parameter_table(self)}\n{self.summary()}"

    def _repr_html_(self) -> str:
        return words.html(self)

    def to_table(self, of: str = "parameters") -> Table:
        """The fit as an astropy table, whose ``write`` knows LaTeX, CSV and ECSV.

        Parameters
        ----------
        of : "parameters" or "lines"
            All parameters, with their errors, units and limits; or the lines with their energies,
            counts and widths. LaTeX needs its package underscore for names such as mu_2.

        Raises
        ------
        DataError
            For any other table.
        """
        return words.to_table(self, of)

    def summary(self) -> str:
        """In words: how well the model does, whether a template may use it, and what to try."""
        return words.summary(self)

    def to_dict(self, source_range: Sequence[Any] | None = None) -> dict[str, Any]:
        """Everything as plain Python types, ready for JSON.

        Parameters
        ----------
        source_range : (low, high), keV, optional
            Adds the expected counts there as "source_counts".
        """
        from .result_json import to_dict

        return to_dict(self, source_range)

    def to_json(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        source_range: Sequence[Any] | None = None,
    ) -> str:
        """The fit as JSON, which `from_json` reads.

        Parameters
        ----------
        path : path, optional
            Where the text is written, too (whole or not at all).
        source_range : (low, high), keV, optional
            As of `to_dict`.

        Returns
        -------
        str

        Raises
        ------
        DataError
            If the fit holds infinite numbers.
        """
        try:
            text = json.dumps(self.to_dict(source_range), indent=1, allow_nan=False)
        except ValueError as error:
            raise DataError(
                "The fit cannot be written: it holds infinite numbers, so far is its model from "
                "the data. Fit again from other start values (plugin.fit, plugin.guess)."
            ) from error
        if path is not None:
            with whole_file(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return text

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> LineBackgroundFit:
        """Read a fit from JSON text, or from a file's path.

        Raises
        ------
        FileError
            Naming the file and what is missing or damaged in it.
        """
        if not isinstance(source, os.PathLike) and str(source).lstrip().startswith("{"):
            return cls.from_text(str(source), "The JSON text")
        path = require_file(source, "give the fit.json of a run.")
        from .result_json import read_text

        return cls.from_text(read_text(path), str(path))

    @classmethod
    def from_text(cls, text: str, where: str) -> LineBackgroundFit:
        """Read a fit from JSON text; `where` it comes from is for the message."""
        from .result_json import fit_from_text

        return fit_from_text(cls, text, where)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LineBackgroundFit:
        """The inverse of `to_dict`."""
        from .result_json import fields_of

        return cls(**fields_of(data))
