"""A session of the spectrum and a background whose amounts follow it."""

import numpy as np
import pytest
from astromodels import Parameter
from following import Case
from threeML import DataList, JointLikelihood
from threeML.plugin_prototype import PluginPrototype

from cosi_linebkg_plugin import LineBackgroundLike, background_model

pytestmark = pytest.mark.filterwarnings("ignore::cosi_linebkg_plugin.errors.LineBackgroundWarning")


@pytest.fixture(scope="module")
def case():
    return Case()


class Sky(PluginPrototype):
    """A stand-in for COSILike: Poisson counts of `bkg` and of a sky map with a free norm."""

    def __init__(self, data, bkg, sky):
        self.data, self.bkg, self.sky = data, bkg, sky
        norm = Parameter("cosi_sky", 1.0, min_value=0.0, max_value=10.0, delta=0.05)
        super().__init__("cosi", {"cosi_sky": norm})

    def set_model(self, model):
        pass

    def get_number_of_data_points(self):
        return self.data.size

    def get_log_like(self):
        norm = self.nuisance_parameters["cosi_sky"].value
        expectation = norm * self.sky + self.bkg.contents
        return float(np.sum(self.data * np.log(expectation) - expectation))

    def inner_fit(self):
        return self.get_log_like()


def test_a_joint_session_agrees_with_the_two_steps(case):
    """Spectrum and norms at once, or the spectrum first and its covariance as a constraint.

    In the Gaussian limit they are the same estimate: sky norm and background counts agree to a
    fifth of their errors, the errors to a tenth.
    """
    data = case.plugin.observed_counts(case.range).contents
    sky = case.simulation.expected_sky(*case.range)[None]
    template = case.template()

    apart = template.component_mix()
    steps = JointLikelihood(
        background_model([], source="other"),  # a session needs a free parameter of its model
        DataList(
            Sky(data, apart, sky),
            apart.constraint(),
            LineBackgroundLike("dummy", ([100.0, 200.0, 300.0, 400.0], [50, 30, 20]),
                               source="other"),
        ),
    )  # fmt: skip
    two, _ = steps.fit(quiet=True)

    case.restore()
    together = template.component_mix(follow=case.plugin)
    session = JointLikelihood(
        case.model, DataList(case.plugin, Sky(data, together, sky), together.constraint())
    )
    one, _ = session.fit(quiet=True)

    error = two.loc["cosi_sky", "error"]
    assert one.loc["cosi_sky", "error"] == pytest.approx(error, rel=0.1)
    assert abs(one.loc["cosi_sky", "value"] - two.loc["cosi_sky", "value"]) < 0.2 * error
    # the truth is 1: 4 sigma, false alarm 6e-5 for one seeded data set
    assert abs(one.loc["cosi_sky", "value"] - 1.0) < 4 * error
    for label, counts in apart.counts.items():
        assert abs(together.counts[label] - counts) < 0.2 * template.errors[label]
    # the data of the source range act on the spectrum as well
    assert case.plugin.result(session).valid
    case.restore()
