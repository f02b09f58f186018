"""Models behind a helper, one file a family, and the forms of a helper by name."""

from __future__ import annotations

from typing import Any

from selfreg.helper.models.gain import GainDecider
from selfreg.helper.models.linear import TfidfDecider, WordsDecider
from selfreg.helper.models.rules import RULES as RULES
from selfreg.helper.models.transformer import BudgetInHead, BudgetInText, DecisionWriter
from selfreg.helper.models.trees import FittedQDecider, TreesDecider

# Forms that need PyTorch.
TRANSFORMERS = tuple(one.form for one in (BudgetInHead, BudgetInText, DecisionWriter))
# Each with `build`, `examples`, `fit` and `load_saved`, and the interface of `DecisionModel`.
FORMS: dict[str, Any] = {
    one.form: one for one in (BudgetInHead, BudgetInText, DecisionWriter, TfidfDecider, WordsDecider, TreesDecider)
}
# Learnt from the outcomes of episodes of one decision, with the same interface.
GAIN = GainDecider.form
# Learnt from what followed logged steps, with the same interface.
FITTED_Q = FittedQDecider.form
# Every form by name.
KNOWN: dict[str, Any] = {**FORMS, GAIN: GainDecider, FITTED_Q: FittedQDecider, **RULES}
# The form that is chosen among `CANDIDATES` by what each is forecast to do; of ties, the first one.
AUTO = "auto"
CANDIDATES = (*RULES, GAIN, TfidfDecider.form, WordsDecider.form, TreesDecider.form, FITTED_Q)
