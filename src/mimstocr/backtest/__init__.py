"""What a ranking would have earned: strategies give target weights, one engine decides what is filled."""

from mimstocr.backtest.benchmark import index_returns, universe_mean
from mimstocr.backtest.engine import Simulation, simulate
from mimstocr.backtest.market import MARKETS, AnyMarket, Fee, Market, Terms, make_terms
from mimstocr.backtest.portfolio import drawdown, portfolio_metrics
from mimstocr.backtest.run import BacktestResult, backtest, view_of
from mimstocr.backtest.settings import BacktestSettings
from mimstocr.backtest.strategy import STRATEGIES, AnyStrategy, Decision, Moment, Plan, Strategy, View

__all__ = [
    "MARKETS",
    "STRATEGIES",
    "AnyMarket",
    "AnyStrategy",
    "BacktestResult",
    "BacktestSettings",
    "Decision",
    "Fee",
    "Market",
    "Moment",
    "Plan",
    "Simulation",
    "Strategy",
    "Terms",
    "View",
    "backtest",
    "drawdown",
    "index_returns",
    "make_terms",
    "portfolio_metrics",
    "simulate",
    "universe_mean",
    "view_of",
]
