# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Solve, draw, simulate, be careful
#
# A model with two live states, written as a dict. Open this file in Jupyter with the jupytext extension, or run
# `jupytext --to ipynb solve.py`.

# %%
import matplotlib.pyplot as plt
import numpy as np

import selfreg

mdp = selfreg.InterventionMDP.from_dict(
    {
        "start": {
            "nohelp": {"done": 0.6, "trouble": 0.4},
            "help": {"done": 0.7, "trouble": 0.3},
        },
        "trouble": {
            "nohelp": {"done": 0.1, "lost": 0.9},
            "help": {"done": 0.8, "lost": 0.2},
        },
    },
    terminal_value={"done": 1, "lost": 0},
    visits={"nohelp": {"start": 300, "trouble": 120}, "help": {"start": 60, "trouble": 25}},
)
mdp

# %% [markdown]
# ## Solve
# One call solves every state and every budget up to the one given.

# %%
solution = selfreg.solve(mdp, budget=2)
solution

# %%
print(solution.explain("start", 1))

# %%
axes = solution.plot()

# %% [markdown]
# ## The frontier
# A hard budget holds for every episode. If only the mean counts, the frontier has the best success for each usage.

# %%
front = selfreg.frontier(mdp, "start")
front

# %%
axes = front.plot()
axes.axhline(solution.value[0, 0], linestyle=":", color="gray")
plt.show()

# %%
mixture = front.at(0.5)
print(f"success {mixture.success:.3f} at half a request an episode, worth {front.penalty_for(0.5):.3f} a request")

# %% [markdown]
# ## Simulate
# The exact value, and 10,000 episodes of the plan. The difference is a few standard errors at most.

# %%
exact = selfreg.evaluate_policy(mdp, solution, "start")
runs = selfreg.simulate(mdp, solution, "start", 10_000)
print(runs.summary())
assert abs(runs.summary().success.mean - exact.success) < 5 * runs.summary().success.error


# %% [markdown]
# Any function of the state and the budget left is a policy, too.


# %%
def first(state, left):
    """Request help at once."""
    return "help" if left else "nohelp"


print(f"at once {selfreg.evaluate_policy(mdp, first, 'start', budget=1).success:.3f}, plan {solution.value[0, 1]:.3f}")

# %% [markdown]
# ## Robust
# Few visits are behind the rows of help. The robust plan is the best one against every model within 90% confidence of
# these rows; its value is a lower bound.

# %%
robust = selfreg.solve(mdp, budget=2, robust=selfreg.L1(confidence=0.9))
print(robust.explain("trouble", 1))
assert np.all(robust.value <= solution.value + 1e-12)

# %% [markdown]
# ## Discounting, and a limit of steps

# %%
print(selfreg.solve(mdp.discounted(0.95), 2).value[0].round(3), selfreg.solve(mdp.unrolled(1), 2).value[0].round(3))
