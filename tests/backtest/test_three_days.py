"""The example of docs/backtesting.md."""

import numpy as np
import pytest

from mimstocr.backtest import BacktestSettings, backtest
from mimstocr.backtest.explain import explain
from mimstocr.data.panel import make_panel

DAYS = np.array(["2019-08-02", "2019-08-05", "2019-08-06", "2019-08-07"], dtype="datetime64[D]")
FACTOR = np.array([119.317505, 119.317505, 122.79416, 122.79416])
REAL = np.array([53.43, 52.98, 50.93, 50.27])
SETTINGS = BacktestSettings(
    strategy={"kind": "threshold", "above": 0, "most": 1.0},
    market={"kind": "cn_a_share", "slippage": 0},
    delay=1,
    capital=100_000,
)


@pytest.fixture(scope="module")
def gree():
    panel = make_panel(
        {
            "close": (REAL * FACTOR)[:, None],
            "factor": FACTOR[:, None],
            "volume": np.array([[4.0e7], [39492868.0], [53200344.0], [24240284.0]]),
        },
        DAYS,
        ["SZ000651"],
        source="test",
    )
    scores = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    return panel, backtest(panel, scores, SETTINGS, first=DAYS[0], last=DAYS[-1])


def test_what_the_account_was_worth(gree):
    _, result = gree
    np.testing.assert_allclose(result.net.value, [100_000, 99_974.25, 98_955.43, 97_614.54], atol=0.02)
    np.testing.assert_allclose(result.net.cash, [100_000, 4_610.25, 4_610.25, 97_614.54], atol=0.02)


def test_each_order_is_explained(gree):
    panel, result = gree
    (buy,), (more,), (sell,) = (explain(result, panel, day).orders.rows(named=True) for day in DAYS[1:])
    assert (buy["outcome"], more["outcome"], sell["outcome"]) == (
        "rounded down to whole lots",
        "less than a lot",
        "filled",
    )
    assert buy["wanted"] == pytest.approx(1_886.99, abs=0.01)
    assert buy["filled"] == pytest.approx(1_800, abs=1e-3)
    assert buy["value"] == pytest.approx(95_364.00, abs=0.02)
    assert [buy[kind] for kind in ("commission", "stamp_duty", "transfer_fee")] == pytest.approx(
        [23.84, 0, 1.91], abs=0.005
    )
    assert more["held"] == pytest.approx(1_852.448, abs=1e-3)
    assert more["wanted"] == pytest.approx(90.5, abs=0.1)
    assert sell["filled"] == pytest.approx(-1_852.448, abs=1e-3)
    assert [
        sell[kind] for kind in ("value", "commission", "stamp_duty", "transfer_fee", "cash_after")
    ] == pytest.approx([-93_122.55, 23.28, 93.12, 1.86, 97_614.54], abs=0.02)
    assert explain(result, panel, DAYS[3]).decided == DAYS[2]
