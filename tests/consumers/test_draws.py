"""Draws of simulated data sets: copies differ, a seeded original can be reproduced."""

import copy
import multiprocessing
import pickle

import dill
import numpy as np
import pytest
from drawn_numbers import numbers, send

from cosi_linebkg_plugin.consumers.draws import Draws


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda draws: pickle.loads(pickle.dumps(draws)),
        lambda draws: dill.loads(dill.dumps(draws)),
    ],
)
@pytest.mark.parametrize("seed", [None, 3, np.random.default_rng(3)])
def test_copies_draw_other_numbers(duplicate, seed):
    draws = Draws(seed)
    copies = [duplicate(draws) for _ in range(3)]
    assert len({numbers(d) for d in [draws, *copies]}) == 4


def test_copying_leaves_a_seeded_original_alone():
    draws = Draws(3)
    pickle.dumps(draws), copy.deepcopy(draws)
    assert numbers(draws) == numbers(Draws(3))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_draw_other_numbers(method):
    context = multiprocessing.get_context(method)
    draws = Draws(3)
    seen = []
    for _ in range(2):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=send, args=(draws, sender))
        process.start()
        assert receiver.poll(120), f"the process ended with {process.exitcode}, or hangs"
        seen += receiver.recv()
        process.join()
    assert len({*seen, numbers(draws)}) == 5


def test_children_are_independent_and_reproducible():
    one, two = Draws(3), Draws(3)
    family = [numbers(d) for d in [*(one.child() for _ in range(3)), one, Draws(3)]]
    again = [numbers(d) for d in [*(two.child() for _ in range(3)), two, Draws(3)]]
    assert family == again and len(set(family)) == 5
