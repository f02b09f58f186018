"""Settings of a helper; read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from selfreg.helper.models import AUTO, KNOWN
from selfreg.prm.config import EncoderConfig


@dataclass(frozen=True)
class HelperConfig(EncoderConfig):
    """How to train a helper; settings of the encoder and its training are those of the PRM.

    Raises
    ------
    ValueError
        Naming the field that is out of range.
    """

    form: str = field(
        default=AUTO,
        metadata={
            "help": "auto: of the rules of thumb first-k, last-k, every-n and prm (a threshold on the PRM's score), "
            "and of gain, tfidf, words, trees and fitted-q, the one that is forecast to do best in new tasks; "
            "with a model, features. features: the budget enters the head, one pass for all budgets; text: "
            "the budget is written before the state; sft: a causal model writes the decision; tfidf: no "
            "transformer, a linear model of words; words: likewise, of groups of words, with those of the "
            "task blanked out; trees: boosted trees on such groups, for what only combinations say; fitted-q: "
            "such trees with labels from fitted Q iteration over the logged steps of all tasks; gain: for "
            "episodes of one decision, a regression of success with help and one without."
        },
    )
    epochs: int = field(default=24, metadata={"help": "At most this many epochs, of 32 to 160 updates each."})
    patience: int = field(
        default=6, metadata={"help": "Epochs without gain on validation tasks before training stops."}
    )
    min_count: int = field(
        default=1, metadata={"help": "Labels based on fewer visits than this weigh visits / min_count."}
    )
    rounds: int = field(
        default=2,
        metadata={
            "help": "Rounds that improve the plan's labels for what can be read off the text; 0 imitates the plan as "
            "it is."
        },
    )
    fill: bool = field(
        default=False,
        metadata={
            "help": "In rounds, an action that was never tried in a state does what it did in similar states of the "
            "task, where states have exact keys; else help changes nothing there. auto also trains its best form so."
        },
    )
    price: float | Mapping[str, float] = field(
        default=0.02,
        metadata={
            "help": "Success that each unit of help must add, or a request of each help type, by its name; else the "
            "label is to go on alone.",
            "option": None,
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (AUTO, *KNOWN)
        if self.form not in known:
            raise ValueError(f"form is {self.form!r}; expected one of {', '.join(known)}")
        for name, low in (("min_count", 1), ("rounds", 0)):
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {low}")
        if isinstance(self.price, Mapping):
            if wrong := [name for name, price in self.price.items() if not 0 <= price < float("inf")]:
                raise ValueError(
                    f"price of {wrong[0]!r} is {self.price[wrong[0]]}; expected a number >= 0 and below infinity"
                )
        elif not 0 <= self.price < 1:
            raise ValueError(f"price is {self.price}; expected a number from 0 to below 1")
