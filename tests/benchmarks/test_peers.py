"""Other people's solvers agree with ours: the extra `bench`, which `make test-long` installs."""

from __future__ import annotations

import numpy as np
import pytest

import selfreg
from benchmarks import peers
from benchmarks.instances import Instance, cyclic, layered

pytestmark = pytest.mark.long


def check(instance: Instance, peer: peers.Peer) -> None:
    try:
        call = peer.prepare(instance)
    except ImportError:
        pytest.skip(f"{peer.name} is missing (extra 'bench')")
    theirs, ours = call(), selfreg.solve(instance.mdp, instance.budget)
    answered = ~np.isnan(theirs)
    assert answered.any()
    assert np.abs(theirs - ours.value)[answered].max() <= peer.tolerance + ours.bound


@pytest.mark.parametrize("peer", [peers.QUANTECON, peers.MDPTOOLBOX, peers.STORM], ids=lambda peer: peer.name)
@pytest.mark.parametrize("seed", range(3))
def test_models_without_cycles(peer, seed) -> None:
    check(layered("small", 300, 6, budget=3, seed=seed), peer)


@pytest.mark.parametrize("peer", [peers.QUANTECON, peers.MDPTOOLBOX, peers.STORM], ids=lambda peer: peer.name)
@pytest.mark.parametrize("seed", range(3))
def test_models_with_cycles(peer, seed) -> None:
    check(cyclic("small", 100, budget=2, seed=seed), peer)
