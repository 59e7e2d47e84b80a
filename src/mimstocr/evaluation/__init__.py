"""What a ranking was worth: metrics of each day first, then of all days, then whether it is chance; numpy alone.

Matrices are (days, stocks) with NaN for a stock that is not in that day's cross-section. A metric that is not
defined on a day is NaN there, never 0.
"""

from mimstocr.evaluation.classification import ClassificationMetrics, classification_metrics
from mimstocr.evaluation.daily import daily_metrics, days_defined, quantile_returns, summarise
from mimstocr.evaluation.significance import (
    BootstrapTest,
    HacTest,
    MannWhitney,
    Paired,
    SharpeEstimate,
    benjamini_hochberg,
    block_bootstrap,
    deflated_sharpe,
    expected_maximum_sharpe,
    hac_test,
    mann_whitney,
    paired,
    probabilistic_sharpe,
    sharpe_estimate,
)
from mimstocr.ranks import average_ranks

__all__ = [
    "BootstrapTest",
    "ClassificationMetrics",
    "HacTest",
    "MannWhitney",
    "Paired",
    "SharpeEstimate",
    "average_ranks",
    "benjamini_hochberg",
    "block_bootstrap",
    "classification_metrics",
    "daily_metrics",
    "days_defined",
    "deflated_sharpe",
    "expected_maximum_sharpe",
    "hac_test",
    "mann_whitney",
    "paired",
    "probabilistic_sharpe",
    "quantile_returns",
    "sharpe_estimate",
    "summarise",
]
