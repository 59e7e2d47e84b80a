import pytest
from pydantic import ValidationError

from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategies.top_k import TopK


def test_defaults_are_the_papers_strategy():
    settings = BacktestSettings()
    assert settings.strategy == TopK(k=50)
    assert (settings.cost, settings.capital) == (0.001, 1e6)


def test_a_strategy_by_name_or_mapping():
    assert BacktestSettings(strategy="top_k") == BacktestSettings()
    settings = BacktestSettings(strategy={"kind": "top_k", "k": 5}, cost=0)
    assert settings.strategy == TopK(k=5)
    assert BacktestSettings(**settings.model_dump()) == settings


@pytest.mark.parametrize(
    "wrong",
    [{"cost": 1.0}, {"cost": -0.1}, {"capital": 0}, {"strategy": "top"}, {"costs": 0.1}, {"strategy": {"k": 5}}],
)
def test_wrong_settings(wrong):
    with pytest.raises(ValidationError):
        BacktestSettings(**wrong)
