"""The ledgers: pay once, never too much, whatever races or is killed."""

from __future__ import annotations

import pickle
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

import ledger_crowd
import numpy as np
import pytest
from crowds import open_ledger, run_crowd
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from selfreg.runtime.ledger import Ledger, SQLiteLedger
from selfreg.runtime.ledger.ledger import Entry
from selfreg.runtime.ledger.store import Transaction


def test_pays_once_for_a_step(make) -> None:
    ledger = make(3)
    assert [ledger.charge("run", 0, 2), ledger.charge("run", 0, 2), ledger.left] == [True, True, (1,)]
    assert [ledger.charge("run", 1, 2), ledger.left] == [False, (1,)]
    assert [ledger.charge("other", 0, 1), ledger.charge("run", 1, 2), ledger.left] == [True, False, (0,)]
    assert repr(ledger) == f"{type(ledger).__name__}(limits=(3,), left=(0,))"


def test_a_reservation_counts_until_it_is_settled(make) -> None:
    ledger = make((2, 5))
    assert ledger.reserve("run", 0, (1, 2))
    assert ledger.left == (1, 3)
    assert ledger.reserve("run", 0, (1, 2))
    assert ledger.entries("reserved") == [Entry("run", 0, "reserved", (1, 2))]
    assert [ledger.charge("run", 0), ledger.charge("run", 0), ledger.charge("run", 0, (1, 2))] == [True] * 3
    assert ledger.left == (1, 3)
    assert [e.status for e in ledger.entries()] == ["charged"]


def test_refusal_is_remembered(make) -> None:
    ledger = make((1, 5))
    assert not ledger.charge("run", 0, (2, 1))
    assert ledger.left == (1, 5)
    assert not ledger.reserve("run", 0, (2, 1))
    assert not ledger.refund("run", 0)


def test_a_refund_is_final(make) -> None:
    """Also a charge can be given back; messages that come late or twice change nothing."""
    ledger = make(3)
    assert not ledger.refund("run", 0)
    assert ledger.entries() == []
    ledger.reserve("run", 0, 1)
    ledger.charge("run", 1, 2)
    assert [ledger.refund("run", 0), ledger.refund("run", 1), ledger.left] == [True, True, (3,)]
    assert [ledger.refund("run", 0), ledger.reserve("run", 0, 1), ledger.charge("run", 1), ledger.left] == [
        True, False, False, (3,)
    ]  # fmt: skip
    assert ledger.reserve("run", "0, once more", 3)


def test_a_step_has_one_cost(make) -> None:
    ledger = make(9)
    ledger.reserve("run", 0, 2)
    with pytest.raises(ValueError, match=r"\('run', 0\) was reserved at cost \(2,\) before; it cannot cost \(3,\)"):
        ledger.reserve("run", 0, 3)
    with pytest.raises(ValueError, match=r"reserved \(2,\) and costs \(3,\)"):
        ledger.charge("run", 0, 3)
    with pytest.raises(ValueError, match=r"step \('run', 1\) was never reserved"):
        ledger.charge("run", 1)
    assert ledger.left == (7,)


def test_entries_come_in_the_order_of_their_first_request(make) -> None:
    ledger = make(9)
    for step in ("b", "a", "c"):
        ledger.reserve("run", step, 1)
    ledger.charge("run", "a")
    ledger.refund("run", "b")
    assert [(e.step_id, e.status) for e in ledger.entries()] == [("b", "refunded"), ("a", "charged"), ("c", "reserved")]


RUNS, STEPS = st.sampled_from(["x", "y"]), st.sampled_from([0, 1, "1"])
COSTS = st.tuples(st.integers(0, 3), st.integers(0, 3))


