"""Whether a difference is more than chance: tests of daily series, over seeds, over tables, of the best of many trials.

Pure functions of arrays. A value that is not finite is a day without a figure: it is left out and counted, and the
days on its two sides become neighbours.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimstocr.errors import ConfigError, DataError
from mimstocr.ranks import average_ranks

EXACT_UP_TO = 50
"""Mann-Whitney counts every split of so many values in two: at most 1.3e14 splits, still exact in float64."""
CELLS = 2**18
"""Days that the bootstrap draws at a time, over all draws: about 15 MB whatever their number."""
ROUNDING = 1e-12
"""Differences of a smaller fraction are rounding."""
EULER = 0.5772156649015329
"""The Euler-Mascheroni constant."""


class HacTest(NamedTuple):
    """Test of a mean that allows for dependent days.

    mean, se: in units of the series. t: mean / se. p: two-sided. lags: of the Bartlett window. n: days used.
    left_out: days without a figure.
    """

    mean: float
    se: float
    t: float
    p: float
    lags: int
    n: int
    left_out: int


class BootstrapTest(NamedTuple):
    """Bootstrap of a mean that allows for dependent days.

    mean, low, high: in units of the series; low .. high covers the true mean with probability 1 - alpha. p:
    two-sided. block: mean block length in days. n: days used. left_out: days without a figure.
    """

    mean: float
    low: float
    high: float
    p: float
    block: float
    draws: int
    alpha: float
    n: int
    left_out: int


class Paired(NamedTuple):
    """Ours minus theirs, tested on the n_days on which both have a figure; left_out: the other days."""

    hac: HacTest
    bootstrap: BootstrapTest
    n_days: int
    left_out: int


class MannWhitney(NamedTuple):
    """Test that two samples come from one distribution.

    u: pairs in which a's value is the larger, a tie counts a half; of n_a n_b. p: two-sided. exact: counted over
    all splits, else by the normal approximation. smallest_p: what complete separation of n_a from n_b values gives;
    no outcome can give less.
    """

    u: float
    p: float
    exact: bool
    n_a: int
    n_b: int
    smallest_p: float


class SharpeDifference(NamedTuple):
    """One account's Sharpe ratio against another's.

    sharpe, other: per day, standard deviation with ddof 1. hac, bootstrap: tests of sharpe - other, whose `mean` is
    that difference a day. days_per_year: annualises.
    """

    sharpe: float
    other: float
    hac: HacTest
    bootstrap: BootstrapTest
    days_per_year: float

    @property
    def difference(self) -> float:
        """Of the Sharpe ratios per day."""
        return self.hac.mean

    @property
    def annual(self) -> float:
        """Of the annual Sharpe ratios."""
        return self.difference * math.sqrt(self.days_per_year)

    @property
    def annual_interval(self) -> tuple[float, float]:
        """What covers the true difference of the annual ratios, by the bootstrap."""
        root = math.sqrt(self.days_per_year)
        return self.bootstrap.low * root, self.bootstrap.high * root


class SharpeEstimate(NamedTuple):
    """A Sharpe ratio per period, not annualised, and what its error depends on.

    sharpe: mean / standard deviation of one period's returns; an annual ratio divided by sqrt(periods per year).
    n: periods. skew, kurtosis: of the returns; the kurtosis of a normal is 3.
    """

    sharpe: float
    n: int
    skew: float
    kurtosis: float


def hac_test(differences: NDArray[Any], lags: int | None = None) -> HacTest:
    """Test that the mean of a daily series is 0, with Newey-West standard errors (Econometrica 1987).

    differences: (days,) in order of time, such as one model's daily IC minus another's, or an IC itself.
    With deviations e from the mean and g_j = sum_t e_t e_(t-j) / n, the long-run variance is
    S = g_0 + 2 sum_(j <= lags) (1 - j / (lags + 1)) g_j and se = sqrt(S / (n - 1)). p is Student's with n - 1 degrees
    of freedom, so no lags give the usual t-test. lags: chosen by `automatic_lags` if None. The p-value is an
    approximation for many days; under strong dependence and few days it is still somewhat too small.
    A constant series has se 0: t is 0 and p 1 if it is 0 throughout, else t is infinite and p 0.
    Raises DataError on fewer than two finite days, ConfigError on lags outside 0 .. n - 1.
    """
    days, left_out = _finite(differences, "differences")
    n, (mean, deviations) = len(days), _centred(days)
    if lags is None:
        lags = automatic_lags(days)
    if not 0 <= lags < n:
        raise ConfigError(f"lags: expected 0 .. {n - 1} for {n} days, got {lags}; None chooses by the data")
    # in units of the largest deviation, whose square neither vanishes nor overflows
    unit = float(np.abs(deviations).max())
    g = _autocovariances(deviations / (unit or 1.0), lags)
    weights = 1.0 - np.arange(1, lags + 1) / (lags + 1)
    se = unit * math.sqrt((g[0] + 2.0 * float(weights @ g[1:])) / (n - 1))
    t = mean / se if se > 0 else math.copysign(math.inf, mean) if mean else 0.0
    return HacTest(mean, se, t, _student_p(t, n - 1), lags, n, left_out)


def automatic_lags(series: NDArray[np.float64]) -> int:
    """Lags of the Bartlett window for the mean of a series (Newey and West, Review of Economic Studies 1994).

    floor(1.1447 ((s1 / s0)^2 n)^(1/3)) with s0 = g_0 + 2 sum_(j <= m) g_j, s1 = 2 sum_(j <= m) j g_j and
    m = floor(4 (n / 100)^(2/9)), without prewhitening. At most a quarter of the days, where s0 is near 0.
    series: (days,), finite.
    """
    n, deviations = len(series), _centred(series)[1]
    unit = float(np.abs(deviations).max())
    if unit == 0:
        return 0
    pilot = min(math.floor(4 * (n / 100) ** (2 / 9)), n - 1)
    g = _autocovariances(deviations / unit, pilot)
    s0 = g[0] + 2.0 * g[1:].sum()
    s1 = 2.0 * float(np.arange(1, pilot + 1) @ g[1:])
    most = n // 4
    return most if s0 == 0 else int(min(1.1447 * ((s1 / s0) ** 2 * n) ** (1 / 3), most))


def block_bootstrap(
    differences: NDArray[Any],
    block: float | None = None,
    draws: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> BootstrapTest:
    """Stationary bootstrap of the mean of a daily series (Politis and Romano, JASA 1994).

    differences: (days,) in order of time. A draw joins blocks until it has n days: each starts on a day at random,
    goes on around the end of the series, and stops after every day with probability 1 / block. block: mean length
    in days, chosen by `automatic_block` if None. With d the draws' means minus the series' mean, which is what the
    mean does where the truth is 0:
    - p = 2 (1 + the smaller of #{d >= mean} and #{d <= mean}) / (draws + 1), at most 1; never below 2 / (draws + 1).
    - low, high = mean - the k-th largest d, mean - the k-th smallest, k = alpha (draws + 1) / 2 rounded down: the basic
      interval (Davison and Hinkley, Bootstrap Methods 1997, 5.2). It leaves 0 out just where p <= alpha.

    A series of zeros has p 1. For few days, or blocks that are not short beside them, p is somewhat too small.
    Raises DataError on fewer than two finite days; ConfigError on a block outside 1 .. n, an alpha outside 0 .. 1, or
    too few draws for that alpha.
    """
    days, left_out = _finite(differences, "differences")
    mean, deviations = _centred(days)
    block = _block(days, block)
    _draws_beyond(draws, alpha)  # before the work
    (found,) = _draw_means(deviations[None], block, draws, np.random.default_rng(seed))
    # a draw as far off as the mean counts, whichever way its sum was rounded
    p, low, high = _basic(found, mean, ROUNDING * float(np.abs(deviations).max()), alpha)
    return BootstrapTest(mean, low, high, p, block, draws, alpha, len(days), left_out)


def automatic_block(series: NDArray[np.float64]) -> float:
    """Mean block length for the bootstrap of a mean (Politis and White 2004; Patton, Politis and White 2009).

    (n G^2 / s^2)^(1/3), s = sum_k w_k g_k, G = sum_k w_k |k| g_k over |k| <= M, w_k = min(1, 2 (1 - |k| / M)) (the
    first in Econometric Reviews 23, its correction in 28). M is twice the first lag from which on five
    autocorrelations are below 2 sqrt(log10(n) / n) in size, or ceil(sqrt(n)) + 5 if that is less or there is none.
    At least 1, at most min(3 sqrt(n), n / 3) rounded up. series: (days,), finite.
    """
    n, deviations = len(series), _centred(series)[1]
    unit = float(np.abs(deviations).max())
    if unit == 0:
        return 1.0
    run, most = 5, math.ceil(math.sqrt(n)) + 5
    g = _autocovariances(deviations / unit, most + run)
    small = np.abs(g[1:]) < 2.0 * math.sqrt(math.log10(n) / n) * g[0]
    runs = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(small, run).all(axis=-1))
    last = min(2 * (int(runs[0]) + 1), most) if runs.size else most
    lag = np.arange(1, last + 1)
    weighted = 2.0 * np.minimum(1.0, 2.0 * (1.0 - lag / last)) * g[1 : last + 1]
    s, first_moment = g[0] + weighted.sum(), float(lag @ weighted)
    longest = math.ceil(min(3.0 * math.sqrt(n), n / 3))
    return float(longest if s == 0 else max(1.0, min((n * (first_moment / s) ** 2) ** (1 / 3), longest)))


def paired(
    ours: NDArray[Any],
    theirs: NDArray[Any],
    *,
    lags: int | None = None,
    block: float | None = None,
    draws: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> Paired:
    """Test that ours and theirs have one mean, by `hac_test` and `block_bootstrap` of their daily differences.

    ours, theirs: (days,), the same days in order of time. A day on which either has no finite figure is left out.
    Raises DataError on unequal lengths and what those two raise.
    """
    first, second = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if first.shape != second.shape:
        raise DataError(
            f"ours and theirs: expected the same days in both, got shapes {first.shape} and {second.shape}; "
            "align them by date"
        )
    both = np.isfinite(first) & np.isfinite(second)
    differences = np.subtract(first, second, out=np.full(first.shape, np.nan), where=both)
    hac = hac_test(differences, lags)
    return Paired(hac, block_bootstrap(differences, block, draws, alpha, seed), hac.n, hac.left_out)


def mann_whitney(a: NDArray[Any], b: NDArray[Any]) -> MannWhitney:
    """Two-sided Mann-Whitney U test (Annals of Mathematical Statistics 1947), as over the seeds of two models.

    a, b: (values,), one figure of each seed. p = min(1, 2 min(P(U <= u), P(U >= u))) over all splits of the values
    into n_a and n_b, ties included, up to 50 values in all; above, the normal approximation with correction for ties
    and continuity, never below smallest_p = 2 / C(n_a + n_b, n_a). That is 0.1 with 3 seeds against 3, 0.029 with 4
    against 4, 0.008 with 5 against 5: three seeds cannot show anything at 5 %.
    Raises DataError on an empty sample or a value that is not finite: a seed that failed is a result, not a gap.
    """
    first, second = _sample(a, "a"), _sample(b, "b")
    n_a, n_b = len(first), len(second)
    ranks = average_ranks(np.concatenate([first, second]))
    u = float(ranks[:n_a].sum()) - n_a * (n_a + 1) / 2
    exact, smallest = n_a + n_b <= EXACT_UP_TO, min(1.0, 2 / math.comb(n_a + n_b, n_a))
    p = _exact_p(ranks, n_a) if exact else max(_normal_p(ranks, n_a, u), smallest)
    return MannWhitney(u, p, exact, n_a, n_b, smallest)


def benjamini_hochberg(p: NDArray[Any]) -> NDArray[np.float64]:
    """P-values adjusted for the false discovery rate (Benjamini and Hochberg, JRSS B 1995).

    p: any shape, all tests of one table; NaN is no test: it stays NaN and does not count. The i-th smallest of m
    becomes min over j >= i of m p_(j) / j, at most 1. Calling those at or below q discoveries keeps the expected
    share of false ones among them at or below q, for tests that are independent or depend positively.
    Raises DataError on a value outside 0 .. 1.
    """
    values = np.asarray(p, dtype=np.float64)
    known = values[~np.isnan(values)]
    if not ((known >= 0) & (known <= 1)).all():
        raise DataError(f"p: expected values of 0 .. 1 or NaN, got {known.min()} .. {known.max()}; give p-values")
    order = np.argsort(-known)
    ratios = known[order] * known.size / np.arange(known.size, 0, -1)
    adjusted = np.empty(known.size)
    adjusted[order] = np.minimum(np.minimum.accumulate(ratios), 1.0)
    out = np.full(values.shape, np.nan)
    out[~np.isnan(values)] = adjusted
    return out


def sharpe_estimate(returns: NDArray[Any]) -> SharpeEstimate:
    """The Sharpe ratio per period of a series of returns, with its moments.

    returns: (periods,), fractions (0.01 = 1 %) above the risk-free rate. The standard deviation has ddof 1; skew is
    m3 / m2^1.5 and kurtosis m4 / m2^2, with m_k the mean k-th power of the deviations.
    Raises DataError on fewer than two returns, one that is not finite, or returns that do not vary.
    """
    if isinstance(returns, tuple):
        raise DataError("returns: expected an array, got a tuple; name figures as SharpeEstimate(sharpe, n, ...)")
    days, left_out = _finite(returns, "returns")
    if left_out:
        raise DataError(f"returns: expected finite values, got {left_out} that are not; a day without trade has 0")
    mean, deviations = _centred(days)
    unit = float(np.abs(deviations).max())
    if unit == 0:
        raise DataError(f"returns: expected values that vary, got {mean} on all {len(days)}; no Sharpe ratio exists")
    e = deviations / unit
    m2, m3, m4 = (float((e**power).mean()) for power in (2, 3, 4))
    deviation = unit * math.sqrt(m2 * len(days) / (len(days) - 1))
    return SharpeEstimate(mean / deviation, len(days), m3 / m2**1.5, m4 / m2**2)


def probabilistic_sharpe(returns: NDArray[Any] | SharpeEstimate, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio is above a benchmark (Bailey and Lopez de Prado, Journal of Risk 2012).

    Phi((SR - benchmark) sqrt(n - 1) / sqrt(1 - skew SR + (kurtosis - 1) / 4 SR^2)), periods taken as independent.
    returns: (periods,), or their SharpeEstimate. SR and benchmark are per period, never annualised: divide an annual
    ratio by sqrt(periods per year).
    Raises what `sharpe_estimate` does; DataError on figures that no returns have.
    """
    estimate = returns if isinstance(returns, SharpeEstimate) else sharpe_estimate(returns)
    sharpe, n, skew, kurtosis = estimate
    if not all(map(math.isfinite, (*estimate, benchmark))) or n < 2:
        raise DataError(f"expected finite figures of 2 periods or more, got {estimate} and benchmark {benchmark}")
    if kurtosis < (1 + skew**2) * (1 - 1e-9):
        raise DataError(
            f"kurtosis: expected at least 1 + skew^2 = {1 + skew**2:.4g}, got {kurtosis:.4g}; "
            "give the kurtosis that is 3 for a normal, not the excess over it"
        )
    # 0 or more by the check above, but for rounding
    variance = (1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2) / (n - 1)
    gain = sharpe - benchmark
    z = gain / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gain) if gain else 0.0
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def sharpe_difference(
    returns: NDArray[Any],
    other: NDArray[Any],
    *,
    days_per_year: float,
    lags: int | None = None,
    block: float | None = None,
    draws: int = 10_000,
    alpha: float = 0.05,
    seed: int = 0,
) -> SharpeDifference:
    """Test that two accounts have one Sharpe ratio (Ledoit and Wolf, Journal of Empirical Finance 2008).

    returns, other: (days,), the same days in order of time, fractions above the risk-free rate; or (accounts, days),
    such as the seeds of a model, of whose Sharpe ratios the mean is taken. A day without a figure in any of them is
    left out and counted. days_per_year: for the annual figures alone.

    - hac: by the delta method. With z the returns less their mean, over their standard deviation, SR moves by
      (z_t - SR / 2 (z_t^2 - 1)) / n with day t; the difference of these series of both accounts is tested as
      `hac_test` does (Newey-West and Student's t, where the paper has other kernels and the normal). Without
      autocorrelation of normal returns it is the test of Jobson and Korkie (1981) as corrected by Memmel (2003).
    - bootstrap: stationary, of the days of all accounts together, the ratios computed anew in each draw; p and interval
      as in `block_bootstrap`. The paper's bootstrap divides each draw by its own error; this one does not. Draws in
      which an account does not vary have no ratio, and count as beyond either end.

    The test is about these accounts on these days. Where both are the same but for leverage, the difference is 0 and p
    is 1. Raises DataError on unequal lengths, fewer than two days that all have, or returns that do not vary;
    ConfigError as the two tests do, or on days_per_year not above 0.
    """
    if not 0 < days_per_year < math.inf:
        raise ConfigError(f"days_per_year: expected a number above 0, got {days_per_year}; 252 stocks, 365 crypto")
    ours, theirs = _accounts(returns, "returns"), _accounts(other, "other")
    if ours.shape[1] != theirs.shape[1]:
        raise DataError(
            f"returns and other: expected the same days in both, got {ours.shape[1]} and {theirs.shape[1]}; align them "
            "by date"
        )
    known = np.isfinite(ours).all(axis=0) & np.isfinite(theirs).all(axis=0)
    n, left_out = int(known.sum()), int((~known).sum())
    if n < 2:
        raise DataError(f"returns and other: expected two days or more that all have, got {n}; a test needs them")
    first, second = _standardised(ours[:, known], "returns"), _standardised(theirs[:, known], "other")
    (sharpe, influence), (other_sharpe, other_influence) = _influence(*first), _influence(*second)
    difference, moves = sharpe - other_sharpe, influence - other_influence
    # what is the same but for leverage differs by rounding alone, which is no evidence
    if np.abs(moves).max() <= ROUNDING * np.abs(influence).max():
        moves = np.zeros(n)
    if abs(difference) <= ROUNDING * max(1.0, abs(sharpe)):
        difference = 0.0
    hac = hac_test(difference + moves, lags)._replace(mean=difference, left_out=left_out)
    block = _block(moves, block)
    _draws_beyond(draws, alpha)
    parts = np.concatenate([part for _, z in (first, second) for part in (z, z**2 - 1.0)])
    means = _draw_means(parts, block, draws, np.random.default_rng(seed))
    drawn = _drawn_sharpes(first[0], means[: 2 * len(ours)], n) - _drawn_sharpes(second[0], means[2 * len(ours) :], n)
    p, low, high = _basic(drawn - difference, difference, ROUNDING, alpha)
    bootstrap = BootstrapTest(difference, low, high, p, block, draws, alpha, n, left_out)
    return SharpeDifference(sharpe, other_sharpe, hac, bootstrap, days_per_year)


