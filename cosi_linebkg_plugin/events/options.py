"""How events are binned and selected: every option, declared once.

The configuration's section ``binning``, the arguments of ``cosi-linebkg bin`` and the keywords of
`bin_events` are made from these fields. What they amount to, checked and in numbers, is a
`plan.BinningPlan`, which is imported with the numerics on first use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..options import about

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..histograms.axis import EventAxes
    from ..histograms.orientation import Livetime
    from .plan import BinningPlan
    from .rules import Binning


@dataclass(frozen=True, kw_only=True)
class BinningOptions:
    """How events are binned and selected; the fields are keywords of `bin_events`.

    Everything is checked when it is made; nothing is read but the files of `good_times` and
    `orientation`.
    """

    energy_edges: Any = field(
        metadata=about(
            'Edges of the Em axis: numbers, "low:high:width" or "low:high:Nbins".',
            "spaced",
            "keV",
            accepts='array_like, shape (n + 1,), keV; Quantity; "low:high:width", "low:high:Nbins"',
        )
    )
    nside: int = field(metadata=about("Of the PsiChi axis, a power of 2.", "count"))
    phi_edges: Any = field(default=None, metadata=about("Edges of the Phi axis.", "edges", "deg"))
    phi_pix_size: Any = field(
        default=None,
        metadata=about(
            "Width of a Phi bin, instead of edges: 180 deg are divided into int(180 / width) bins.",
            "width",
            "deg",
        ),
    )
    scheme: str = field(
        default="ring",
        metadata=about("Order of the pixels of PsiChi.", "choice", choices=("ring", "nested")),
    )
    frame: str = field(
        default="galactic",
        metadata=about(
            "Of PsiChi: from the columns Chi galactic and Psi galactic, or Chi local and Psi "
            "local.",
            "choice",
            choices=("galactic", "spacecraftframe"),
        ),
    )
    time_edges: Any = field(
        default=None, metadata=about("Edges of a Time axis, Unix time.", "edges", "s")
    )
    time_bins: Any = field(
        default=None,
        metadata=about(
            "Makes a Time axis: the width of a bin between tmin and tmax, of which there is a "
            "whole number; in Python also edges, as in cosipy's configuration.",
            "duration",
            "s",
            accepts="float, s, or array_like, optional",
        ),
    )
    tmin: Any = field(default=None, metadata=about("First time, Unix time.", "number", "s"))
    tmax: Any = field(
        default=None,
        metadata=about("End of the time, Unix time; itself outside.", "number", "s"),
    )
    scatt_bins: int | None = field(
        default=None,
        metadata=about(
            "Makes a ScAtt axis of this many bins instead of Time; the bin number of each event is "
            "in the column scatt_column.",
            "count",
        ),
    )
    scatt_column: str = field(
        default="ScAtt", metadata=about("Column of the events' ScAtt bins.", "text")
    )
    energy_range: Any = field(
        default=None, metadata=about("Take events with energies in [low, high).", "range", "keV")
    )
    phi_range: Any = field(
        default=None, metadata=about("Take events with Phi in [low, high).", "range", "deg")
    )
    distance_range: Any = field(
        default=None,
        metadata=about(
            "Take events with a distance between the first two interactions in [low, high).",
            "range",
            "cm",
        ),
    )
    good_times: Any = field(
        default=None,
        metadata=about(
            "Take events in these intervals [start, stop), Unix time: a list, a text file with two "
            "columns, or FITS with a table GTI.",
            "intervals",
            "s",
            accepts="array_like, shape (n, 2), s; or path, optional",
        ),
    )
    pointing: Any = field(
        default=None,
        metadata=about(
            "Take events while the z axis lies within radius of this galactic direction.",
            "cone",
            "deg",
        ),
    )
    orientation: Any = field(
        default=None,
        metadata=about(
            "Orientation file (.ori or FITS), for the livetime of the selected times. Without "
            "another limit, its first and last time are tmin and tmax.",
            "file",
        ),
    )

    def __post_init__(self) -> None:
        _ = self.binning, self.intervals

    @cached_property
    def plan(self) -> BinningPlan:
        """The same, checked and in numbers."""
        from .plan import BinningPlan

        return BinningPlan(self)

    @property
    def binning(self) -> Binning:
        """Axes and selections, as the sums take them."""
        return self.plan.binning

    @property
    def intervals(self) -> NDArray[np.float64] | None:
        """The times that are selected, shape (n, 2), s; None if nothing limits them."""
        return self.plan.intervals

    @property
    def livetime(self) -> Livetime | None:
        """From the orientation file, for the selected times."""
        return self.plan.livetime

    @property
    def notes(self) -> tuple[str, ...]:
        """Where the bins differ from what was asked for, as they do in cosipy."""
        return self.plan.notes

    def axes(self) -> EventAxes:
        """As cosipy makes them: [Time or ScAtt,] Em, Phi, PsiChi."""
        return self.plan.axes()


@dataclass(frozen=True, kw_only=True)
class BinningJob(BinningOptions):
    """`BinningOptions` and how the work is done: the keywords of `bin_events`."""

    scheduler: Any = field(
        default=None,
        metadata=about(
            "Work in parallel, with dask: threads, processes, or the address of a "
            "dask.distributed cluster. None: this process alone.",
            "scheduler",
            accepts='"threads", "processes", an address or dask.distributed.Client, optional',
            # a cluster's messages may run code here: its address is given by hand, never by a file
            choices=("threads", "processes"),
        ),
    )
    workers: int | None = field(
        default=None, metadata=about("How many threads or processes.", "count", limits=(1, None))
    )
    progress: Any = field(
        default=None,
        metadata=about("Is told how many events are done.", "python", accepts="Progress, optional"),
    )
