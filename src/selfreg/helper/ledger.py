"""What is left of the budget: charged once a step, never overspent."""

from __future__ import annotations

import operator
import threading
from collections.abc import Hashable, Iterable, Sequence


class Ledger:
    """Budgets of one run (or of many that share them), safe to use from several threads.

    Parameters
    ----------
    limits : int or sequence of int
        What may be spent of each budget; one int stands for one budget.

    Raises
    ------
    TypeError
        A limit or cost is not a whole number.
    ValueError
        A limit or cost is negative, or there is not one cost for each budget.

    Examples
    --------
    >>> ledger = Ledger(2)
    >>> ledger.charge("run-1", 0, 1), ledger.charge("run-1", 0, 1), ledger.left
    (True, True, (1,))
    >>> ledger.charge("run-1", 1, 2), ledger.left
    (False, (1,))
    """

    def __init__(self, limits: int | Sequence[int]) -> None:
        self._limits = units(limits, "limits")
        self._left = self._limits
        self._charges: dict[tuple[Hashable, Hashable], tuple[tuple[int, ...], bool]] = {}
        self._lock = threading.Lock()

    @property
    def limits(self) -> tuple[int, ...]:
        """What may be spent of each budget in all."""
        return self._limits

    @property
    def left(self) -> tuple[int, ...]:
        """What is left of each budget now."""
        with self._lock:
            return self._left

    def charge(self, run_id: Hashable, step_id: Hashable, cost: int | Sequence[int]) -> bool:
        """Pay `cost` for a step, once: a repeated call for the same step gets the first answer and pays nothing.

        Parameters
        ----------
        run_id, step_id : hashable
            Together the identity of the step that is paid for.
        cost : int or sequence of int
            Units of each budget.

        Returns
        -------
        bool
            False where the cost is more than what is left of any budget; nothing is paid then.

        Raises
        ------
        TypeError, ValueError
            As for the limits, and ValueError where the step was charged before at another cost.
        """
        spent, key = units(cost, "cost"), (run_id, step_id)
        if len(spent) != len(self._limits):
            raise ValueError(
                f"cost {spent} has {len(spent)} entries; expected one for each of {len(self._limits)} budgets"
            )
        with self._lock:
            if key in self._charges:
                before, answer = self._charges[key]
                if before != spent:
                    raise ValueError(f"step {key} was charged {before} before; it cannot be charged {spent} now")
                return answer
            left = tuple(have - unit for have, unit in zip(self._left, spent, strict=True))
            answer = min(left) >= 0
            self._charges[key] = spent, answer
            if answer:
                self._left = left
            return answer

    def __repr__(self) -> str:
        return f"Ledger(limits={self._limits}, left={self.left})"


def units(value: int | Sequence[int], name: str) -> tuple[int, ...]:
    """`value` as one whole nonnegative number for each budget."""
    entries = tuple(value) if isinstance(value, Iterable) else (value,)
    if not entries:
        raise ValueError(f"{name} is empty; expected one entry for each budget")
    try:
        if any(isinstance(entry, bool) for entry in entries):
            raise TypeError
        whole = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected whole numbers") from None
    if min(whole) < 0:
        raise ValueError(f"{name} is {value!r}; expected no negative number")
    return whole
