"""What an installed wheel must be able to do; run as a script, from anywhere, by test_packaging.py and cibuildwheel."""

import sys

import numpy as np

import selfreg

alone = np.array([[0, 0.5, 0.5, 0], [0, 0, 0.2, 0.8], [0] * 4, [0] * 4])
helped = np.array([[0, 0.1, 0.9, 0], [0, 0, 0.9, 0.1], [0] * 4, [0] * 4])
mdp = selfreg.InterventionMDP({"nohelp": alone, "help": helped}, [np.nan, np.nan, 1, 0], {"help": 1})
solution = selfreg.solve(mdp, 2, implementation="cython")
np.testing.assert_allclose(solution.value[0], [0.6, 0.95, 0.99], rtol=0, atol=1e-12)
there_and_back = np.array([[0, 0.9, 0.1, 0], [0.9, 0, 0, 0.1], [0] * 4, [0] * 4])
cyclic = selfreg.InterventionMDP({"nohelp": there_and_back}, [np.nan, np.nan, 1, 0], {})
np.testing.assert_allclose(selfreg.solve(cyclic, 0, implementation="cython").value[0], 0.1 / 0.19, rtol=0, atol=1e-9)
assert not {"numba", "torch", "pandas"} & set(sys.modules)
print(selfreg.__file__)
