"""The unbinned likelihood in one pass, with stand-ins for cosipy's response."""

import numpy as np
import pytest
from astromodels import Model, PointSource, Powerlaw

from cosi_linebkg_plugin import background_model
from cosi_linebkg_plugin.consumers.likelihood import NoSource, OnePassLikelihood
from cosi_linebkg_plugin.errors import DataError, ModelError

N = 5000


class Background:
    """What is used of a BackgroundDensity."""

    event_type, nevents = int, N

    def __init__(self):
        self.density = np.random.default_rng(1).uniform(0.1, 2.0, N)

    def expected_counts(self):
        return 4000.0

    def sum_of_logs(self, others):
        return np.log(self.density + (others if others.size else 0.0)).sum()


class Response:
    event_type = int

    def __init__(self, density, as_iterator=False):
        self._density, self._as_iterator = density, as_iterator

    def expected_counts(self):
        return 70.0

    def expectation_density(self):
        return iter(self._density) if self._as_iterator else self._density


@pytest.mark.parametrize("as_iterator", [False, True])
def test_it_is_the_extended_likelihood(as_iterator):
    background, sky = Background(), np.random.default_rng(2).uniform(0.0, 1.0, N)
    likelihood = OnePassLikelihood(background, Response(sky, as_iterator))
    by_hand = np.log(background.density + sky).sum() - 4070.0
    assert likelihood.get_log_like() == pytest.approx(by_hand, rel=1e-14)
    assert likelihood.nobservations == N
    alone = OnePassLikelihood(background).get_log_like()
    assert alone == pytest.approx(np.log(background.density).sum() - 4000.0, rel=1e-14)


def test_a_response_of_other_events_is_refused():
    few = OnePassLikelihood(Background(), Response(np.ones(N - 1)))
    with pytest.raises(DataError, match=r"densities of 4999 events, the background of 5000; make"):
        few.get_log_like()
    other = Response(np.ones(N))
    other.event_type = float
    with pytest.raises(DataError, match="The response is of float events, the background of int"):
        OnePassLikelihood(Background(), other)


def test_no_source_adds_nothing_and_takes_no_source_of_the_sky():
    background = Background()
    nothing = NoSource(background.event_type, N)
    alone = OnePassLikelihood(background).get_log_like()
    assert OnePassLikelihood(background, nothing).get_log_like() == pytest.approx(alone, rel=1e-14)
    nothing.set_model(Model())
    nothing.set_model(background_model([1779.0]))
    star = Model(PointSource("star", 0.0, 0.0, spectral_shape=Powerlaw()))
    with pytest.raises(ModelError, match="the source star, but .* without a response: give that"):
        nothing.set_model(star)
