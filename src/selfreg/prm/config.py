"""Settings of a PRM, and of every encoder; read without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from selfreg.prm.calibration import CALIBRATIONS

TRANSFORMER = "transformer"
KINDS = (TRANSFORMER, "constant", "step", "tfidf", "embedding")
TARGETS = ("outcomes", "labels", "both")
# Attention heads of an encoder trained from scratch.
HEADS = 2
# Share of tasks for early stopping and calibration.
VALIDATION_SHARE = 0.15


@dataclass(frozen=True)
class EncoderConfig:
    """Which text encoder to train, and how.

    Raises
    ------
    ValueError
        Naming the field that is out of range.
    """

    model: str | None = field(
        default=None,
        metadata={"help": "Model folder or hub id to start from; none trains a small encoder from scratch."},
    )
    hidden_size: int = field(default=64, metadata={"help": "Width of an encoder trained from scratch."})
    layers: int = field(default=2, metadata={"help": "Layers of an encoder trained from scratch."})
    max_tokens: int = field(default=128, metadata={"help": "Longer texts keep their first quarter and their end."})
    epochs: int = field(default=8, metadata={"help": "At most this many epochs, of 32 to 160 updates each."})
    patience: int = field(
        default=3, metadata={"help": "Epochs without gain on validation tasks before training stops."}
    )
    batch_size: int = field(default=64, metadata={"help": "Texts in an update."})
    learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate; none means 2e-3 from scratch, 5e-5 with a given model, 5e-4 for its adapters."
        },
    )
    lora_rank: int = field(
        default=0, metadata={"help": "Rank of low-rank adapters to train in place of all weights; 0 trains all."}
    )
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16; weights stay in float32."})
    test_share: float = field(default=0.15, metadata={"help": "Share of tasks held out for the reported figures."})
    # Most agents' steps show only the last observation; texts that hold the whole state need 0.
    history: int = field(default=4, metadata={"help": "Earlier steps shown before the current one; the first is kept."})
    seed: int = field(default=0, metadata={"help": "Seed of the split, the weights and the order of batches."})
    device: str = field(default="auto", metadata={"help": "cpu, cuda, cuda:1, ...; auto is a GPU where there is one."})

    def __post_init__(self) -> None:
        least: dict[str, float] = {"hidden_size": 1, "layers": 1, "max_tokens": 16}
        least |= {"epochs": 1, "patience": 1, "batch_size": 1, "history": 0, "lora_rank": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least {low}")
        if self.hidden_size % HEADS:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of {HEADS}, the attention heads")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; expected a positive number")
        if not 0 < self.test_share < 1 - VALIDATION_SHARE:
            raise ValueError(f"test_share is {self.test_share}; expected above 0 and below {1 - VALIDATION_SHARE:g}")


@dataclass(frozen=True)
class PRMConfig(EncoderConfig):
    """How to train a PRM. Settings of the encoder and its training count for the kinds that have one."""

    kind: str = field(
        default=TRANSFORMER,
        metadata={
            "help": f"The PRM's model: {', '.join(KINDS)}. step is one number a step; tfidf and embedding (a frozen "
            "encoder, see model) have a linear head.",
            "option": "prm",
        },
    )
    show_step: bool = field(
        default=False, metadata={"help": "Begin each text with the number of the step; for episodes with a limit."}
    )
    targets: str = field(
        default="outcomes", metadata={"help": "Learn from outcomes, from step labels (labels), or from both."}
    )
    label_weight: float = field(
        default=0.5, metadata={"help": "Weight of a step label where targets is both; an outcome has 1."}
    )
    helped_weight: float = field(
        default=0.0, metadata={"help": "Weight of a state after which help came; 0 leaves such states out."}
    )
    propensity: str | None = field(
        default=None,
        metadata={"help": "Episode field with the chance of help at a step; unhelped rests weigh 1 / P(no help)."},
    )
    calibration: str = field(
        default="temperature", metadata={"help": f"Fitted on validation tasks: {', '.join(CALIBRATIONS)}."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("kind", KINDS), ("targets", TARGETS), ("calibration", CALIBRATIONS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; choose from {', '.join(known)}")
        for name, top in (("label_weight", math.inf), ("helped_weight", 1.0)):
            if not 0.0 <= getattr(self, name) <= top or math.isinf(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; expected a finite number from 0 to {top:g}")
