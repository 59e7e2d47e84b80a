import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mimstocr.errors import DataError
from mimstocr.evaluation.classification import classification_metrics


def slow(true, named, n_levels):
    """Accuracy, macro-F1 and majority by counting pairs."""
    pairs = list(zip(true, named, strict=True))
    f1 = []
    for level in range(n_levels):
        tp = sum(t == level and p == level for t, p in pairs)
        fp = sum(t != level and p == level for t, p in pairs)
        fn = sum(t == level and p != level for t, p in pairs)
        if tp + fp + fn:
            f1.append(2 * tp / (2 * tp + fp + fn))
    majority = max(sum(t == level for t in true) for level in range(n_levels)) / len(true)
    return sum(t == p for t, p in pairs) / len(pairs), sum(f1) / len(f1), majority


def test_by_hand():
    # level 0: TP 1 FN 1; level 1: TP 1 FP 1 FN 1; level 2: FP 1; level 3 is in neither and is left out
    found = classification_metrics(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), 4)
    assert found["accuracy"] == 2 / 4
    assert found["macro_f1"] == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert found["majority"] == 2 / 4
    assert_array_equal(found["confusion"], [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_counts(seed):
    random = np.random.default_rng(seed)
    true, named = random.integers(0, 4, 60).astype(np.int8), random.integers(1, 5, 60)
    found = classification_metrics(true, named, 6)
    assert (found["accuracy"], found["macro_f1"], found["majority"]) == pytest.approx(slow(true, named, 6))
    for t in range(6):
        for p in range(6):
            assert found["confusion"][t, p] == sum((true == t) & (named == p))


def test_right_and_nothing():
    true = np.array([4, 2, 2])
    perfect = classification_metrics(true, true, 5)
    assert (perfect["accuracy"], perfect["macro_f1"], perfect["majority"]) == (1, 1, 2 / 3)
    nothing = classification_metrics(np.empty(0, int), np.empty(0, int), 5)
    assert all(math.isnan(nothing[name]) for name in ("accuracy", "macro_f1", "majority"))
    assert nothing["confusion"].sum() == 0


@pytest.mark.parametrize(
    ("true", "named", "text"),
    [
        (np.array([0, 1]), np.array([0]), "got 1 and 2; align"),
        (np.array([0.0, 1.0]), np.array([0, 1]), "levels: expected integers"),
        (np.array([0, 1]), np.array([[0, 1]]), r"predicted: expected integers of shape \(samples,\)"),
        (np.array([0, 5]), np.array([0, 1]), r"levels: expected levels 0 \.\. 4, got 0 \.\. 5"),
        (np.array([0, 1]), np.array([-1, 1]), "predicted: expected levels"),
    ],
)
def test_errors_say_what_to_do(true, named, text):
    with pytest.raises(DataError, match=text):
        classification_metrics(true, named, 5)
