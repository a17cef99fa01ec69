"""HDF5 files for reading: nothing outside the file is followed, nothing huge is taken on trust.

A file may be anything: its links can lead to other files, its data can lie in them, and a few
bytes can declare or unpack to terabytes. All readers of the package open HDF5 files here.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from .guard import brief, plain_unit

if TYPE_CHECKING:
    import h5py

#: Groups and datasets in a file; ours have some twenty.
MAX_OBJECTS = 10_000

#: Deflate packs zeros 1032 times; what declares more than this of the bytes that it takes in the
#: file was never written, or is packed twice to do harm.
DEFLATE = 1100

#: Bytes that a dataset which is read in blocks may hold without being stored: read in seconds.
_UNSTORED = 1 << 33

#: Bytes of a dataset or chunk that has to be in memory as a whole, and how many times the bytes
#: that it takes in the file it may be beyond that.
_WHOLE, _PACKED = 1 << 28, 200

#: Up to this size a file is searched for heaps as a whole, beyond it without its numbers.
_SEARCHED = 1 << 24

#: Kinds of dtype that are real numbers.
REAL = "iufb"


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """A file for reading, after a look at all that is in it.

    Raises
    ------
    FileError
        If data or links lead to other files, if it holds too many objects or too large chunks, or
        if the heaps of its texts are damaged.
    OSError, RuntimeError ...
        h5py's own; see `untrusted.reading`.
    """
    import h5py

    with h5py.File(path, "r") as file:
        datasets = _require_own(file, path)
        _require_sound_heaps(path, [] if file.userblock_size else datasets)
        yield file


def _require_own(file: h5py.File, path: object) -> list[h5py.Dataset]:
    """Refuse what leads out of the file, and what cannot be read in parts; return the datasets."""
    import h5py

    datasets: list[h5py.Dataset] = []
    waiting: list[h5py.Group] = [file["/"]]
    seen: set[int] = set()
    while waiting:
        group = waiting.pop()
        if len(seen) + len(group) > MAX_OBJECTS:
            raise FileError(
                f"{path} holds more than {MAX_OBJECTS} groups and datasets; give a file written by "
                "histpy, cosipy or this package."
            )
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                raise _leads_out(path, name, "is a link to another file")
            if isinstance(link, h5py.SoftLink):  # what it leads to is looked at where it is
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:  # groups may contain themselves
                continue
            seen.add(address)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                _require_own_data(item, path)
                datasets.append(item)
    return datasets


def _require_own_data(dataset: h5py.Dataset, path: object) -> None:
    if dataset.is_virtual or dataset.id.get_create_plist().get_external_count():
        raise _leads_out(path, dataset.name, "keeps its data in other files")
    if dataset.chunks and dataset.dtype.kind in REAL:
        n_bytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if n_bytes > max(_WHOLE, _PACKED * dataset.id.get_storage_size()):
            raise FileError(
                f"{path}: a chunk of {brief(dataset.name)!r} unpacks to {n_bytes / 2**30:.3g} GB. "
                "Write it with chunks of a few MB (h5repack -l CHUNK=...)."
            )


def _require_sound_heaps(path: str | os.PathLike[str], datasets: list[h5py.Dataset]) -> None:
    """Refuse damaged heaps of texts (HDF5 File Format, III.E): HDF5 does not check all of them."""
    size = os.path.getsize(path)
    regions = sorted(r for d in datasets for r in _regions(d)) if size > _SEARCHED else []
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as whole:
        begin = 0
        for low, high in [*regions, (size, size)]:
            at = whole.find(b"GCOL", begin, low)
            while at >= 0:
                if not is_sound_heap(whole, at):
                    raise FileError(
                        f"{path} is damaged: the texts that begin at byte {at} do not add up. "
                        "Write the file again."
                    )
                at = whole.find(b"GCOL", at + 4, low)
            begin = max(begin, high)


def _regions(dataset: h5py.Dataset) -> list[tuple[int, int]]:
    """First and one-past-last byte of each part of the file that holds a dataset's numbers."""
    offset = dataset.id.get_offset()
    if offset is not None:
        return [(offset, offset + dataset.id.get_storage_size())]
    found: list[tuple[int, int]] = []
    if dataset.chunks and hasattr(dataset.id, "chunk_iter"):  # from HDF5 1.14 on
        dataset.id.chunk_iter(lambda c: found.append((c.byte_offset, c.byte_offset + c.size)))
    return found


def is_sound_heap(raw: mmap.mmap | bytes, at: int) -> bool:
    """Whether the objects of a global heap collection fill it to its end.

    Parameters
    ----------
    raw : bytes of a file
    at : int
        Where the collection's signature stands. What is of another version is left to HDF5.
    """
    if len(raw) < at + 16 or raw[at + 4] != 1:
        return True
    end = at + struct.unpack_from("<Q", raw, at + 8)[0]
    here = at + 16
    while here + 16 <= min(end, len(raw)):
        index, length = struct.unpack_from("<H6xQ", raw, here)
        if index == 0:  # what is free
            return bool(here + length == end)
        here += 16 + 8 * -(-length // 8)
    return True


def _leads_out(path: object, name: object, what: str) -> FileError:
    return FileError(
        f"{path}: {brief(name)!r} {what}, which is not followed: only the file that is named is "
        "read. Copy the data into one file (h5repack, or write the histogram again)."
    )


def require_stored(dataset: h5py.Dataset, path: object) -> None:
    """Refuse a dataset that is no real numbers, or far larger than what is stored of it.

    For those that are read in blocks; a dataset may leave 8 GB to its fill value.
    """
    _require_size(dataset, path, _UNSTORED, DEFLATE)


def read_whole(dataset: Any, path: object) -> NDArray[Any]:
    """All of a dataset of real numbers; its size is bounded by what it takes in the file."""
    _require_size(dataset, path, _WHOLE, _PACKED)
    return np.asarray(dataset[()])


def read_text(dataset: Any, path: object) -> str:
    """The text that a dataset without dimensions holds."""
    if getattr(dataset, "shape", None) != ():
        raise FileError(f"{path}: {brief(getattr(dataset, 'name', dataset))!r} holds no text.")
    return str(dataset.asstr()[()])


def _require_size(dataset: Any, path: object, unstored: int, packed: int) -> None:
    name = brief(getattr(dataset, "name", dataset))
    shape, dtype = getattr(dataset, "shape", None), getattr(dataset, "dtype", None)
    if shape is None or dtype is None or dtype.kind not in REAL:
        raise FileError(
            f"{path}: {name!r} holds {'no dataset' if dtype is None else brief(dtype)}, where real "
            "numbers are needed. Write the file again."
        )
    n_bytes = math.prod(shape) * dtype.itemsize
    stored = dataset.id.get_storage_size()
    if n_bytes > max(unstored, packed * stored):
        raise FileError(
            f"{path}: {name!r} says that it holds {n_bytes / 2**30:.3g} GB, but {stored} bytes "
            "are stored. Write the file again."
        )


def unit_attribute(attributes: Any, name: str = "unit") -> str | None:
    """A unit among attributes, or None; see `untrusted.plain_unit`."""
    return plain_unit(attributes[name]) if name in attributes else None
