"""Time of the filters, against loops over healpy's own functions.

Each function asserts equal results to 1e-12 and returns rows for table.py. `smooth` does what the
loop does, into memory already in use as the loop's is; "the whole filter" is `apply_filter`, with
totals, positivity and variances, into new arrays (whose first touch is most of its time on 5,400
slices).
"""

from __future__ import annotations

from collections.abc import Callable

import healpy as hp
import numpy as np
from timing import Row, growth, in_turns

from cosi_linebkg_plugin.template.filters import Filter, apply_filter, low_pass_matrices, smooth
from cosi_linebkg_plugin.template.smoothing import choose_filter, ladder

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


def _compared(
    what: str,
    peer: str,
    loop: Callable[[np.ndarray, np.ndarray], None],
    options: Filter,
    n_time: int,
    nside: int,
    repeats: int,
    aim: float | None,
) -> list[Row]:
    """`smooth` (a time bin at a time, as `apply_filter` does) and `apply_filter` against a loop."""
    rng = np.random.default_rng(1809)
    maps = rng.poisson(3.0, (n_time, N_PHI, hp.nside2npix(nside))).astype(float)
    slices = maps.reshape(-1, maps.shape[-1])
    theirs, ours = np.zeros(maps.shape), np.zeros(maps.shape)  # touched: both write to old memory

    def smooth_all() -> None:
        for one, out in zip(maps, ours, strict=True):
            smooth(one, options, out=out)

    calls = [
        smooth_all,
        lambda: apply_filter(maps, maps, options),
        lambda: loop(slices, theirs.reshape(slices.shape)),
    ]
    filtered = [call() for call in calls][1].maps
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
    assert theirs.min() > 0
    theirs_total = maps.sum(axis=-1, keepdims=True) / theirs.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(filtered, theirs * theirs_total, rtol=1e-12)
    del filtered
    smooth_s, apply_s, healpy_s = in_turns(*calls, repeats=repeats)
    what = f"{what}, {n_time * N_PHI} slices, nside {nside}"
    return [
        Row(what, smooth_s, "s", peer, healpy_s, aim),
        Row(f"{what}: the whole filter", apply_s, "s", f"{peer}, alone", healpy_s),
    ]


def low_pass(
    n_time: int, nside: int, repeats: int, aim: float | None = None, l_cut: int = 4
) -> list[Row]:
    return _compared(
        f"l_cut = {l_cut}",
        "healpy map2alm, cut, alm2map",
        lambda maps, out: low_pass_loop(maps, out, l_cut),
        Filter(l_cut=l_cut),
        n_time,
        nside,
        repeats,
        aim,
    )


def low_pass_matrix(nside: int, repeats: int = 5, l_cut: int = 4) -> Row:
    """What is made once, before the first slice."""

    def build() -> None:
        low_pass_matrices.cache_clear()
        low_pass_matrices(nside, l_cut)

    return Row(f"l_cut = {l_cut}: the matrices, nside {nside}", *in_turns(build, repeats=repeats))


def gaussian(
    n_time: int, nside: int, repeats: int, aim: float | None = None, fwhm: float = 20.0
) -> list[Row]:
    return _compared(
        f"Gaussian, {fwhm:g} deg",
        "healpy smoothing",
        lambda maps, out: smoothing_loop(maps, out, fwhm),
        Filter(smoothing_fwhm=fwhm),
        n_time,
        nside,
        repeats,
        aim,
    )


def automatic(
    n_events: float = 2e6, nside: int = 16, repeats: int = 3, aim: float | None = None
) -> Row:
    """`smoothing: auto` against healpy on the pooled maps of the same candidates, nothing else.

    The peer does the transforms alone: no halves, totals, positivity, or scores. Equal are the
    smoothed maps of every candidate.
    """
    from bench_template import make_histogram, sideband_bins

    from cosi_linebkg_plugin.histograms.read import open_events

    events = open_events(make_histogram(1, n_events, nside))
    weights = sideband_bins().astype(float)[None]
    seen = [float(weights[0] @ events.energy_counts())]
    maps = events.halves(1809)[0].weighted_sums(weights, variances=False)[0][0][0]
    candidates = [f for f in ladder(N_PHI) if f.smoothing_fwhm or f.l_cut is not None]
    pooled = [
        np.add.reduceat(maps, np.arange(0, N_PHI, f.rebin_phi or 1), axis=0) for f in candidates
    ]

    def theirs() -> list[np.ndarray]:
        smoothed = [np.empty(p.shape) for p in pooled]
        for candidate, source, out in zip(candidates, pooled, smoothed, strict=True):
            if candidate.l_cut is None:
                smoothing_loop(source, out, candidate.smoothing_fwhm)
            else:
                low_pass_loop(source, out, candidate.l_cut)
        return smoothed

    for candidate, source, expected in zip(candidates, pooled, theirs(), strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(smooth(source, candidate), expected, atol=1e-12 * scale)
    ours, healpy_s = in_turns(lambda: choose_filter(events, weights, seen), theirs, repeats=repeats)
    what = f"smoothing: auto, {len(ladder(N_PHI))} candidates, {N_PHI} slices, nside {nside}"
    return Row(what, ours, "s", "healpy's transforms alone, the same candidates", healpy_s, aim)


def growth_with_slices(
    n_times: tuple[int, ...] = (1, 10, 90),
    nside: int = 16,
    repeats: int = 5,
    aim: float | None = None,
) -> Row:
    """The whole low-pass filter, its matrices at hand."""
    rng, calls = np.random.default_rng(1809), []
    for n_time in n_times:
        maps = rng.poisson(3.0, (n_time, N_PHI, hp.nside2npix(nside))).astype(float)
        calls.append(lambda maps=maps: apply_filter(maps, maps, Filter(l_cut=4)))
        assert calls[-1]().maps.sum() > 0.999 * maps.sum()
    slices = [n * N_PHI for n in n_times]
    return growth("l_cut, the whole filter, with slices", slices, in_turns(*calls, repeats=repeats),
                  aim)  # fmt: skip