class Accounts(RuleBasedStateMachine):
    """Both ledgers against lists of what a plain reading of the rules says."""

    @initialize(limits=st.tuples(st.integers(0, 6), st.integers(0, 6)))
    def begin(self, limits: tuple[int, int]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.limits, self.story, self.held = limits, {}, {}
        self.path = Path(self.folder.name) / "ledger"
        self.ledgers = [Ledger(limits), SQLiteLedger(self.path, limits)]

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def left(self) -> tuple[int, ...]:
        spent = [cost for status, cost in self.story.values() if status in ("reserved", "charged")]
        return tuple(top - sum(cost[i] for cost in spent) for i, top in enumerate(self.limits))

    def all_say(self, answer: bool, method: str, *arguments: object) -> None:
        assert [getattr(ledger, method)(*arguments) for ledger in self.ledgers] == [answer, answer]

    def all_raise(self, words: str, method: str, *arguments: object) -> None:
        for ledger in self.ledgers:
            with pytest.raises(ValueError, match=words):
                getattr(ledger, method)(*arguments)

    @rule(run=RUNS, step=STEPS, cost=COSTS)
    def reserve(self, run: str, step: int | str, cost: tuple[int, int]) -> None:
        if (run, step) not in self.story:
            self.first(run, step, cost, "reserve", "reserved")
        elif self.held[run, step] != cost:
            self.all_raise("was reserved at cost", "reserve", run, step, cost)
        else:
            self.all_say(self.story[run, step][0] in ("reserved", "charged"), "reserve", run, step, cost)

    def first(self, run: str, step: int | str, cost: tuple[int, int], method: str, taken: str) -> None:
        fits = all(unit <= have for unit, have in zip(cost, self.left(), strict=True))
        self.story[run, step], self.held[run, step] = (taken if fits else "refused", cost), cost
        self.all_say(fits, method, run, step, cost)

    @rule(run=RUNS, step=STEPS, cost=COSTS)
    def charge(self, run: str, step: int | str, cost: tuple[int, int]) -> None:
        status, before = self.story.get((run, step), (None, None))
        if status is None:
            self.first(run, step, cost, "charge", "charged")
        elif status in ("charged", "refused") and cost != before:
            self.all_raise("at cost .* before", "charge", run, step, cost)
        elif status == "reserved" and any(real > held for real, held in zip(cost, before, strict=True)):
            self.all_raise("at most what was reserved", "charge", run, step, cost)
        else:
            if status == "reserved":
                self.story[run, step] = "charged", cost
            self.all_say(status in ("reserved", "charged"), "charge", run, step, cost)

    @rule(run=RUNS, step=STEPS)
    def settle(self, run: str, step: int | str) -> None:
        status, cost = self.story.get((run, step), (None, None))
        if status is None:
            self.all_raise("never reserved", "charge", run, step)
            return
        if status == "reserved":
            self.story[run, step] = "charged", cost
        if status == "charged" and cost != self.held[run, step]:
            self.all_raise("at cost .* before", "charge", run, step, self.held[run, step])
        self.all_say(status in ("reserved", "charged"), "charge", run, step)

    @rule(run=RUNS, step=STEPS)
    def refund(self, run: str, step: int | str) -> None:
        status, cost = self.story.get((run, step), (None, None))
        if status in ("reserved", "charged"):
            self.story[run, step] = "refunded", cost
        self.all_say(status in ("reserved", "charged", "refunded"), "refund", run, step)

    @rule()
    def open_again(self) -> None:
        self.ledgers[1] = SQLiteLedger(self.path)

    @invariant()
    def agree(self) -> None:
        if hasattr(self, "ledgers"):
            expected = [Entry(*key, *content) for key, content in self.story.items()]
            for ledger in self.ledgers:
                assert ledger.left == self.left()
                assert min(ledger.left) >= 0
                assert ledger.entries() == expected


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)


def test_racing_threads_neither_overspend_nor_pay_twice(make) -> None:
    """Eight threads charge the same 120 steps in different orders; 60 can be paid."""
    ledger, start = make(60), threading.Barrier(8)
    answers: list[dict[int, bool]] = [{} for _ in range(8)]

    def work(worker: int) -> None:
        steps = list(range(120))
        random.Random(worker).shuffle(steps)
        start.wait()
        for step in steps:
            answers[worker][step] = ledger.charge("run", step, 1)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.left == (0,)
    assert all(answer == answers[0] for answer in answers)
    assert sum(answers[0].values()) == 60


# (agents, kills, steps): the recorder's tests kill 500 more. Long scripts, so that kills meet new steps.
PROGRAM = ledger_crowd.__file__
KILLS = [(1, 40, 60), (8, 120, 60)]
LONG = [pytest.param(1, 2000, 1500, marks=pytest.mark.long), pytest.param(8, 8000, 1500, marks=pytest.mark.long)]


