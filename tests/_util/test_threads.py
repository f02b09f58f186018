"""The number of threads is set in one place, and does not change what is learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
threadpoolctl = pytest.importorskip("threadpoolctl")

from helper_cases import QUICK, rule_examples  # noqa: E402
from selfreg._util.threads import single_thread  # noqa: E402
from selfreg.data import Step, Trajectory  # noqa: E402
from selfreg.envs.imitation import Demonstrations, ImitationConfig, train_imitation  # noqa: E402
from selfreg.helper import train_helper  # noqa: E402
from selfreg.prm import PRMConfig, train_prm  # noqa: E402

TEXTS = [f"{'red' if i % 3 else 'green'} door {i % 7} of {i % 11}" for i in range(240)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_the_block_has_one_thread_and_restores_the_others(threads) -> None:
    threads(2)
    with single_thread():
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpoolctl.threadpool_info()} == {1}
    assert torch.get_num_threads() == 2


def _prm(kind: str) -> np.ndarray:
    logs = [Trajectory(f"task {i % 20}", str(i), float(i % 3 > 0), (Step(text),)) for i, text in enumerate(TEXTS)]
    return train_prm(logs, PRMConfig(kind=kind, hidden_size=32, layers=1, epochs=2)).score(TEXTS)


def _helper(form: str) -> np.ndarray:
    helper = train_helper(rule_examples(), replace(QUICK, form=form, epochs=2))
    return helper.request_probabilities(TEXTS, np.full((len(TEXTS), 1), 2))


def _imitation(_: str) -> np.ndarray:
    policy = train_imitation(Demonstrations(TEXTS, [i % 3 for i in range(240)]), "abc", ImitationConfig(epochs=2))
    return np.array([policy.probabilities(text) for text in TEXTS])


@pytest.mark.parametrize(
    ("learn", "form"),
    [(_prm, "transformer"), (_prm, "tfidf"), (_helper, "features"), (_helper, "words"), (_imitation, "")],
)
def test_one_and_two_threads_learn_the_same(learn, form: str, threads) -> None:
    found = []
    for number in (1, 2):
        threads(number)
        with threadpoolctl.threadpool_limits(number):
            trained = learn(form)
        found.append(trained)
    np.testing.assert_array_equal(*found)
