# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # From a table of pandas, and back
#
# A log of steps with the columns `episode`, `state`, `action` and `next`. `selfreg fit` does more with such a log
# (shrinkage, intervals, a forecast); here are the counts alone.

# %%
import numpy as np
import pandas as pd

import selfreg

generator = np.random.default_rng(0)
chances = {
    ("start", "nohelp"): {"done": 0.6, "trouble": 0.4},
    ("start", "help"): {"done": 0.7, "trouble": 0.3},
    ("trouble", "nohelp"): {"done": 0.1, "lost": 0.9},
    ("trouble", "help"): {"done": 0.8, "lost": 0.2},
}
steps = []
for episode in range(2000):
    state = "start"
    while state in {"start", "trouble"}:
        action = "help" if generator.random() < 0.2 else "nohelp"
        after = chances[state, action]
        state_after = str(generator.choice(list(after), p=list(after.values())))
        steps.append((episode, state, action, state_after))
        state = state_after
log = pd.DataFrame(steps, columns=["episode", "state", "action", "next"])
log.head()

# %% [markdown]
# ## Count

# %%
rows = {}
for (action, state), group in log.groupby(["action", "state"])["next"]:
    rows.setdefault(action, {})[state] = group.value_counts(normalize=True).to_dict()
visits = {action: part["state"].value_counts().to_dict() for action, part in log.groupby("action")}
mdp = selfreg.InterventionMDP.from_dict(rows, {"done": 1, "lost": 0}, visits=visits)
mdp

# %% [markdown]
# ## Solve, and back to pandas

# %%
solution = selfreg.solve(mdp, budget=2)
solution.to_pandas().pivot(index="budget", columns="state", values="value")

# %%
selfreg.frontier(mdp, "start").to_pandas()

# %%
runs = selfreg.simulate(mdp, solution, "start", 1000).to_pandas()
runs.groupby("usage")["success"].agg(["mean", "size"])

# %% [markdown]
# ## How sure?
# The value of the robust plan is a lower bound for all models that fit these counts with 90% confidence a row.

# %%
bound = selfreg.solve(mdp, budget=2, robust=selfreg.L1(confidence=0.9))
print(bound.value[mdp.state_index("start")].round(3), solution.value[mdp.state_index("start")].round(3))
