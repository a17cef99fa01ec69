#!/usr/bin/env bash
# astromodels 2.6.0: a parameter that was linked, followed another through a fit and is unlinked
# again has the value from before the link.
#
# The guess that this refutes: model.unlink frees the parameter where it is, so that a first fit
# with linked parameters gives the start of a second one without the links.
#
# Seen: index_2 = -2.5, linked to index_1 = -1.5: -1.5; unlinked: -2.5. The model's value at 10 keV
# changes from 0.0632 to 0.0348 in between, without a message.
#
# bash findings/astromodels_unlinked_value.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q astromodels==2.6.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
from astromodels import Model, PointSource, Powerlaw

shape = Powerlaw() + Powerlaw()
model = Model(PointSource("source", 0, 0, spectral_shape=shape))
shape.K_1.value = shape.K_2.value = 1.0
shape.index_1.value, shape.index_2.value = -1.5, -2.5
model.link(shape.index_2, shape.index_1)
linked, before = shape.index_2.value, shape(10.0)
model.unlink(shape.index_2)
print(f"index_2: linked {linked}, unlinked {shape.index_2.value}")
print(f"the model at 10 keV: {before:.4f} -> {shape(10.0):.4f}")
assert linked == -1.5 and shape.index_2.value == -2.5
EOF
