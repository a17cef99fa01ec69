"""Each generation of cosipy has tests of its own; those of the other are not collected beside it.

Without cosipy both are skipped, so that beside it a skip is a failure.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    _COSIPY = version("cosipy")
except PackageNotFoundError:
    _COSIPY = ""

collect_ignore_glob = []
if _COSIPY.startswith("0.3"):
    collect_ignore_glob += ["*with_cosipy_04.py"]
elif _COSIPY:
    collect_ignore_glob += ["*with_cosipy_03.py"]
