"""An unbinned likelihood for cosipy 0.4.3's plugin: source and background in one pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, ModelError

if TYPE_CHECKING:
    from astromodels import Model

    from .unbinned import BackgroundDensity

_NO_SOURCE = np.empty(0)


class SourceDensity(Protocol):
    """What is used of cosipy's UnbinnedThreeMLModelFolding."""

    event_type: type

    def expected_counts(self) -> float:
        """Counts of the sources of the model."""

    def expectation_density(self) -> Iterable[float]:
        """Their density at each event, in the unit of the background's."""


class NoSource:
    """The response of a session without a source, which cosipy's plugin asks for all the same.

    Parameters
    ----------
    event_type : type
        Of the background.
    nevents : int
    """

    def __init__(self, event_type: type, nevents: int) -> None:
        self.event_type = event_type
        self._density = np.zeros(nevents)
        self._density.flags.writeable = False

    def set_model(self, model: Model) -> None:
        """Take a session's model.

        Raises
        ------
        ModelError
            If it has a source of the sky, which would have no counts whatever its flux.
        """
        sources = [*model.point_sources, *model.extended_sources]
        if sources:
            raise ModelError(
                f"The model has the source {', '.join(sources)}, but the session was made without "
                "a response: give that of the source to ThreeMLPluginInterface and likelihood()."
            )

    def expected_counts(self) -> float:
        """None."""
        return 0.0

    def expectation_density(self) -> NDArray[np.float64]:
        """Of no source, shape (nevents,): 0."""
        return self._density


class OnePassLikelihood:
    """What cosipy's ``UnbinnedLikelihood(SumExpectationDensity(response, background))`` is.

    The sum over events of the logarithm of the density, less the expected counts: the same number
    but for rounding, without an array for each step, and with one logarithm for sixteen events.
    -inf where a density is not positive.

    Parameters
    ----------
    background : BackgroundDensity
    response : UnbinnedThreeMLModelFolding, optional
        Of the same events; without it the likelihood is that of the background alone.

    Raises
    ------
    DataError
        If the response is of another kind of events; at the first call, if not of as many.
    """

    def __init__(
        self, background: BackgroundDensity, response: SourceDensity | None = None
    ) -> None:
        if response is not None and response.event_type is not background.event_type:
            raise DataError(
                f"The response is of {response.event_type.__name__} events, the background of "
                f"{background.event_type.__name__}; make both of the same events."
            )
        self._background, self._response = background, response

    @property
    def nobservations(self) -> int:
        """The events."""
        return self._background.nevents

    def get_log_like(self) -> float:
        """The logarithm of the likelihood at the current parameters."""
        counts = self._background.expected_counts()
        if self._response is None:
            return self._background.sum_of_logs(_NO_SOURCE) - counts
        counts += float(self._response.expected_counts())
        return self._background.sum_of_logs(self._source_density(self._response)) - counts

    def _source_density(self, response: SourceDensity) -> NDArray[np.float64]:
        given = response.expectation_density()
        if not hasattr(given, "__len__"):
            given = np.fromiter(given, float)
        density = np.ascontiguousarray(given, dtype=float)
        if density.shape != (self.nobservations,):
            raise DataError(
                f"The response has densities of {density.size} events, the background of "
                f"{self.nobservations}; make the response of events[background.inside]."
            )
        return density