def expected_maximum_sharpe(trials: int, variance_of_trials: float) -> float:
    """The highest Sharpe ratio to expect among independent trials without skill (Bailey and Lopez de Prado 2014).

    sqrt(V) ((1 - c) Phi^-1(1 - 1/N) + c Phi^-1(1 - 1/(N e))), c the Euler-Mascheroni constant; 0 for one trial. An
    approximation: 8 % too low for two trials, at most 3 % too high for more. variance_of_trials: of the trials' Sharpe
    ratios, in units per period as the result: an annual variance divided by the periods per year.
    Raises ConfigError on fewer than one trial, DataError on a variance below 0 or not finite.
    """
    if trials < 1:
        raise ConfigError(f"trials: expected 1 or more, got {trials}; count all that were tried, the chosen included")
    if not 0 <= variance_of_trials < math.inf:
        raise DataError(f"variance_of_trials: expected 0 or more, got {variance_of_trials}; None takes 1 / (n - 1)")
    if trials == 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    # by the lower tail: 1 - 1/N would be rounded to 1 for very many trials
    largest = -(1.0 - EULER) * quantile(1 / trials) - EULER * quantile(1 / (trials * math.e))
    return math.sqrt(variance_of_trials) * largest


def deflated_sharpe(
    returns: NDArray[Any] | SharpeEstimate, trials: int, variance_of_trials: float | None = None
) -> float:
    """Probability that the best of many trials has skill (Bailey and Lopez de Prado, JPM 2014).

    `probabilistic_sharpe` against `expected_maximum_sharpe` as the benchmark. returns: (periods,) of the chosen trial,
    or their SharpeEstimate. trials: independent ones that it was chosen from, itself included. variance_of_trials: of
    their Sharpe ratios per period (an annual variance divided by the periods per year); None takes 1 / (n - 1), that
    of trials which differ by chance alone, and so deflates too little where they differ by more.
    Raises what those two do.
    """
    estimate = returns if isinstance(returns, SharpeEstimate) else sharpe_estimate(returns)
    if variance_of_trials is None:
        variance_of_trials = 1.0 / max(estimate.n - 1, 1)
    return probabilistic_sharpe(estimate, expected_maximum_sharpe(trials, variance_of_trials))


