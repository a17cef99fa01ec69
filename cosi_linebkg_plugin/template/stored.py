"""How the components of a template are correlated, in its file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..histograms.write import write_array
from ..io.atomic import ForgivingFile
from ..io.hdf5 import read_whole

if TYPE_CHECKING:
    import h5py

#: Their group in a template's file; a dataset's name is the numbers of its two components.
GROUP = "products"

#: For files of versions that did not keep them.
OLD_FILE = (
    "The template's file does not hold how its components are correlated: the errors of the sum "
    "(sumw2) leave out that continuum and lines are anticorrelated, and are up to a quarter too "
    "large. Make it anew."
)


def write_products(
    path: str | os.PathLike[str] | ForgivingFile,
    products: Mapping[tuple[str, str], NDArray[Any]],
    factors: Mapping[str, float],
) -> None:
    """Write them into a template's file, with each component's map times its factor.

    Parameters
    ----------
    path : path, or what `whole_hdf5` yields
    products : mapping of (label, label) to ndarray, counts^2
    factors : mapping of label to float
        In the order of the labels.
    """
    import h5py

    number = {label: i for i, label in enumerate(factors)}
    with h5py.File(path, "a") as file:
        group = file.create_group(GROUP)
        for (a, b), product in products.items():
            name = f"{number[a]}_{number[b]}"
            write_array(group, name, product, factors[a] * factors[b], np.float32)


def read_products(
    file: h5py.File, labels: Sequence[str], shape: tuple[int, ...], path: object
) -> tuple[dict[tuple[str, str], NDArray[np.float32]], list[str]]:
    """Those of a template's file, and what a user must know where it holds none.

    Raises
    ------
    ValueError
        If they are no such arrays.
    """
    if GROUP not in file:
        return {}, [OLD_FILE] if len(labels) > 1 else []
    found = {}
    for name, dataset in file[GROUP].items():
        first, _, second = name.partition("_")
        pair = [int(i) for i in (first, second) if i.isdecimal() and int(i) < len(labels)]
        if len(pair) != 2 or getattr(dataset, "shape", None) != shape:
            raise ValueError(f"its covariances of two components ({name}) do not fit its maps")
        values = read_whole(dataset, path).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise ValueError(f"its covariances of two components ({name}) are not finite")
        found[labels[pair[0]], labels[pair[1]]] = values
    return found, []
