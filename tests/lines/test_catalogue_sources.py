"""The catalogue against the files that its rows name, as two packages ship them."""

import re

import pytest

from cosi_linebkg_plugin import instrumental_lines

pytestmark = pytest.mark.slow  # the archives take half a minute to load

DECAY = re.compile(r"ENSDF: (\d+)(m?)([A-Z][a-z]?) decay(, levels? of \w+)?")


@pytest.fixture(scope="module")
def decays():
    """{(nuclide, isomer?): [(keV, photons per 100 decays)]} of ENSDF."""
    archive = pytest.importorskip("paceENSDF").ENSDF().load_ensdf()
    found = {}
    for scheme in archive:
        if not scheme["parentDecay"]:
            continue
        excited = scheme["parentDecay"][0]["parentDecayLevelEnergy"] not in (0.0, None)
        norm = scheme["decaySchemeNormalization"][0]["normalizationRecord"][0]
        factor = (norm["multiplerPhotonIntensity"] or 0) * (norm["multiplerBranchingRatio"] or 0)
        lines = found.setdefault((scheme["parentID"], excited), [])
        for level in scheme["levelScheme"]:
            lines += [
                (g["gammaEnergy"], (g["gammaIntensity"] or 0.0) * factor)
                for g in level["gammaDecay"]
                if g["gammaEnergy"]
            ]
    return found


def test_rows_are_those_of_ensdf(decays):
    checked = 0
    for row in instrumental_lines():
        source = DECAY.fullmatch(row.source)
        if source is None:
            continue
        mass, isomer, element, _ = source.groups()
        lines = decays[f"{element}{mass}", bool(isomer)]
        near = [x for x in lines if abs(x[0] - row.energy) <= max(0.02, 2 * (row.uncertainty or 0))]
        assert near, row
        if row.intensity is not None and not source[4]:
            best = min((x[1] for x in near), key=lambda i: abs(i - row.intensity))
            assert row.intensity == pytest.approx(min(best, 100.0), rel=0.06), row
        checked += 1
    assert checked > 300


def test_rows_are_those_of_egaf():
    egaf = pytest.importorskip("pyEGAF").EGAF()
    archive = egaf.load_egaf()
    rows = [x for x in instrumental_lines() if re.fullmatch(r"EGAF: \w+", x.source)]
    assert len(rows) > 25
    for row in rows:
        mass, element = re.fullmatch(r"(\d+)([A-Z][a-z]?)", row.isotope).groups()
        gammas = egaf.get_gammas(archive, f"{element}{mass}", intensity="relative")
        near = [g for g in gammas if abs(g[4] - row.energy) < 0.002]
        assert near and near[0][6] == pytest.approx(row.intensity, rel=0.01), row