def _accounts(returns: NDArray[Any], name: str) -> NDArray[np.float64]:
    """(accounts, days)."""
    array = np.asarray(returns, dtype=np.float64)
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise DataError(f"{name}: expected returns of shape (days,) or (accounts, days), got {array.shape}")
    return np.atleast_2d(array)


def _standardised(returns: NDArray[np.float64], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean over standard deviation (ddof 0) of each account, and its returns less the mean over it; DataError if 0."""
    ratios, standard = np.empty(len(returns)), np.empty(returns.shape)
    for i, series in enumerate(returns):
        mean, deviations = _centred(series)
        unit = float(np.abs(deviations).max())
        if unit == 0:
            raise DataError(f"{name}: expected values that vary, got {mean} on all days; no Sharpe ratio exists")
        spread = unit * math.sqrt(float(((deviations / unit) ** 2).mean()))
        ratios[i], standard[i] = mean / spread, deviations / spread
    return ratios, standard


def _influence(ratios: NDArray[np.float64], z: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The mean Sharpe ratio (ddof 1) of some accounts, and by how much n times each day moves it, (days,)."""
    moves = z - ratios[:, None] / 2.0 * (z**2 - 1.0)
    return float(ratios.mean()) * math.sqrt((z.shape[1] - 1) / z.shape[1]), moves.mean(axis=0)


def _drawn_sharpes(ratios: NDArray[np.float64], means: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """The mean Sharpe ratio (ddof 1) of each draw, (draws,); NaN where an account does not vary.

    means: of z and then of z^2 - 1 of each account, (2 accounts, draws).
    """
    first, second = means[: len(ratios)], means[len(ratios) :]
    variance = 1.0 + second - first**2
    varied = variance > ROUNDING
    found = np.full(first.shape, np.nan)
    np.divide(ratios[:, None] + first, np.sqrt(np.maximum(variance, ROUNDING)), out=found, where=varied)
    sharpes: NDArray[np.float64] = found.mean(axis=0) * math.sqrt((n - 1) / n)
    return sharpes


def _finite(values: NDArray[Any], name: str) -> tuple[NDArray[np.float64], int]:
    """The finite values in their order, and how many others there are."""
    array = np.asarray(values, dtype=np.float64)
    kept = array[np.isfinite(array)]
    if array.ndim != 1 or len(kept) < 2:
        raise DataError(
            f"{name}: expected a series of two finite values or more, got {kept.size} of shape {array.shape}; "
            "a test needs values that can vary"
        )
    return kept, array.size - kept.size


def _sample(values: NDArray[Any], name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise DataError(
            f"{name}: expected finite values of shape (values,), one or more, got {np.isfinite(array).sum()} finite of "
            f"shape {array.shape}; a seed that failed is a result: mend it, or decide and say that it is left out"
        )
    return array


def _centred(series: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Mean and deviations from it; of a constant series they are 0, which rounding of the mean would hide."""
    if series.min() == series.max():
        return float(series[0]), np.zeros(len(series))
    mean = float(series.mean())
    return mean, series - mean


def _autocovariances(deviations: NDArray[np.float64], lags: int) -> NDArray[np.float64]:
    """sum_t e_t e_(t-j) / n for j = 0 .. lags, (lags + 1,); 0 from n on."""
    n = len(deviations)
    products = [float(deviations[lag:] @ deviations[: n - lag]) if lag < n else 0.0 for lag in range(lags + 1)]
    return np.array(products) / n


def _draws_beyond(draws: int, alpha: float) -> int:
    """How many draws, less one, lie beyond either end of the interval; 1 or more."""
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha: expected above 0 and below 1, got {alpha}; 0.05 gives an interval of 95 %")
    # a hair more: 0.05 x 40 may be a hair less than 2
    beyond = math.floor(alpha * (draws + 1) / 2 + 1e-9)
    if beyond < 1:
        fewest = math.ceil(2 / alpha - 1e-9) - 1
        raise ConfigError(f"draws: expected {fewest} or more for alpha {alpha}, got {draws}; 10000 is usual")
    return beyond


def _block(days: NDArray[np.float64], block: float | None) -> float:
    """The mean length of a block, by the data if none is given."""
    n = len(days)
    if block is None:
        block = automatic_block(days)
    if not 1 <= block <= n:
        raise ConfigError(f"block: expected 1 .. {n} for {n} days, got {block}; None chooses by the data")
    return float(block)


def _basic(found: NDArray[np.float64], estimate: float, slack: float, alpha: float) -> tuple[float, float, float]:
    """p and interval of an estimate from its draws less itself; NaN, a draw without a figure, is beyond either end."""
    draws, k = len(found), _draws_beyond(len(found), alpha)
    above, below = (np.sort(np.where(np.isnan(found), end, found)) for end in (math.inf, -math.inf))
    beyond = min(np.count_nonzero(above >= estimate - slack), np.count_nonzero(below <= estimate + slack))
    p = min(1.0, 2.0 * (1 + int(beyond)) / (draws + 1))
    return p, estimate - float(above[draws - k]), estimate - float(below[k - 1])


def _draw_means(
    series: NDArray[np.float64], block: float, draws: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Means of stationary bootstrap samples of (series, days), the same days of all, (series, draws)."""
    # a block's sum is a difference of running sums over a series, written twice for blocks around its end
    n = series.shape[1]
    running = np.zeros((len(series), 2 * n + 1))
    np.cumsum(np.tile(series, 2), axis=1, out=running[:, 1:])
    rows = max(1, CELLS // n)
    parts = [_draw_chunk(running, n, block, min(rows, draws - done), random) for done in range(0, draws, rows)]
    return np.concatenate(parts, axis=1)


def _draw_chunk(
    running: NDArray[np.float64], n: int, block: float, rows: int, random: np.random.Generator
) -> NDArray[np.float64]:
    opens = random.random((rows, n)) < 1.0 / block
    opens[:, 0] = True
    at = np.flatnonzero(opens)
    length = np.diff(at, append=rows * n)
    start = random.integers(0, n, len(at))
    return np.stack([np.bincount(at // n, weights=sums[start + length] - sums[start]) / n for sums in running])


def _exact_p(ranks: NDArray[np.float64], n_a: int) -> float:
    """Over all choices of n_a among the ranks, by counting those of each size and sum (of doubled, so whole, ranks)."""
    doubled = np.rint(2 * ranks).astype(np.int64)
    counts = np.zeros((n_a + 1, int(doubled.sum()) + 1))
    counts[0, 0] = 1
    for rank in doubled:
        counts[1:, rank:] += counts[:-1, :-rank]
    by_sum, found = counts[n_a], int(doubled[:n_a].sum())
    fewer = min(by_sum[: found + 1].sum(), by_sum[found:].sum())
    return min(1.0, 2.0 * float(fewer / by_sum.sum()))


def _normal_p(ranks: NDArray[np.float64], n_a: int, u: float) -> float:
    """By the mean and variance of U over all splits; that of tied ranks is smaller by what ties take."""
    n, n_b = len(ranks), len(ranks) - n_a
    spread = math.sqrt(n_a * n_b / (n * (n - 1)) * float(((ranks - (n + 1) / 2) ** 2).sum()))
    if spread == 0:
        return 1.0
    return math.erfc(max(0.0, abs(u - n_a * n_b / 2) - 0.5) / spread / math.sqrt(2.0))


def _student_p(t: float, degrees: int) -> float:
    """P(|T| >= |t|) of Student's T: the incomplete beta function I_x(degrees / 2, 1/2) at degrees / (degrees + t^2)."""
    from scipy.special import betainc  # half a second to import, for nothing in a command that tests nothing

    square = t * t
    return 0.0 if math.isinf(square) else float(betainc(degrees / 2, 0.5, degrees / (degrees + square)))
