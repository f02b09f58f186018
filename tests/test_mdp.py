"""Validation and canonicalisation of models: right answer or an error that names the culprit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import selfreg
import strategies

NAN = np.nan


def model(alone=None, helped=None, value=(NAN, 1.0, 0.0), costs=None) -> selfreg.InterventionMDP:
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]]) if alone is None else alone
    helped = np.array([[0, 1.0, 0], [0, 0, 0], [0, 0, 0]]) if helped is None else helped
    return selfreg.InterventionMDP({"nohelp": alone, "help": helped}, value, {"help": 1} if costs is None else costs)


def matrix(**entries) -> np.ndarray:
    result = np.zeros((3, 3))
    for place, value in entries.items():
        result[int(place[1]), int(place[2])] = value
    return result


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"helped": matrix(_01=0.93)},
            ValueError,
            r'transitions\["help"\] row 0 sums to 0.93; expected 1',
        ),
        ({"helped": matrix(_01=-0.5, _02=1.5)}, ValueError, r'transitions\["help"\] row 0 holds -0.5'),
        ({"helped": matrix(_01=NAN)}, ValueError, r'transitions\["help"\] row 0 holds nan'),
        ({"helped": matrix(_01=np.inf)}, ValueError, r'transitions\["help"\] row 0 holds inf'),
        ({"helped": np.zeros((2, 2))}, ValueError, r'transitions\["help"\] has shape \(2, 2\); "nohelp" has \(3, 3\)'),
        ({"helped": np.zeros((3, 2))}, ValueError, r"has shape \(3, 2\); expected \(n, n\)"),
        ({"helped": [[0, 1], [0, 0]]}, ValueError, r'transitions\["help"\] has shape \(2, 2\); "nohelp" has \(3, 3\)'),
        ({"helped": [[0, 1, 0], [0]]}, ValueError, r'transitions\["help"\] has rows of different lengths'),
        ({"helped": "rows"}, TypeError, r'transitions\["help"\] must be a scipy sparse matrix'),
        ({"helped": {0: {7: 1.0}}}, ValueError, r"transitions\['help'\]\[0\] leads to 7, an unknown state"),
        ({"helped": {9: {1: 1.0}}}, ValueError, r"transitions\['help'\] has a row of 9, an unknown state"),
        ({"helped": np.zeros((3, 3), complex)}, TypeError, "complex128; expected real"),
        ({"alone": np.zeros((3, 3))}, ValueError, r'row 0 sums to 0; "nohelp" must be available'),
        ({"value": [NAN, 1.0]}, ValueError, r"terminal_value has shape \(2,\); expected \(3,\)"),
        ({"value": [NAN, 1.5, 0]}, ValueError, r"terminal_value\[1\] is 1.5"),
        ({"value": [NAN, np.inf, 0]}, ValueError, r"terminal_value\[1\] is inf"),
        ({"value": ["a", "b", "c"]}, TypeError, "terminal_value has dtype"),
        ({"costs": {"help": -1}}, ValueError, r'costs\["help"\] is -1'),
        ({"costs": {"help": 0.5}}, TypeError, r'costs\["help"\] is 0.5'),
        ({"costs": {"help": True}}, TypeError, r'costs\["help"\] is True'),
        ({"costs": {"help": 2**40}}, ValueError, "expected at most"),
        ({"costs": {"help": ()}}, ValueError, r'costs\["help"\] is empty'),
        ({"costs": {}}, ValueError, "costs lacks 'help'"),
        ({"costs": {"help": 1, "other": 1}}, ValueError, "costs names 'other'"),
        ({"costs": 1}, TypeError, "costs must be a mapping"),
    ],
)
def test_bad_models_are_refused_by_name(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        model(**arguments)


def test_bad_action_names() -> None:
    one = np.zeros((1, 1))
    with pytest.raises(ValueError, match='must list "nohelp" first'):
        selfreg.InterventionMDP({"help": one, "nohelp": one}, [1.0], {"help": 1})
    with pytest.raises(TypeError, match="mapping of action name"):
        selfreg.InterventionMDP([one], [1.0], {})
    with pytest.raises(TypeError, match="action names"):
        selfreg.InterventionMDP({1: one}, [1.0], {})
    with pytest.raises(ValueError, match="at most 127"):
        selfreg.InterventionMDP({"nohelp": one, **{f"h{k}": one for k in range(127)}}, [1.0], {})


def test_costs_of_unequal_length() -> None:
    one = np.zeros((1, 1))
    with pytest.raises(ValueError, match="one entry per budget"):
        selfreg.InterventionMDP({"nohelp": one, "a": one, "b": one}, [1.0], {"a": 1, "b": (1, 0)})


@pytest.mark.parametrize("index", [-1, 3])
def test_column_out_of_range_names_the_row(index) -> None:
    bad = sp.csr_array(matrix(_01=1.0))
    bad.indices[0] = index
    with pytest.raises(ValueError, match=rf'transitions\["help"\] row 0 leads to state {index}; expected 0..2'):
        model(helped=bad)


def test_broken_indptr() -> None:
    bad = sp.csr_array(matrix(_01=1.0))
    bad.indptr[:] = [0, 1, 0, 1]
    with pytest.raises(ValueError, match="broken indptr"):
        model(helped=bad)


def variants(name: str, dense: np.ndarray):
    """The same matrix in a form that a user may have it in."""
    csr = sp.csr_array(dense)
    if name == "unsorted with duplicates":
        coo = sp.coo_array(dense)
        order = np.argsort(-(coo.row * 100 - coo.col), kind="stable")
        rows, columns, data = (np.repeat(x[order], 2) for x in (coo.row, coo.col, coo.data / 2))
        split = sp.csr_array(dense.shape)
        order = np.argsort(rows, kind="stable")
        split.data, split.indices = data[order], columns[order].astype(np.int32)
        split.indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))]).astype(np.int32)
        split.has_canonical_format = True  # a lie that must not be believed
        return split
    if name == "int64":
        csr.indptr, csr.indices = csr.indptr.astype(np.int64), csr.indices.astype(np.int64)
        return csr
    if name == "read-only":
        for part in (csr.data, csr.indices, csr.indptr):
            part.flags.writeable = False
        return csr
    if name == "explicit zeros":
        coo = sp.coo_array(dense)
        zeros = np.arange(len(dense))
        return sp.csr_array(
            sp.coo_array(
                (np.r_[coo.data, zeros * 0.0], (np.r_[coo.row, zeros], np.r_[coo.col, zeros])), shape=dense.shape
            )
        )
    return {
        "csr_matrix": sp.csr_matrix,
        "csc": sp.csc_array,
        "coo": sp.coo_array,
        "dok": sp.dok_array,
        "dok_matrix": sp.dok_matrix,
        "float32": lambda x: sp.csr_array(x.astype(np.float32)),
        "dense": np.asarray,
        "fortran": np.asfortranarray,
        "strided": lambda x: np.repeat(np.repeat(x, 2, axis=0), 2, axis=1)[::2, ::2],
    }[name](dense)


FORMS = ["unsorted with duplicates", "int64", "read-only", "explicit zeros", "csr_matrix", "csc", "coo", "float32"]


@pytest.mark.parametrize("form", [*FORMS, "dok", "dok_matrix", "dense", "fortran", "strided"])
@given(case=strategies.raw_models(cyclic=True))
def test_every_form_of_input_gives_the_same_answer_and_is_left_alone(form, case) -> None:
    matrices, terminal_value, costs, budget = case
    budget = budget if costs else budget[:1]
    given_forms = {name: variants(form, dense) for name, dense in matrices.items()}
    before = {name: _parts(value) for name, value in given_forms.items()}
    value = np.repeat(terminal_value, 2)[::2]
    value.flags.writeable = False
    solution = selfreg.solve(selfreg.InterventionMDP(given_forms, value, costs), budget)
    reference = selfreg.solve(selfreg.InterventionMDP(matrices, terminal_value, costs), budget)
    np.testing.assert_allclose(solution.value, reference.value, rtol=0, atol=1e-6 if form == "float32" else 3e-9)
    for name, value in given_forms.items():
        for old, new in zip(before[name], _parts(value), strict=True):
            np.testing.assert_array_equal(old, new)


def _parts(value) -> list[np.ndarray]:
    if not sp.issparse(value):
        return [value.copy()]
    if value.format == "dok":
        return [value.toarray()]
    if value.format == "coo":
        return [value.data.copy(), value.row.copy(), value.col.copy()]
    return [value.data.copy(), value.indices.copy(), value.indptr.copy()]


@given(st.floats(-9e-10, 9e-10))
def test_rows_almost_one_are_scaled(error) -> None:
    row = matrix(_01=0.5 + error, _02=0.5)
    scaled = model(alone=row).transitions["nohelp"].toarray()[0]
    assert abs(scaled.sum() - 1) < 1e-15
    assert row[0, 1] == 0.5 + error


def test_rows_almost_zero_are_unavailable() -> None:
    assert not model(helped=matrix(_01=1e-10)).available("help").any()


def test_arrays_that_are_right_are_not_copied() -> None:
    alone = sp.csr_array(matrix(_01=0.5, _02=0.5))
    mdp = model(alone=alone)
    assert np.shares_memory(mdp.transitions["nohelp"].data, alone.data)
    assert np.shares_memory(mdp.transitions["nohelp"].indices, alone.indices)


def test_terminal_rows_are_not_used() -> None:
    absorbing = matrix(_01=0.5, _02=0.5, _11=1.0, _22=1.0)
    assert selfreg.solve(model(alone=absorbing), 1).value.tolist() == [[0.5, 1], [1, 1], [0, 0]]


def test_model_is_frozen_and_describes_itself() -> None:
    mdp = model(costs={"help": (1, 2)})
    assert repr(mdp) == "InterventionMDP(3 states, 1 live, actions nohelp, help (1, 2))"
    assert mdp.cost_table.tolist() == [[0, 0], [1, 2]]
    with pytest.raises(AttributeError):
        mdp.terminal_value = np.zeros(3)
    with pytest.raises(ValueError):
        mdp.terminal_value[0] = 1.0


def test_masked_arrays_are_refused_and_other_dtypes_converted() -> None:
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    masked = np.ma.masked_array([0, 1.0, 0], [True, False, False])
    with pytest.raises(TypeError, match="terminal_value is a masked array"):
        selfreg.InterventionMDP({"nohelp": alone}, masked, {})
    with pytest.raises(TypeError, match="masked array"):
        selfreg.InterventionMDP({"nohelp": np.ma.masked_array(alone)}, [np.nan, 1, 0], {})
    with pytest.raises(TypeError, match="masked array"):
        selfreg.InterventionMDP({"nohelp": [masked, [0, 0, 0], [0, 0, 0]]}, [np.nan, 1, 0], {})
    with pytest.raises(TypeError, match=r'costs\["help"\] is a masked array'):
        selfreg.InterventionMDP({"nohelp": alone, "help": alone}, [np.nan, 1, 0], {"help": np.ma.masked_array(1, True)})
    for dtype in (np.float16, ">f4", ">f8", np.longdouble):
        mdp = selfreg.InterventionMDP({"nohelp": alone.astype(dtype)}, np.array([np.nan, 1, 0], ">f8"), {})
        assert mdp.transitions["nohelp"].toarray().tolist() == alone.tolist()


@pytest.mark.parametrize("kind", [sp.dok_array, sp.dok_matrix])
def test_sparse_matrices_that_are_dicts_are_no_mappings(kind) -> None:
    alone = np.array([[0, 0.5, 0.5], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": kind(alone), "help": {0: {1: 1.0}}}, {1: 1, 2: 0})
    assert mdp.transitions["nohelp"].toarray().tolist() == alone.tolist()
    assert mdp.available("help").tolist() == [True, False, False]
    ends, got = [np.nan, 1, 0], f"must be a mapping .*; got {kind.__name__}"
    for call in (
        lambda: selfreg.InterventionMDP(kind(alone), ends),
        lambda: selfreg.InterventionMDP({"nohelp": alone}, ends, kind(alone)),
        lambda: selfreg.InterventionMDP({"nohelp": alone}, ends, visits=kind(alone)),
        lambda: selfreg.InterventionMDP.from_dict({"nohelp": kind(alone)}, {1: 1, 2: 0}),
        lambda: selfreg.InterventionMDP.from_dict({"nohelp": {0: 1}}, {1: 1}, visits=kind(alone)),
        lambda: selfreg.InterventionMDP.from_dict({"nohelp": {0: 1}}, {1: 1}, visits={"nohelp": kind(alone)}),
    ):
        with pytest.raises(TypeError, match=got):
            call()
    for call in (lambda: selfreg.solve_penalized(mdp, kind(alone)), lambda: selfreg.L1(radius=kind(alone))):
        with pytest.raises(TypeError, match=r"(penalties|radius) (is|has dtype) .*expected numbers >= 0"):
            call()


def test_numbers_that_few_digits_do_not_show() -> None:
    with pytest.raises(ValueError, match=r"terminal_value\[1\] is 1.000000000001; "):
        selfreg.InterventionMDP({"nohelp": np.zeros((2, 2))}, [0, 1 + 1e-12], {})


@pytest.mark.filterwarnings("error")
def test_numbers_beyond_floats_and_large_costs() -> None:
    rows = np.array([[0.5, 0.25, 0.25], [0, 0, 0], [0, 0, 0]])
    mdp = selfreg.InterventionMDP({"nohelp": rows, "help": rows}, [np.nan, 1, 0], {"help": 2**31 - 1})
    for call in (
        lambda: selfreg.solve(mdp, 1, tol=10**400),
        lambda: selfreg.solve_penalized(mdp, [10**400]),
        lambda: selfreg.solve(mdp, 1, keep="start", start=[10**400, 0, 0]),
    ):
        with pytest.raises(ValueError, match="too large for a float"):
            call()
    with pytest.raises(MemoryError, match="max_memory is 1,000,000"):
        selfreg.solve(mdp, 10**9, max_memory=10**6)
    assert selfreg.solve_penalized(mdp, [np.inf]).value[0].tolist() == [0.5]
