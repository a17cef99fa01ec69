#!/usr/bin/env bash
# cosipy 0.4.3: a model folding that is given a new Model goes on with the source of the old one, if
# the two sources have the same name: set_model clears no cache.
#
# The guess that this refutes: after set_model the expectation is that of the model which was set.
# threeML calls it with a new model in likelihood-ratio tests and simulations.
#
# Seen: K = 1, then a new model with K = 2: the folding gives 1 both times. A new folding gives 2.
#
# bash findings/cosipy_folding_keeps_old_source.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
from astromodels import Model, PointSource, Powerlaw
from cosipy.threeml.unbinned_model_folding import UnbinnedThreeMLModelFolding


class Response:
    """One count for each unit of the source's K."""

    event_type = object

    def copy(self):
        return Response()

    def set_source(self, source):
        self.source = source

    def expected_counts(self):
        return float(self.source.spectrum.main.shape.K.value)


def model(K):
    return Model(PointSource("crab", 0, 0, spectral_shape=Powerlaw(K=K)))


folding = UnbinnedThreeMLModelFolding(Response())
folding.set_model(model(1.0))
before = folding.expected_counts()
folding.set_model(model(2.0))
after = folding.expected_counts()
fresh = UnbinnedThreeMLModelFolding(Response())
fresh.set_model(model(2.0))
print("counts with K = 1, with K = 2, and with K = 2 in a new folding:")
print(before, after, fresh.expected_counts())
assert (before, after, fresh.expected_counts()) == (1.0, 1.0, 2.0)
EOF
