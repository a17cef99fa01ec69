"""Values that a file says, checked one by one."""

import numpy as np
import pytest

from cosi_linebkg_plugin.io import checks


def test_what_is_right_comes_back():
    assert checks.mapping({"a": 1}, "x") == {"a": 1}
    assert checks.text("a", "x", among=("a", "b")) == "a"
    assert checks.texts(["a", "b"], "x") == ("a", "b")
    assert checks.truth(False, "x") is False
    assert checks.number(3, "x", 0, 5) == 3.0
    assert checks.numbers([[1, 2], [3, 4]], "x", (None, 2)).shape == (2, 2)
    assert np.isnan(checks.numbers([[1, None]], "x", (1, 2), null=np.nan)[0, 1])
    assert checks.numbers([], "x", (None, 2)).shape == (0, 2)
    assert checks.covariance([[1, 0.5], [0.5, 2]], "x", 2).tolist() == [[1, 0.5], [0.5, 2]]


@pytest.mark.parametrize(
    "check",
    [
        lambda: checks.mapping([1], "x"),
        lambda: checks.text(1, "x"),
        lambda: checks.text("c", "x", among=("a", "b")),
        lambda: checks.texts(["a", "a"], "x"),
        lambda: checks.texts("ab", "x"),
        lambda: checks.truth(1, "x"),
        lambda: checks.number(True, "x"),
        lambda: checks.number(float("nan"), "x"),
        lambda: checks.number(6, "x", 0, 5),
        lambda: checks.numbers([1, 2], "x", (3,)),
        lambda: checks.numbers(["1"], "x", (1,)),
        lambda: checks.numbers([None], "x", (1,)),
        lambda: checks.numbers([float("inf")], "x", (1,)),
        lambda: checks.covariance([[1, 0.5], [0.4, 2]], "x", 2),
        lambda: checks.covariance([[-1, 0], [0, 2]], "x", 2),
    ],
)
def test_what_is_wrong_is_a_value_error_that_names_it(check):
    with pytest.raises(ValueError, match="x"):
        check()
