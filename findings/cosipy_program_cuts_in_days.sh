#!/usr/bin/env bash
# cosipy 0.4.3: cosi-threemlfit cuts the background to the signal's time window and half its length
# on either side. The half length is computed in seconds, and handed to astropy's Time as a bare
# number, which counts days: for a window of 200 s the background is taken from 100 days before it
# to 100 days after it.
#
# The guess that this refutes: with --tstart and --tstop the background is that of the times around
# the signal. What tells is one line of astropy's in the log ("assuming days"), which names neither.
#
# Seen: 40 days of background in bins of 100 s beside a signal of 200 s: all 34,560 bins are used,
# where 4 lie in the window that the program means.
#
# bash findings/cosipy_program_cuts_in_days.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q cosipy==0.4.3 threeML==2.6.1 astromodels==2.6.0 histpy==2.0.7 scoords==0.0.3 \
  yayc==0.0.2 astropy==8.0.2 numpy==2.5.5 scipy==1.18.1
cd "$work"
cat > config.yaml <<'EOF'
threemlfit:
  model:
    source (point source):
      position: {ra: {value: 0.0}, dec: {value: 0.0}}
      spectrum: {main: {Powerlaw: {K: {value: 1.0, unit: 1 / (keV s cm2)}, piv: {value: 1.0, unit: keV}, index: {value: -2.0}}}}
  data: {args: [signal], kwargs: {input_yaml: none}}
  background: {args: [background], kwargs: {input_yaml: none}}
  response: {args: [none]}
  sc_file: none
  cuts: {kwargs: {tstart: 1728000.0, tstop: 1728200.0}}
EOF
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
from types import SimpleNamespace

import astropy.units as u
import numpy as np
from cosipy.pipeline.task import task
from histpy import Axis, Histogram

LENGTH, BIN, START, STOP = 40 * 86400.0, 100.0, 1728000.0, 1728200.0
edges = np.arange(0.0, LENGTH + BIN, BIN)


# The program itself; its files are in memory, and it is stopped where the fit would begin.
class Cut(Exception):
    pass


def at_the_fit(signal, background, *rest):
    raise Cut(signal, background)


task.load_binned_data = lambda *files: Histogram(
    [Axis(edges * u.s, label="Time")], contents=np.ones(edges.size - 1)
)
task.load_ori = lambda file: SimpleNamespace(select_interval=lambda low, high: None)
task.get_fit_results = at_the_fit
try:
    task.cosi_threemlfit(["--config", "config.yaml"])
except Cut as cut:
    signal, background = cut.args
meant = ((edges[:-1] >= START - 100.0) & (edges[1:] <= STOP + 100.0)).sum()
print(f"signal {signal.nbins} bins; background {background.nbins} bins, {meant} in the window meant")
assert (signal.nbins, meant) == (2, 4)
assert background.nbins == edges.size - 1
EOF
