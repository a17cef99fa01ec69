"""What a command tells while it works."""

import io
import logging
import warnings

import pytest

from cosi_linebkg_plugin.app.terminal import LogOnly, OnTerminal, quiet_threeml, telling


def test_the_terminal_shows_events_per_second():
    from rich.console import Console
    from rich.progress import Progress

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with Progress(console=console, transient=True) as bar:
        progress = OnTerminal(bar)
        progress.say("reading events")
        progress.count(300, 1200, "events")
        bar.refresh()
        shown = screen.getvalue()
        assert "reading events" in shown and "300/1200" in shown and "events/s" in shown
        screen.truncate(0)
        progress.say("writing")
        bar.refresh()
        assert "writing" in screen.getvalue() and "events/s" not in screen.getvalue()


@pytest.fixture(autouse=True)
def warnings_as_before():
    with warnings.catch_warnings():
        yield


@pytest.mark.parametrize("quiet", [True, False])
def test_without_a_terminal_steps_go_to_the_logger_alone(capsys, caplog, quiet):
    caplog.set_level(logging.INFO, logger="cosi_linebkg_plugin")
    with telling(quiet=quiet, verbose=False) as progress:
        progress.say("reading")
        progress.count(1, 2, "events")
    assert isinstance(progress, LogOnly)
    assert [record.message for record in caplog.records] == ["reading"]
    assert capsys.readouterr() == ("", "")


def test_verbose_prints_lines_and_leaves_the_logger_as_it_was(capsys):
    logger = logging.getLogger("cosi_linebkg_plugin")
    before = (logger.level, list(logger.handlers))
    with telling(quiet=False, verbose=True) as progress:
        progress.say("reading")
        logging.getLogger("cosi_linebkg_plugin.io").warning("no locks here")
    lines = capsys.readouterr().err.splitlines()
    assert [line[9:] for line in lines] == ["reading", "no locks here"]
    assert (logger.level, list(logger.handlers)) == before


def test_a_terminal_shows_counts_of_what_is_not_events():
    from rich.console import Console
    from rich.progress import Progress

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    with Progress(console=console, transient=True) as bar:
        progress = OnTerminal(bar)
        progress.say("simulating spectra")
        progress.count(20, 200, "toys")
        bar.refresh()
        assert "20/200" in screen.getvalue() and "toys" in screen.getvalue()
        assert "toys/s" not in screen.getvalue()


def test_a_terminal_says_when_loops_are_compiled():
    """What a user waits for in the first run; nothing is said where the cache holds it."""
    import numba
    import numpy as np
    from rich.progress import Progress

    with Progress(disable=True) as bar:
        progress = OnTerminal(bar)
        progress.say("fitting")
        said = []
        show = progress.compiling
        progress.compiling = lambda now: (show(now), said.append(bar.tasks[0].description))

        @numba.njit
        def total(values):
            return np.cumsum(values)[-1]

        assert total(np.arange(4.0)) == 6.0
        assert said[0] == "fitting (compiling, once after installing)" and said[-1] == "fitting"
        said.clear()
        assert total(np.arange(4.0)) == 6.0
        assert said == []


def test_threeml_is_quieted_by_name():
    loggers = [logging.getLogger(name) for name in ("threeML", "astromodels")]
    before = [logger.level for logger in loggers]
    try:
        quiet_threeml()
        assert all(not logger.isEnabledFor(logging.WARNING) for logger in loggers)
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
