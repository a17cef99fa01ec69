#!/usr/bin/env bash
# radioactivedecay 0.6.1: the half-life of 60Fe is 1.5 Myr, ICRP 107's of 2008. Measured in 2009 it is 2.62 +- 0.04 Myr
# (Rugel et al., PRL 103, 072502), which was confirmed in 2015. The default data set is called
# icrp107_ame2020_nubase2020: what is of 2020 in it are masses.
#
# The guess that this refutes: a data set with nubase2020 in its name has half-lives of that time.
#
# Seen: 60Fe 1.50 Myr; after 5 Myr 9.9 % of it is left, where 2.62 Myr leaves 26.6 %. 26Al has 0.717 Myr, as it should,
# so that the ratio of the two, which gamma-ray astronomy measures, is wrong by what 60Fe is.
#
# bash findings/radioactivedecay_iron60.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q radioactivedecay==0.6.1 numpy==2.4.6 scipy==1.17.1
cd "$work"
"$work/venv/bin/python" - <<'EOF' 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
import radioactivedecay as rd

MEASURED = {"Fe-60": 2.62e6, "Al-26": 7.17e5}  # years
print("default data set:", rd.DEFAULTDATA.dataset_name)
assert "nubase2020" in rd.DEFAULTDATA.dataset_name
left = {}
for name, years in MEASURED.items():
    found = float(rd.Nuclide(name).half_life("y"))
    inventory = rd.Inventory({name: 1.0}, "Bq")
    left[name] = float(inventory.decay(5, "My").activities()[name])
    print(f"{name}: half-life {found / 1e6:.3f} Myr, measured {years / 1e6:.3f};", end=" ")
    print(f"left after 5 Myr: {left[name]:.3f}, by the measured one {0.5 ** (5e6 / years):.3f}")
assert abs(rd.Nuclide("Fe-60").half_life("y") / 1.5e6 - 1) < 0.01
assert abs(rd.Nuclide("Al-26").half_life("y") / 7.17e5 - 1) < 0.01
assert left["Fe-60"] < 0.11 < 0.26 < 0.5 ** (5e6 / MEASURED["Fe-60"])
EOF
