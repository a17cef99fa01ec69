#!/usr/bin/env bash
# becquerel 0.7.0: Fitter.fit with the backend minuit-pml hands the free parameters to the model one after the other, by
# the names of all parameters. Is one of them held, each value after it goes to its neighbour's name, and the held value
# to none: the fit is that of another function, converges and says success.
#
# The guess that this refutes: a held parameter stays, and the others are found beside it.
#
# Seen: a line of 10,000 counts at 661.7 keV, sigma 3 keV, gamma 0.2 / keV. All free: 10083 counts at 661.57 keV.
# With sigma held at 3: 4828 counts at 663.52 keV, gamma 1.00; with gamma held at 0.2: 9611 counts at 664.65 keV.
#
# bash findings/becquerel_fixed_parameter.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q becquerel==0.7.0 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import becquerel as bq
import numpy as np

# A line at 661.7 keV, sigma 3 keV, with a tail of 5 keV (gamma = 0.2 / keV), on a flat continuum.
rng = np.random.default_rng(1)
line = rng.normal(661.7, 3.0, 10_000) + rng.exponential(5.0, 10_000)
edges = np.arange(600.0, 741.0)
spectrum = np.histogram(np.concatenate([line, rng.uniform(600.0, 740.0, 14_000)]), edges)[0]
truth = {"amp": 10_000.0, "mu": 661.7, "sigma": 3.0, "gamma": 0.2}


def fit(*held):
    """The line's values and -log L, with these parameters held at the truth."""
    fitter = bq.Fitter(
        ["constant", "expgauss"],
        x=0.5 * (edges[1:] + edges[:-1]),
        y=spectrum,
        y_unc=np.maximum(np.sqrt(spectrum), 1),
    )
    start = {"constant_c": 100.0}
    for name, value in truth.items():
        if name in held:
            fitter.set_param(f"expgauss_{name}", "value", value)
            fitter.set_param(f"expgauss_{name}", "vary", False)
        else:
            start[f"expgauss_{name}"] = value
    fitter.fit(backend="minuit-pml", guess=start)
    assert fitter.success
    values = {name.split("_")[1]: float(x) for name, x in fitter.best_values.items()}
    print(f"held {held}:", ", ".join(f"{name} {x:.2f}" for name, x in values.items()), end="")
    print(f", -log L {fitter.result.fval:.0f}")
    return values, fitter.result.fval


(free, least), (of_sigma, sigma_held), (of_gamma, gamma_held) = fit(), fit("sigma"), fit("gamma")
assert abs(free["amp"] - 10_000) < 500 and abs(free["mu"] - 661.7) < 0.5
assert of_sigma["amp"] < 6000 and of_gamma["mu"] > 664
assert min(sigma_held, gamma_held) > least + 100  # at the truth it would be above it by 1 or so
EOF
