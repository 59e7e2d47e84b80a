"""What a ranking was worth: metrics of each day first, then of all days; numpy alone.

Matrices are (days, stocks) with NaN for a stock that is not in that day's cross-section. A metric that is not
defined on a day is NaN there, never 0.
"""

from mimstocr.evaluation.classification import ClassificationMetrics, classification_metrics
from mimstocr.evaluation.daily import daily_metrics, days_defined, quantile_returns, summarise
from mimstocr.ranks import average_ranks

__all__ = [
    "ClassificationMetrics",
    "average_ranks",
    "classification_metrics",
    "daily_metrics",
    "days_defined",
    "quantile_returns",
    "summarise",
]