def audit(ledger: Ledger, diaries: list[list[list[str]]], limit: int, steps: int) -> None:
    """Nothing overspent, nothing paid twice, no acknowledged answer lost."""
    story = {(one.run_id, one.step_id): one for one in ledger.entries()}
    (used,) = ledger.read(lambda transaction: transaction.read_used(["[0,null,null]"]))
    assert used == sum(one.cost[0] for one in story.values() if one.status in ("reserved", "charged"))
    assert limit - 3 < used <= limit
    assert not ledger.entries("reserved"), "all scripts were walked to the end: everything is settled"
    helped, shared = set(), {}
    for agent, diary in enumerate(diaries):
        script, said = ledger_crowd.script(agent, steps), defaultdict(list)
        assert diary[-1][0] == "end"
        for word, i, answer in [line for line in diary if line[0] not in ("again", "end")]:
            run, step, _ = script[int(i)]
            status = story[run, step].status
            if word == "help":
                helped.add((run, step))
            if word == "charge" and answer == "True":
                assert status == "charged", "an answer was lost"
            if word == "refund":
                assert (status, answer) == ("refunded", "True")
            if word == "reserve":
                said[run, step].append(answer)
                if run == "shared" and not ledger_crowd.refunds(run, step):
                    assert shared.setdefault(step, answer) == answer, "agents got different answers for one step"
                assert answer == "False" or status in ("charged", "refunded"), "an answer was lost"
        for key, answers in said.items():
            assert answers == sorted(answers, reverse=True), "no step is paid for that was refused before"
            assert "True" not in answers or len(set(answers)) == 1 or ledger_crowd.refunds(*key)
    paid = sum(story[key].cost[0] for key in helped if not ledger_crowd.refunds(*key))
    assert paid <= limit, "more help was given than there was budget for"


def limit_for(agents: int, steps: int) -> int:
    """Half of what all want."""
    return agents * steps + steps // 5


