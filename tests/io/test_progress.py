"""What is told of work that takes time."""

from progress import Told

from cosi_linebkg_plugin.io.progress import count, say


def test_what_is_told_is_handed_on_and_nobody_need_listen():
    told = Told()
    say(told, "fitting")
    count(told, 3, 10, "toys")
    say(None, "fitting")
    count(None, 3, 10)
    assert told.said == ["fitting"]
    assert told.counts == [(3, 10)] and told.what == {"toys"}
