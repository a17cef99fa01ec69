"""Event lists on disk: unbinned FITS and HDF5 files, read in blocks of a few columns."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from glob import glob, has_magic
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, FileError, LineBackgroundError
from ..histograms.axes import HISTOGRAM
from ..io.guard import brief, is_plain, listed, plain_unit, reading, require_file
from ..io.hdf5 import DEFLATE, REAL, opened, require_stored
from ..io.time_header import KEYWORDS, TimeReference, time_reference
from ..units import factor

if TYPE_CHECKING:
    import h5py


def _module(fast: str, standard: str) -> Any:
    try:
        return import_module(fast)
    except ImportError:
        return import_module(standard)


#: isal's modules do what the standard library's do, in two thirds of the time.
gzip = _module("isal.igzip", "gzip")

deflate = _module("isal.isal_zlib", "zlib")

#: A path, a pattern, a folder, or several of these.
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

#: Endings of the files that a folder is searched for.
ENDINGS = (".fits", ".fits.gz", ".hdf5", ".h5")

#: Events read at once: 1 MB per column.
BLOCK = 1 << 17

#: Blocks that are read ahead.
_AHEAD = 6

#: Columns of some events, by name.
Block = dict[str, NDArray[np.float64]]

#: The columns of an event list and their units; what says no unit is in these. Times are Unix
#: times unless the header says what they are (`io.time_header`).
COLUMNS = {
    "Energies": "keV",
    "TimeTags": "s",
    "Phi": "rad",
    "Chi local": "rad",
    "Psi local": "rad",
    "Chi galactic": "deg",
    "Psi galactic": "deg",
    "Distance": "cm",
    "Zpointings": "rad",
}

#: Columns that some files write with what they hold in brackets: "Zpointings (glon,glat)".
_BRACKETS = re.compile(r"\s*\([^)]*\)\s*$")

_GZIP, _HDF5, _FITS = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", b"SIMPLE  ="

_FITS_BLOCK = 2880

_HDF5_DEFLATE = 1  # the number of HDF5's gzip filter

_UNPACKERS = min(os.cpu_count() or 1, 4)

_STREAM_ERRORS: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, deflate.error)

#: Bytes of a FITS header, of a row (ours have some 120), and of rows read at once.
_MAX_HEADER, _MAX_ROW, _MAX_ROWS = 1000 * _FITS_BLOCK, 1 << 20, 1 << 27

_MAX_COLUMNS = 999  # says the standard


@dataclass(frozen=True)
class EventFile:
    """An event list whose header has been read.

    Attributes
    ----------
    path : Path
    n_events : int
    columns : Mapping of str to str
        Names as in `COLUMNS` (others as they are) to the names in the file.
    divisible : bool
        True if reading may start anywhere: False for a compressed FITS file.
    """

    path: Path
    n_events: int
    columns: Mapping[str, str]
    divisible: bool
    _table: _Table | None  # of a FITS file
    _times: TimeReference | None = None  # None: they are Unix times in s

    def require(self, names: Iterable[str]) -> None:
        """Refuse the file if one of these columns is missing."""
        missing = [repr(name) for name in names if name not in self.columns]
        if missing:
            found = listed(repr(name) for name in self.columns)
            raise DataError(
                f"{self.path} lacks the column(s) {', '.join(missing)}; it has {found}. "
                "Give unbinned events as cosipy writes them, or options that need no such column."
            )

    def blocks(
        self, names: Sequence[str], start: int = 0, stop: int | None = None, size: int = BLOCK
    ) -> Iterator[Block]:
        """Read these columns block by block.

        Parameters
        ----------
        names : sequence of str
            Keys of `columns`.
        start, stop : int
            The first event, and the one after the last; None is the end.
        size : int
            Events in a block.

        Yields
        ------
        dict of str to ndarray, shape (n,) or (n, 2)
            In the units of `COLUMNS`.

        Raises
        ------
        FileError
            A file that is truncated or damaged; says how many of its events could be read.
        """
        stop = self.n_events if stop is None else stop
        read = self._read_hdf5 if self._table is None else self._read_fits
        done = start
        blocks = read(names, start, stop, size)
        while done < stop:
            try:
                block = next(blocks)
            except StopIteration:
                raise self._damaged(done, "the file ends there") from None
            except LineBackgroundError:
                raise
            except Exception as error:  # libraries answer damage with nearly any
                raise self._damaged(done, error) from error
            done += len(next(iter(block.values())))
            if self._times is not None and "TimeTags" in block:
                block["TimeTags"] = self._times.unix(block["TimeTags"])
            yield block
        try:
            next(blocks, None)  # what is checked after the last event
        except _STREAM_ERRORS as error:
            raise self._damaged(done, error) from error

    def _damaged(self, done: int, reason: Any) -> FileError:
        return FileError(
            f"{self.path} is truncated or damaged: {done} of its {self.n_events} events could be "
            f"read, then: {brief(reason)}. Copy or write it again."
        )

    def _read_hdf5(self, names: Sequence[str], start: int, stop: int, size: int) -> Iterator[Block]:
        with opened(self.path) as file, ThreadPoolExecutor(_UNPACKERS) as pool:
            columns = {name: _Dataset(file[self.columns[name]], name) for name in names}
            step = max(column.chunk for column in columns.values())
            step = max(size // step, 1) * step  # no chunk is unpacked twice
            waiting: list[dict[str, Callable[[], Any]]] = []
            low = start
            while low < stop:
                high = min(low - low % step + step, low + size, stop)
                rows = {name: column.rows(low, high, pool) for name, column in columns.items()}
                waiting.append(rows)  # one block is unpacked while the last is handed out
                if len(waiting) > 1:
                    yield {name: unpacked() for name, unpacked in waiting.pop(0).items()}
                low = high
            for rows in waiting:
                yield {name: unpacked() for name, unpacked in rows.items()}

    def _read_fits(self, names: Sequence[str], start: int, stop: int, size: int) -> Iterator[Block]:
        table = self._table
        assert table is not None
        with _stream(self.path) as stream:
            stream.seek(table.offset + start * table.dtype.itemsize)
            size = max(min(size, _MAX_ROWS // table.dtype.itemsize, stop - start), 1)
            raw = bytearray(size * table.dtype.itemsize)  # for all blocks: columns are copied
            for low in range(start, stop, size):
                n_wanted = min(low + size, stop) - low
                n_read, problem = _read_into(stream, raw, n_wanted * table.dtype.itemsize)
                n_whole = n_read // table.dtype.itemsize
                if n_whole:
                    rows = np.frombuffer(raw, table.dtype, n_whole)
                    keys = {name: self.columns[name] for name in names}
                    yield {
                        name: _doubles(rows[key].astype(np.float64), *table.scales[key])
                        for name, key in keys.items()
                    }
                if n_whole < n_wanted:
                    if problem is not None:
                        raise problem
                    return
            if stop == self.n_events:  # a damaged gzip file shows in the checksum at its end
                while not self.divisible and stream.read(1 << 20):
                    pass


class ReadAhead:
    """Blocks of files, one after the other, that a thread reads and unpacks from now on.

    Parameters
    ----------
    files : list of EventFile
    names : sequence of str
        Columns.
    start, stop : int
        The range of events in each file; None is its end.
    """

    def __init__(
        self, files: list[EventFile], names: Sequence[str], start: int = 0, stop: int | None = None
    ) -> None:
        self._blocks = (block for file in files for block in file.blocks(names, start, stop))
        self._reader = ThreadPoolExecutor(1)
        self._ahead = deque(self._next() for _ in range(_AHEAD))

    def _next(self) -> Future[Block | None]:
        return self._reader.submit(next, self._blocks, None)

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown(cancel_futures=True)
        self._blocks.close()  # and the file that was being read, should an error end the work

    def __iter__(self) -> Iterator[Block]:
        while (block := self._ahead.popleft().result()) is not None:
            self._ahead.append(self._next())
            yield block


@dataclass(frozen=True)
class _Table:
    """Where the rows of a FITS table begin, and what they hold."""

    offset: int
    dtype: np.dtype
    #: Per column what takes its values to the unit of COLUMNS: value * factor + zero.
    scales: Mapping[str, tuple[float, float]]


class _Dataset:
    """A column of an HDF5 file.

    HDF5 unpacks one chunk after the other. Packed as cosipy packs them, chunks are unpacked here
    instead, by several threads.
    """

    def __init__(self, dataset: h5py.Dataset, name: str) -> None:
        self._dataset = dataset
        self._factor = _factor(name, dataset.attrs.get("unit"))
        self.chunk = dataset.chunks[0] if dataset.chunks else 1
        filters = dataset.id.get_create_plist()
        self._gzip_only = (
            dataset.ndim == 1
            and filters.get_nfilters() == 1
            and filters.get_filter(0)[0] == _HDF5_DEFLATE
        )

    def rows(self, low: int, high: int, pool: ThreadPoolExecutor) -> Callable[[], Any]:
        """What returns the rows, shape (high - low,) or (high - low, 2); `pool` unpacks them."""
        if not self._gzip_only:
            return lambda: _doubles(self._dataset[low:high], self._factor)
        return pool.submit(self._unpacked, low, high).result

    def _unpacked(self, low: int, high: int) -> NDArray[np.float64]:
        from h5py._objects import phil

        dtype = self._dataset.dtype
        size = self.chunk * dtype.itemsize
        values = np.empty(high - low)
        for begin in range(low - low % self.chunk, high, self.chunk):
            with phil:  # h5py before 3.16 calls HDF5 here without its own lock, and crashes
                skipped, raw = self._dataset.id.read_direct_chunk((begin,))
            # a chunk that did not get smaller is stored as it is
            if not skipped:
                raw = _inflated(raw, size)
            if len(raw) != size:
                raise OSError(f"a chunk of {self.chunk} events does not unpack to as many")
            chunk = np.frombuffer(raw, dtype)
            first, last = max(begin, low), min(begin + self.chunk, high)
            values[first - low : last - low] = chunk[first - begin : last - begin]
        return _doubles(values, self._factor)


def _inflated(raw: bytes, size: int) -> bytes:
    """A packed chunk unpacked, to `size` bytes if it is whole, and never to much more."""
    if len(raw) * DEFLATE <= _MAX_ROWS:
        return bytes(deflate.decompress(raw, bufsize=size))
    unpacker = deflate.decompressobj()  # slower, but stops
    unpacked = bytes(unpacker.decompress(raw, size + 1))
    if not unpacker.eof:
        raise OSError("a chunk has no end")
    return unpacked


# ---------------------------------------------------------------------------- finding, opening


def find_event_files(paths: Paths) -> list[Path]:
    """The files that a path, a glob, a folder or a list of these stands for, each once.

    Raises
    ------
    FileError
        A path that leads to no file, or a file that is given twice.
    """
    found: list[Path] = []
    for item in [paths] if isinstance(paths, str | os.PathLike) else list(paths):
        if not isinstance(item, str | os.PathLike):
            raise FileError(f"Events must be paths of event lists, got {item!r}.")
        found += _files_of(item)
    if not found:
        raise FileError("No event list is given; give the path of one file at least.")
    seen: dict[Path, Path] = {}
    for path in found:
        first = seen.setdefault(path.resolve(), path)
        if first is not path:
            raise FileError(
                f"{path} is given twice (also as {first}): its events would count twice. "
                "Leave one of them out."
            )
    return found


def _files_of(item: str | os.PathLike[str]) -> list[Path]:
    path = Path(item)
    if is_plain(path):
        return [path]
    if os.path.isdir(path):
        files = sorted(p for p in path.iterdir() if p.name.endswith(ENDINGS) and p.is_file())
        if not files:
            raise FileError(f"The folder {path} holds no file that ends in {', '.join(ENDINGS)}.")
        return files
    if has_magic(str(item)):
        if str(item).count("**") > 1:  # the time that takes grows with the power of their number
            raise FileError(f"The pattern {item} has more than one **; give one at most.")
        files = [Path(p) for p in sorted(glob(str(item), recursive=True)) if Path(p).is_file()]
        if not files:
            raise FileError(f"No file matches {item}; correct the pattern.")
        return files
    return [require_file(path, "give an event list, a pattern or a folder.")]


def open_event_file(path: str | os.PathLike[str]) -> EventFile:
    """Read the header of an event list; its kind is told by its contents, not by its name.

    Raises
    ------
    FileError
        If the file is missing, of another kind, truncated or damaged.
    DataError
        If it holds no events, or columns that cannot be read.
    """
    path = require_file(path, "give the path of an event list.")
    what = "is truncated or damaged: none of its events could be read"
    with reading(path, what, "Copy or write it again."):
        with open(path, "rb") as file:
            begin = file.read(len(_FITS))
        if begin.startswith(_HDF5):
            return _open_hdf5(path)
        if begin.startswith(_GZIP):
            with gzip.open(path) as file:
                begin = file.read(len(_FITS))
        if begin == _FITS:
            return _open_fits(path)
    cure = "Give events in FITS or HDF5, as cosipy writes them."
    if ".tra" in path.name:
        cure = "This is a .tra file: let cosipy's UnBinnedData.read_tra turn it into FITS or HDF5."
    raise FileError(f"{path} is neither a FITS nor an HDF5 file. {cure}")


def _open_hdf5(path: Path) -> EventFile:
    import h5py

    with opened(path) as file:
        datasets = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        columns = {_plain(name): name for name in datasets}
        if not datasets or "Energies" not in columns:
            what = "is a histogram already" if HISTOGRAM in file else "holds no events"
            raise DataError(
                f"{path} {what}: it lacks the dataset 'Energies', and holds {listed(file)}. "
                "Give unbinned events."
            )
        lengths = {name: d.shape[0] if d.shape else 0 for name, d in datasets.items()}
        columns = {
            plain: name
            for plain, name in columns.items()
            if plain in COLUMNS or (datasets[name].ndim == 1 and datasets[name].dtype.kind in REAL)
        }
        for plain, name in columns.items():
            require_stored(datasets[name], path)
            _require_column(plain, datasets[name].dtype, datasets[name].shape[1:], path)
            _factor(plain, datasets[name].attrs.get("unit"), path)
        times = None
        if "TimeTags" in columns:
            dataset = datasets[columns["TimeTags"]]
            times = _times(path, dataset.attrs.get("unit"), file.attrs, dataset.attrs)
    n_events = lengths[columns["Energies"]]
    for name in columns.keys() & COLUMNS.keys():
        if lengths[columns[name]] != n_events:
            raise DataError(
                f"{path}: its columns differ in length: 'Energies' has {n_events} events, "
                f"{name!r} {lengths[columns[name]]}. Write the file again."
            )
    columns = {name: key for name, key in columns.items() if lengths[key] == n_events}
    return EventFile(path, n_events, columns, True, None, times)


def _require_column(name: str, dtype: np.dtype, shape: tuple[int, ...], path: Path) -> None:
    """Refuse a column of ours that holds anything but a real number (or two) for each event."""
    wanted = (2,) if name.endswith("pointings") else ()
    if name in COLUMNS and (dtype.kind not in REAL or shape != wanted):
        raise DataError(
            f"{path}: the column {name!r} holds {brief(dtype)} of shape {shape} for each event; "
            f"{'two real numbers' if wanted else 'one real number'} are needed. Write events as "
            "cosipy does."
        )


def _open_fits(path: Path) -> EventFile:
    from astropy.io import fits

    with _stream(path) as stream:
        primary = _header(stream)
        stream.seek(stream.tell() + _data_bytes(primary))
        begin = stream.read(_FITS_BLOCK)
        if not begin:
            raise DataError(f"{path} holds no table after its primary header.")
        header = _header(stream, begin)
        offset = stream.tell()
    if header.get("XTENSION") != "BINTABLE":
        raise DataError(
            f"{path}: its first extension is {header.get('XTENSION')!r}; events are a BINTABLE."
        )
    row, n_events, n_columns = (header[key] for key in ("NAXIS1", "NAXIS2", "TFIELDS"))
    if not all(type(n) is int and n >= 0 for n in (row, n_events, n_columns)) or (
        row > _MAX_ROW or n_columns > _MAX_COLUMNS
    ):
        raise DataError(
            f"{path}: its header says {n_events} rows of {row} bytes, {n_columns} columns; an "
            f"event has up to {_MAX_ROW} bytes in {_MAX_COLUMNS} columns. Write the file again."
        )
    for key in header["TUNIT*"]:
        plain_unit(header[key])
    layout = fits.BinTableHDU.fromstring(header.tostring().encode()).columns
    scales = {
        column.name: _scale(column.name, column.unit, column.bscale, column.bzero, path)
        for column in layout
    }
    columns = {_plain(name): name for name in layout.names}
    table = _Table(offset, layout.dtype.newbyteorder(">"), scales)
    if table.dtype.itemsize != row or row == 0:
        raise DataError(
            f"{path}: its columns take {table.dtype.itemsize} bytes a row, but its header says "
            f"{row}. Write the file again."
        )
    for name, key in columns.items():
        field = table.dtype[key]
        _require_column(name, field.base, field.shape, path)
    numbers = {
        name: key
        for name, key in columns.items()
        if name in COLUMNS or (table.dtype[key].kind in REAL and not table.dtype[key].shape)
    }
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP
    times = None
    if "TimeTags" in numbers:
        times = _times(path, layout[numbers["TimeTags"]].unit, primary, header)
    events = EventFile(path, n_events, numbers, not compressed, table, times)
    size = path.stat().st_size
    if not compressed and n_events * row > size - offset:
        raise events._damaged(max(size - offset, 0) // row, "the file ends there")
    if n_events * row > size * DEFLATE:
        raise events._damaged(0, f"so many cannot be in a file of {size} bytes")
    return events


def _header(stream: IO[bytes], begin: bytes = b"") -> Any:
    """The next header of a FITS file, whose first block may have been read."""
    from astropy.io import fits

    raw, n_bytes = [], 0
    block = begin or stream.read(_FITS_BLOCK)
    while n_bytes < _MAX_HEADER:
        if len(block) < _FITS_BLOCK:
            raise EOFError("the file ends in a header")
        raw.append(block)
        n_bytes += _FITS_BLOCK
        if any(block[i : i + 8] == b"END     " for i in range(0, _FITS_BLOCK, 80)):
            return fits.Header.fromstring(b"".join(raw))
        block = stream.read(_FITS_BLOCK)
    raise ValueError(f"a header has no end in {_MAX_HEADER} bytes")


def _scale(
    name: str, unit: str | None, bscale: float | str | None, bzero: float | str | None, path: Path
) -> tuple[float, float]:
    factor = _factor(_plain(name), unit, path)
    # astropy has "" for what the header does not say
    scale = 1.0 if bscale is None or bscale == "" else float(bscale)
    zero = 0.0 if bzero is None or bzero == "" else float(bzero)
    return factor * scale, factor * zero


def _data_bytes(header: Mapping[str, Any]) -> int:
    """Bytes of the data after a header, padding included."""
    n_axes = header["NAXIS"]
    if n_axes == 0:
        return 0
    n_values = math.prod(header[f"NAXIS{i + 1}"] for i in range(min(n_axes, 999)))
    n_bytes: int = abs(header["BITPIX"]) // 8 * header.get("GCOUNT", 1)
    n_bytes *= header.get("PCOUNT", 0) + n_values
    if not 0 <= n_bytes < 1 << 50:
        raise ValueError(f"its primary header says {n_bytes} bytes of data")
    return -(-n_bytes // _FITS_BLOCK) * _FITS_BLOCK


def _plain(name: str) -> str:
    return _BRACKETS.sub("", name)


def _times(path: Path, unit: object, *headers: Mapping[str, Any]) -> TimeReference | None:
    """How TimeTags count, by headers of which the last comes first; None: Unix times in s."""
    known = {
        key: value.decode() if isinstance(value, bytes) else value
        for header in headers
        for key, value in ((key, header[key]) for key in KEYWORDS if key in header)
    }
    times = time_reference(known, unit, f"{path}: the column 'TimeTags'")
    return None if times.changes_nothing else times


def _factor(name: str, unit: Any, path: Path | None = None) -> float:
    """What takes a column in this unit to its unit in COLUMNS; times are left to `_times`."""
    wanted = COLUMNS.get(name) if name != "TimeTags" else None
    if wanted is None or (isinstance(unit, str | None) and unit in (None, "", wanted)):
        return 1.0
    try:
        return factor(plain_unit(unit), wanted)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the column {name!r} has the unit {brief(unit)!r}, which does not convert to "
            f"{wanted}. Correct its unit."
        ) from error


# ---------------------------------------------------------------------------- reading


def _stream(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        compressed = file.read(2) == _GZIP
    return gzip.open(path) if compressed else open(path, "rb")


def _read_into(stream: IO[bytes], raw: bytearray, n_bytes: int) -> tuple[int, Exception | None]:
    """Fill the begin of `raw`; how many bytes there were, and what ended them early."""
    done = 0
    with memoryview(raw) as view:
        try:
            while done < n_bytes:
                end = min(done + (1 << 20), n_bytes)
                got = stream.readinto(view[done:end])  # type: ignore[attr-defined]
                if not got:
                    break
                done += got
        except _STREAM_ERRORS as error:
            return done, error
    return done, None


def _doubles(values: NDArray[Any], factor: float = 1.0, zero: float = 0.0) -> NDArray[np.float64]:
    doubles = np.ascontiguousarray(values, np.float64)
    return doubles if factor == 1.0 and zero == 0.0 else doubles * factor + zero
