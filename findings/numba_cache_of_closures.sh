#!/usr/bin/env bash
# numba 0.68.1: a function made by a factory, which closes over another compiled function, is
# compiled anew by every process although it asks for cache=True, and each process adds a file.
#
# The guess that this refutes: cache=True means that the second process loads what the first one
# compiled, or that numba warns where it cannot (as it does for dynamic globals).
#
# Seen: three processes, no hit for the function of the factory, 3, 4, then 5 files of machine
# code. The same loop that reaches the inner function by its global name is loaded by the second.
#
# bash findings/numba_cache_of_closures.sh [PYTHON]
set -eu
python=${1:-python3.12}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/pip" install -q numba==0.68.1 numpy==2.4.6
cd "$work"
cat > loops.py <<'EOF'
from numba import njit


@njit(cache=True)
def square(x):
    return x * x


def sum_over(term):
    @njit(cache=True)
    def total(n):
        out = 0.0
        for i in range(n):
            out += term(float(i))
        return out

    return total


from_factory = sum_over(square)


@njit(cache=True)
def by_name(n):
    out = 0.0
    for i in range(n):
        out += square(float(i))
    return out
EOF
cat > run.py <<'EOF'
from loops import by_name, from_factory

assert from_factory(4) == by_name(4) == 14.0
print(sum(from_factory.stats.cache_hits.values()), sum(by_name.stats.cache_hits.values()))
EOF
export NUMBA_CACHE_DIR="$work/cache"
: > seen
for process in 1 2 3; do
  echo "$(venv/bin/python run.py) $(find cache -name '*.nbc' | wc -l)" >> seen
done
echo "hits of the factory's function, hits by name, files (one line a process):"
cat seen
printf '0 0 3\n0 1 4\n0 1 5\n' | diff - seen
