"""What a ranking would have earned: strategies give target weights, one engine decides what is filled."""

from mimstocr.backtest.benchmark import index_returns, universe_mean
from mimstocr.backtest.engine import Simulation, simulate
from mimstocr.backtest.portfolio import drawdown, portfolio_metrics
from mimstocr.backtest.run import BacktestResult, backtest
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategy import STRATEGIES, AnyStrategy, Strategy

__all__ = [
    "STRATEGIES",
    "AnyStrategy",
    "BacktestResult",
    "BacktestSettings",
    "Simulation",
    "Strategy",
    "backtest",
    "drawdown",
    "index_returns",
    "portfolio_metrics",
    "simulate",
    "universe_mean",
]
