"""Time of the filters, against loops over healpy's own functions.

Run as ``python tests/benchmarks/bench_filters.py`` with OMP_NUM_THREADS=1. Each comparison
asserts equal results to 1e-12, runs both sides warm and in turns, and prints medians. "smooth" is
what the loop does, into memory already in use as the loop's is; "apply" is the whole filter, with
totals, positivity and variances, into new arrays (whose first touch is most of its time on 5,400
slices).
"""

from __future__ import annotations

from collections.abc import Callable

import healpy as hp
import numpy as np
from timing import in_turns

from cosi_linebkg_plugin.filters import Filter, apply_filter, low_pass_matrices, smooth

N_PHI = 60


def low_pass_loop(maps: np.ndarray, out: np.ndarray, l_cut: int) -> None:
    """map2alm with three iterations, l > l_cut set to 0, alm2map; for each map."""
    nside = hp.npix2nside(maps.shape[-1])
    degree, _ = hp.Alm.getlm(3 * nside - 1)
    for one, result in zip(maps, out, strict=True):
        alm = hp.map2alm(one, iter=3, pol=False)
        alm[degree > l_cut] = 0.0
        result[:] = hp.alm2map(alm, nside, pol=False)


def smoothing_loop(maps: np.ndarray, out: np.ndarray, fwhm: float) -> None:
    for one, result in zip(maps, out, strict=True):
        result[:] = hp.smoothing(one, fwhm=np.radians(fwhm))


def compare(
    loop: Callable[[np.ndarray, np.ndarray], None],
    options: Filter,
    n_time: int,
    nside: int,
    repeats: int,
) -> dict[str, float]:
    """Loop, `smooth` (a time bin at a time, as `apply_filter` does) and `apply_filter`."""
    rng = np.random.default_rng(1809)
    maps = rng.poisson(3.0, (n_time, N_PHI, hp.nside2npix(nside))).astype(float)
    slices = maps.reshape(-1, maps.shape[-1])
    theirs, ours = np.zeros(maps.shape), np.zeros(maps.shape)  # touched: both write to old memory

    def smooth_all() -> None:
        for one, out in zip(maps, ours, strict=True):
            smooth(one, options, out=out)

    calls = [
        lambda: loop(slices, theirs.reshape(slices.shape)),
        smooth_all,
        lambda: apply_filter(maps, maps, options),
    ]
    filtered = [call() for call in calls][-1].maps
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    assert theirs.min() > 0
    theirs_total = maps.sum(axis=-1, keepdims=True) / theirs.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(filtered, theirs * theirs_total, rtol=1e-12)
    del filtered
    healpy_s, smooth_s, apply_s = in_turns(*calls, repeats=repeats)
    return {
        "healpy_ms": 1e3 * healpy_s,
        "smooth_ms": 1e3 * smooth_s,
        "apply_ms": 1e3 * apply_s,
        "ratio_smooth": healpy_s / smooth_s,
        "ratio_apply": healpy_s / apply_s,
    }


def _low_pass(n_time: int, nside: int, repeats: int) -> dict[str, float]:
    def build() -> None:
        low_pass_matrices.cache_clear()
        low_pass_matrices(nside, 4)

    (built,) = in_turns(build, repeats=5)
    result = compare(
        lambda maps, out: low_pass_loop(maps, out, 4), Filter(l_cut=4), n_time, nside, repeats
    )
    return {"build_ms": 1e3 * built, **result}


def bench_low_pass_60(repeats: int = 31) -> dict[str, float]:
    """l_cut = 4, 60 slices at nside 16."""
    return _low_pass(1, 16, repeats)


def bench_low_pass_5400(repeats: int = 7) -> dict[str, float]:
    """l_cut = 4, 5,400 slices at nside 16."""
    return _low_pass(90, 16, repeats)


def bench_low_pass_60_nside_64(repeats: int = 7) -> dict[str, float]:
    """l_cut = 4, 60 slices at nside 64."""
    return _low_pass(1, 64, repeats)


def bench_gaussian_60(repeats: int = 31) -> dict[str, float]:
    """20 deg FWHM, 60 slices at nside 16; no slower than healpy."""
    return compare(
        lambda maps, out: smoothing_loop(maps, out, 20.0),
        Filter(smoothing_fwhm=20.0),
        1,
        16,
        repeats,
    )


def main() -> None:
    for bench in (
        bench_low_pass_60,
        bench_low_pass_5400,
        bench_low_pass_60_nside_64,
        bench_gaussian_60,
    ):
        print(bench.__name__)
        for name, value in bench().items():
            print(f"  {name:28s} {value:10.4g}")


if __name__ == "__main__":
    main()
