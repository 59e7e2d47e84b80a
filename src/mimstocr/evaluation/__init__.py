"""What a ranking was worth: metrics of each day first, then of all days, then whether it is chance; numpy alone.

Beside it, what predicted levels, probabilities, volatilities and other quantities were worth, over all samples alike,
and what positions earned.
Matrices are (days, stocks) with NaN for a stock that is not in that day's cross-section. A metric that is not
defined on a day is NaN there, never 0.
"""

from mimstocr.evaluation.classification import ClassificationMetrics, classification_metrics
from mimstocr.evaluation.daily import daily_metrics, days_defined, quantile_returns, summarise
from mimstocr.evaluation.positions import PositionMetrics, position_metrics
from mimstocr.evaluation.probability import (
    EventMetrics,
    LevelMetrics,
    ReliabilityTable,
    daily_auc,
    event_metrics,
    level_metrics,
    reliability_table,
)
from mimstocr.evaluation.regression import RegressionMetrics, regression_metrics
from mimstocr.evaluation.significance import (
    BootstrapTest,
    HacTest,
    MannWhitney,
    Paired,
    SharpeDifference,
    SharpeEstimate,
    benjamini_hochberg,
    block_bootstrap,
    deflated_sharpe,
    expected_maximum_sharpe,
    hac_test,
    mann_whitney,
    paired,
    probabilistic_sharpe,
    sharpe_difference,
    sharpe_estimate,
)
from mimstocr.evaluation.volatility import VolatilityFit, VolatilityMetrics, volatility_metrics
from mimstocr.ranks import average_ranks

__all__ = [
    "BootstrapTest",
    "ClassificationMetrics",
    "EventMetrics",
    "HacTest",
    "LevelMetrics",
    "MannWhitney",
    "Paired",
    "PositionMetrics",
    "RegressionMetrics",
    "ReliabilityTable",
    "SharpeDifference",
    "SharpeEstimate",
    "VolatilityFit",
    "VolatilityMetrics",
    "average_ranks",
    "benjamini_hochberg",
    "block_bootstrap",
    "classification_metrics",
    "daily_auc",
    "daily_metrics",
    "days_defined",
    "deflated_sharpe",
    "event_metrics",
    "expected_maximum_sharpe",
    "hac_test",
    "level_metrics",
    "mann_whitney",
    "paired",
    "position_metrics",
    "probabilistic_sharpe",
    "quantile_returns",
    "regression_metrics",
    "reliability_table",
    "sharpe_difference",
    "sharpe_estimate",
    "summarise",
    "volatility_metrics",
]
