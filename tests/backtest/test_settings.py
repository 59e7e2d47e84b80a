import subprocess
import sys

import pytest
from pydantic import ValidationError

from mimstocr.backtest.markets.flat import Flat
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.top_k import TopK


def test_defaults_are_the_papers_strategy():
    settings = BacktestSettings()
    assert settings.strategy == TopK(k=50)
    assert settings.market == Flat(commission=0.001)
    assert (settings.delay, settings.every, settings.capital) == (None, 1, 1e6)


def test_a_strategy_by_name_or_mapping():
    assert BacktestSettings(strategy="top_k") == BacktestSettings()
    settings = BacktestSettings(strategy={"kind": "top_k", "k": 5}, market="cn_a_share", delay=1)
    assert settings.strategy == TopK(k=5)
    assert settings.market.kind == "cn_a_share"
    assert BacktestSettings(**settings.model_dump()) == settings


def test_settings_from_before_there_were_markets():
    assert BacktestSettings(strategy="top_k", cost=0.002, capital=10) == BacktestSettings(
        market={"kind": "flat", "commission": 0.002}, capital=10
    )
    with pytest.raises(ValidationError, match=r"say market\.commission"):
        BacktestSettings(cost=0.002, market="flat")


def test_settings_do_not_wait_for_the_compiler():
    code = "import sys, mimstocr.backtest; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_open_of_a_day_is_before_its_score():
    with pytest.raises(ValidationError, match="known at its close"):
        BacktestSettings(market={"kind": "flat", "price": "open"}, delay=0)
    assert BacktestSettings(market={"kind": "flat", "price": "open"}, delay=1).delay == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost": 1.0},
        {"cost": -0.1},
        {"market": {"kind": "flat", "commission": 1.0}},
        {"delay": -1},
        {"every": 0},
        {"market": {"kind": "flat", "leverage": 0.5}},
        {"market": "mars"},
        {"capital": 0},
        {"strategy": "top"},
        {"costs": 0.1},
        {"strategy": {"k": 5}},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValidationError):
        BacktestSettings(**wrong)