@pytest.mark.parametrize(("agents", "kills", "steps"), KILLS + LONG)
def test_killed_processes_neither_overspend_nor_pay_twice(place, tmp_path, agents, kills, steps) -> None:
    """SIGKILL at random moments, many times; what was killed takes up its script where it was."""
    limit = limit_for(agents, steps)
    ledger = open_ledger(place, limit)
    audit(ledger, run_crowd(PROGRAM, place, tmp_path / "diaries", (agents, kills, steps)), limit, steps)
    if isinstance(ledger, SQLiteLedger):
        with sqlite3.connect(ledger.path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.long
@pytest.mark.parametrize(("agents", "kills"), [(1, 300), (8, 1700)])
def test_a_server_in_trouble_neither_overspends_nor_pays_twice(postgres, server_place, tmp_path, agents, kills) -> None:
    """It restarts and cuts its connections while processes are killed."""
    limit, numbers = limit_for(agents, 600), (agents, kills, 600)
    ledger = open_ledger(server_place, limit)
    diaries = run_crowd(PROGRAM, server_place, tmp_path / "diaries", numbers, postgres.make_trouble)
    audit(ledger, diaries, limit, 600)


def test_racing_to_make_the_file(tmp_path) -> None:
    made: list[object] = []

    def work(limit: int) -> None:
        try:
            made.append(SQLiteLedger(tmp_path / "ledger", limit).limits)
        except ValueError as error:
            made.append(str(error))

    threads = [threading.Thread(target=work, args=(3 + i % 2,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (limits,) = {limits for limits in made if isinstance(limits, tuple)}
    assert made.count(limits) == 4
    assert all(f"the ledger has limits {limits}" in error for error in made if isinstance(error, str))


def test_a_file_is_taken_up_where_it_was(tmp_path) -> None:
    path = tmp_path / "ledger"
    SQLiteLedger(path, 2).reserve("run", 0, 1)
    again = pickle.loads(pickle.dumps(SQLiteLedger(path)))
    assert (again.limits, again.left, again.entries("reserved")) == ((2,), (1,), [Entry("run", 0, "reserved", (1,))])
    assert SQLiteLedger(path, 2).charge("run", 0, 1)
    with pytest.raises(ValueError, match=r"the ledger has limits \(2,\); expected \(3,\)"):
        SQLiteLedger(path, 3)
    assert again.left == (1,)


def test_an_interrupted_call_changes_nothing(tmp_path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 3)

    def interrupted(transaction: Transaction) -> None:
        transaction.add_used("[0,null,null]", 2, 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger._store.write(interrupted)
    assert ledger.left == (3,)


def test_other_files_are_left_alone(tmp_path) -> None:
    other = tmp_path / "other"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE thesis (chapter)")
    before = other.read_bytes()
    with pytest.raises(ValueError, match="not a ledger of schema 2"):
        SQLiteLedger(other, 1)
    assert other.read_bytes() == before
    text = tmp_path / "text"
    text.write_text("chapter 1\n" * 1000)
    with pytest.raises(ValueError, match="not a ledger, or a damaged one"):
        SQLiteLedger(text, 1)
    ledger = SQLiteLedger(tmp_path / "ledger", 1)
    content = bytearray(ledger.path.read_bytes())
    content[100:] = b"\xff" * len(content[100:])
    ledger.path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        SQLiteLedger(ledger.path)


def test_files_that_cannot_be_had(tmp_path) -> None:
    with pytest.raises(ValueError, match="no such ledger; give its limits"):
        SQLiteLedger(tmp_path / "none")
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="an empty file; give the limits"):
        SQLiteLedger(tmp_path / "empty")
    assert SQLiteLedger(tmp_path / "empty", 2).left == (2,)
    with pytest.raises(ValueError, match="its folder does not exist"):
        SQLiteLedger(tmp_path / "nowhere" / "ledger", 1)
    with pytest.raises(ValueError, match="timeout is -1"):
        SQLiteLedger(tmp_path / "none", 1, timeout=-1)
    with pytest.raises(ValueError, match="expected at most"):
        SQLiteLedger(tmp_path / "none", 2**63)
    ledger = SQLiteLedger(tmp_path / "gone", 1)
    ledger.path.unlink()
    with pytest.raises(FileNotFoundError, match="was deleted or moved"):
        ledger.charge("run", 0, 1)
    assert not ledger.path.exists(), "a lost ledger must not come back empty"


def test_a_lock_that_is_never_released(tmp_path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 2, timeout=0.1)
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TimeoutError, match=r"locked by others for over 0\.1 s"):
        ledger.charge("run", 0, 1)
    other.execute("ROLLBACK")
    other.close()
    assert ledger.left == (2,)


FULL = """
import resource, signal, sys
from selfreg.runtime.ledger import SQLiteLedger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = SQLiteLedger(sys.argv[1], 100_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for step in range(10_000):
    try:
        ledger.charge("run", step, 1)
    except OSError as error:
        print(step, error)
        break
"""


def test_no_room_on_disk(tmp_path) -> None:
    """A limit on the size of files stands for the full disk: what was answered before is intact."""
    path = tmp_path / "ledger"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True)
    paid = int(done.stdout.split()[0])
    assert 0 < paid < 10_000
    assert str(path) in done.stdout
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ledger = SQLiteLedger(path)
    assert ledger.left == (100_000 - paid,)
    assert sum(one.cost[0] for one in ledger.entries("charged")) == paid
    assert ledger.charge("run", paid, 1)
    assert ledger.left == (100_000 - paid - 1,)


def test_numpy_integers_are_whole_numbers(make) -> None:
    ledger = make(np.array([2, 3]))
    assert ledger.charge("run", 0, np.array([1, 1]))
    assert ledger.left == (1, 2)
    assert all(type(left) is int for left in ledger.left)


@pytest.mark.parametrize("value", [1.5, "2", True, [1, 2.0], np.float64(2)])
def test_fractions_and_other_things_are_type_errors(value: object) -> None:
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(value)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected whole numbers"):
        Ledger(1).charge("run", 0, value)  # type: ignore[arg-type]


def test_negative_and_misshapen_are_value_errors(make) -> None:
    with pytest.raises(ValueError, match="limits is -1"):
        make(-1)
    with pytest.raises(ValueError, match="limits is empty"):
        make(())
    with pytest.raises(ValueError, match="cost is -1"):
        make((1, 1)).charge("run", 0, -1)
    with pytest.raises(ValueError, match="has 1 entries; expected one for each of 2 units"):
        make((1, 1)).charge("run", 0, 1)


def test_a_thread_that_waits_too_long_for_its_turn_says_so(tmp_path) -> None:
    ledger = SQLiteLedger(tmp_path / "ledger", 3, timeout=0.1)
    entered, leave = threading.Event(), threading.Event()

    def work(accounts) -> None:
        entered.set()
        leave.wait(10)

    holder = threading.Thread(target=ledger.write, args=(work,))
    holder.start()
    entered.wait(10)
    with pytest.raises(TimeoutError, match=r"locked by others for over 0\.1 s; nothing was done"):
        ledger.charge("run", 0, 1)
    leave.set()
    holder.join()
    assert ledger.charge("run", 0, 1)
