import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mimstocr.errors import ConfigError, DataError
from mimstocr.evaluation import significance
from mimstocr.evaluation.significance import (
    SharpeEstimate,
    automatic_block,
    automatic_lags,
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

NAN, INF = np.nan, np.inf


def autoregressive(seed, rho, days, series=1):
    """Stationary AR(1) of mean 0 and variance 1, (series, days)."""
    noise = np.random.default_rng(seed).normal(size=(series, days))
    x = noise.copy()
    for t in range(1, days):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    return x


def slow_student(t, degrees):
    """P(|T| >= t) by the finite sums of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    theta = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    if degrees % 2:
        total = sum(
            cosine ** (2 * k + 1) * math.prod(2 * i / (2 * i + 1) for i in range(1, k + 1))
            for k in range((degrees - 1) // 2)
        )
        return 1 - 2 / math.pi * (theta + sine * total)
    total = sum(
        cosine ** (2 * k) * math.prod((2 * i - 1) / (2 * i) for i in range(1, k + 1)) for k in range(degrees // 2)
    )
    return 1 - sine * total


def slow_autocovariance(x, lag):
    mean = math.fsum(x) / len(x)
    return math.fsum((x[t] - mean) * (x[t - lag] - mean) for t in range(lag, len(x))) / len(x)


def slow_lags(x):
    n = len(x)
    pilot = min(math.floor(4 * (n / 100) ** (2 / 9)), n - 1)
    s0 = slow_autocovariance(x, 0) + 2 * sum(slow_autocovariance(x, j) for j in range(1, pilot + 1))
    s1 = 2 * sum(j * slow_autocovariance(x, j) for j in range(1, pilot + 1))
    return min(math.floor(1.1447 * ((s1 / s0) ** 2 * n) ** (1 / 3)), n // 4)


def slow_block(x):
    n, most = len(x), math.ceil(math.sqrt(len(x))) + 5
    band = 2 * math.sqrt(math.log10(n) / n)
    rho = [slow_autocovariance(x, k) / slow_autocovariance(x, 0) if k < n else 0.0 for k in range(most + 10)]
    last = most
    for m in range(1, most + 1):
        if all(abs(rho[m + i]) < band for i in range(5)):
            last = min(2 * m, most)
            break
    s = first_moment = 0.0
    for k in range(-last, last + 1):
        if abs(k) < n:
            weight = 1.0 if abs(k) <= last / 2 else 2 * (1 - abs(k) / last)
            s += weight * slow_autocovariance(x, abs(k))
            first_moment += weight * abs(k) * slow_autocovariance(x, abs(k))
    return max(1.0, min((n * first_moment**2 / s**2) ** (1 / 3), math.ceil(min(3 * math.sqrt(n), n / 3))))


def every_resample(x, block):
    """All stationary bootstrap samples of a short series: their mean minus the series', and their probability."""
    n = len(x)
    for days in itertools.product(range(n), repeat=n):
        chance = 1 / n
        for before, day in itertools.pairwise(days):
            chance *= 1 / block / n + (1 - 1 / block) * (day == (before + 1) % n)
        yield math.fsum(x[day] for day in days) / n - math.fsum(x) / n, chance


def test_hac_by_hand():
    # deviations -2 -1 1 2 from the mean 3: g0 = 10/4, g1 = (2 - 1 + 2)/4
    found = hac_test(np.array([1.0, 2.0, 4.0, 5.0]), lags=1)
    assert found.mean == 3
    assert found.se == pytest.approx(math.sqrt((10 / 4 + 2 * (1 - 1 / 2) * 3 / 4) / 3), rel=1e-14)
    assert found.t == pytest.approx(3 / math.sqrt(13 / 12), rel=1e-14)
    theta = math.atan(found.t / math.sqrt(3))
    assert found.p == pytest.approx(1 - 2 / math.pi * (theta + math.sin(theta) * math.cos(theta)), rel=1e-12)
    assert (found.lags, found.n, found.left_out) == (1, 4, 0)


@pytest.mark.parametrize("days", [2, 3, 4, 7, 30, 251])
def test_without_lags_hac_is_the_usual_t_test(days):
    for x in autoregressive(days, 0.0, days, series=4) + 0.1:
        found = hac_test(x, lags=0)
        assert found.t == pytest.approx(x.mean() / (x.std(ddof=1) / math.sqrt(days)), rel=1e-12)
        assert found.p == pytest.approx(slow_student(found.t, days - 1), abs=1e-12)


@pytest.mark.parametrize("lags", [0, 1, 5, 39])
def test_hac_equals_the_loops(lags):
    (x,) = autoregressive(1, 0.6, 40)
    s = slow_autocovariance(x, 0)
    for j in range(1, lags + 1):
        s += 2 * (1 - j / (lags + 1)) * slow_autocovariance(x, j)
    assert hac_test(x, lags).se == pytest.approx(math.sqrt(s / 39), rel=1e-11)


def test_tiny_p_values_keep_their_digits():
    one, two, four = (hac_test(np.resize([1.0, 1.001], n), lags=0) for n in (2, 3, 5))
    assert one.p == pytest.approx(2 / math.pi * math.atan(1 / one.t), rel=1e-9)
    root = math.sqrt(2 + two.t**2)
    assert two.p == pytest.approx(2 / (root * (root + two.t)), rel=1e-9)
    sine, cosine = four.t / math.hypot(four.t, 2), 2 / math.hypot(four.t, 2)
    assert four.p == pytest.approx(cosine**4 * (2 + sine) / (2 * (1 + sine) ** 2), rel=1e-9)
    assert four.p < 1e-12


@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.5, 0.9])
@pytest.mark.parametrize("days", [3, 5, 12, 60, 300])
def test_automatic_choices_equal_the_loops(rho, days):
    (x,) = autoregressive(7, rho, days)
    assert automatic_lags(x) == hac_test(x).lags == slow_lags(x)
    assert automatic_block(x) == pytest.approx(slow_block(x), rel=1e-10)
    assert block_bootstrap(x, draws=50).block == automatic_block(x)


def test_automatic_choices_have_bounds():
    # of two days s0 is 0; of eight that swing s0 = 1 + 2 (6 - 7) / 8 and s1 = 2 (2 x 6 - 7) / 8, which asks for 3 lags
    assert (automatic_lags(np.array([1.0, 2.0])), automatic_block(np.array([1.0, 2.0]))) == (0, 1)
    assert math.floor(1.1447 * ((5 / 4 / (3 / 4)) ** 2 * 8) ** (1 / 3)) == 3
    assert automatic_lags(np.resize([1.0, -1.0], 8)) == 8 // 4
    assert automatic_block(np.resize([1.0, -1.0], 40)) == math.ceil(40 / 3)


def test_automatic_choices_grow_with_dependence():
    lags = [np.median([automatic_lags(x) for x in autoregressive(2, rho, 500, 20)]) for rho in (0.0, 0.5, 0.9)]
    blocks = [np.median([automatic_block(x) for x in autoregressive(2, rho, 500, 20)]) for rho in (0.0, 0.5, 0.9)]
    assert lags[0] < lags[1] < lags[2] < 125
    assert blocks[0] < 3 < blocks[1] < blocks[2]


@pytest.mark.parametrize("cells", [2**18, 4 * 999])
@pytest.mark.parametrize("block", [1.0, 2.5, 4.0])
def test_bootstrap_equals_all_resamples(block, cells, monkeypatch):
    monkeypatch.setattr(significance, "CELLS", cells)
    x, draws = np.array([0.5, 2.25, -1.0, 1.25]), 40_000
    found = block_bootstrap(x, block=block, draws=draws, alpha=0.2)
    resamples = sorted(every_resample(x, block))
    assert math.fsum(chance for _, chance in resamples) == pytest.approx(1)
    above = sum(chance for d, chance in resamples if d >= found.mean)
    below = sum(chance for d, chance in resamples if d <= found.mean)
    tail = min(above, below)
    assert found.p == pytest.approx(2 * tail, abs=2 * 4 * math.sqrt(tail * (1 - tail) / draws))
    # the ends lie between the quantiles a little to the left and to the right of 10 % and 90 %
    share = np.cumsum([chance for _, chance in resamples])
    for end, q in ((found.high, 0.1), (found.low, 0.9)):
        around = [resamples[np.searchsorted(share, q + side)][0] for side in (-0.006, 0.006)]
        assert found.mean - around[1] - 1e-12 <= end <= found.mean - around[0] + 1e-12


def test_the_interval_leaves_zero_out_just_where_p_is_small():
    for draws, alpha in ((39, 0.05), (199, 0.05), (1000, 0.1), (777, 0.3)):
        outside = []
        for seed, x in enumerate(autoregressive(3, 0.3, 30, 60) + 0.25):
            found = block_bootstrap(x, draws=draws, alpha=alpha, seed=seed)
            outside.append(not found.low <= 0 <= found.high)
            assert outside[-1] == (found.p <= alpha)
        assert 0 < sum(outside) < 60
    # 0.29 x 200 / 2 is a hair less than 29 in floats
    assert significance._draws_beyond(199, 0.29) == 29


def test_the_size_holds_under_dependence_and_that_of_the_naive_test_does_not():
    def rejected(rho, shift=0.0):
        tests = [
            (hac_test(x, 0), paired(x, np.zeros(250), draws=199)) for x in autoregressive(4, rho, 250, 300) + shift
        ]
        return np.mean([(t.p <= 0.05, both.hac.p <= 0.05, both.bootstrap.p <= 0.05) for t, both in tests], axis=0)

    # of 300, two standard deviations of a share of 5 % are 2.5 %
    assert (np.abs(rejected(0.0) - 0.05) < 0.035).all()
    naive, hac, bootstrap = rejected(0.5)
    assert naive > 0.2
    assert 0.03 < hac < 0.12
    assert 0.03 < bootstrap < 0.12
    # at three true standard errors: sd of the mean is sqrt((1 + rho) / (1 - rho) / n)
    assert (rejected(0.5, shift=3 * math.sqrt(3 / 250)) > 0.75).all()


def test_the_interval_covers_the_mean():
    for rho, least in ((0.0, 0.92), (0.5, 0.88)):
        found = [block_bootstrap(x, draws=199, seed=i) for i, x in enumerate(autoregressive(5, rho, 400, 250) + 7)]
        assert least < np.mean([f.low <= 7 <= f.high for f in found]) < 0.98


def test_sign_scale_and_place():
    (x,) = autoregressive(6, 0.4, 200)
    x = x + 0.1
    hac, mirrored, scaled = hac_test(x), hac_test(-x), hac_test(8 * x)
    assert mirrored == hac._replace(mean=-hac.mean, t=-hac.t)
    assert scaled == hac._replace(mean=8 * hac.mean, se=8 * hac.se)
    boot, mirrored, scaled = block_bootstrap(x), block_bootstrap(-x), block_bootstrap(8 * x)
    assert mirrored == boot._replace(mean=-boot.mean, low=-boot.high, high=-boot.low)
    assert scaled == boot._replace(mean=8 * boot.mean, low=8 * boot.low, high=8 * boot.high)
    assert_allclose(block_bootstrap(1e-3 * x)[:4], (1e-3 * boot.mean, 1e-3 * boot.low, 1e-3 * boot.high, boot.p))
    moved = block_bootstrap(x + 3)
    assert_allclose((moved.low, moved.high), (boot.low + 3, boot.high + 3), rtol=1e-12)
    assert hac_test(x[::-1]).se == pytest.approx(hac.se, rel=1e-12)
    for size in (1e-200, 1e200):
        assert_allclose(hac_test(size * x)[:4], (size * hac.mean, size * hac.se, hac.t, hac.p), rtol=1e-10)


def test_the_seed_decides():
    (x,) = autoregressive(8, 0.0, 100)
    assert block_bootstrap(x, draws=500) == block_bootstrap(x, draws=500, seed=0)
    assert block_bootstrap(x, draws=500) != block_bootstrap(x, draws=500, seed=1)


def test_constant_series():
    # the mean of seven tenths is not a tenth in floats
    zeros, tenths = np.zeros(7), np.full(7, -0.1)
    assert hac_test(zeros) == (0, 0, 0, 1, 0, 7, 0)
    assert hac_test(tenths) == (-0.1, 0, -INF, 0, 0, 7, 0)
    assert block_bootstrap(zeros, draws=99) == (0, 0, 0, 1, 1, 99, 0.05, 7, 0)
    assert block_bootstrap(tenths, draws=99) == (-0.1, -0.1, -0.1, 2 / 100, 1, 99, 0.05, 7, 0)


def test_days_left_out_are_counted():
    (x,) = autoregressive(9, 0.5, 50)
    with_gaps = np.insert(x, [0, 20, 20, 50], [NAN, NAN, INF, NAN])
    assert hac_test(with_gaps) == hac_test(x)._replace(left_out=4)
    assert block_bootstrap(with_gaps, draws=99) == block_bootstrap(x, draws=99)._replace(left_out=4)


def test_paired_is_both_tests_of_the_differences():
    theirs, ours = autoregressive(10, 0.5, 80, series=2)
    ours[3], theirs[[3, 7, 8]], ours[9] = NAN, [NAN, INF, NAN], INF
    theirs[9] = INF
    found = paired(ours, theirs, lags=2, block=3, draws=500, alpha=0.1, seed=4)
    kept = np.delete(ours, [3, 7, 8, 9]) - np.delete(theirs, [3, 7, 8, 9])
    assert (found.n_days, found.left_out) == (76, 4)
    assert found.hac == hac_test(kept, 2)._replace(left_out=4)
    assert found.bootstrap == block_bootstrap(kept, 3, 500, 0.1, 4)._replace(left_out=4)
    same = paired(ours, ours)
    assert (same.hac.p, same.bootstrap.p) == (1, 1)


def test_mann_whitney_by_hand():
    # of the 20 ways to choose 3 of 6 the separated ones are 2, and the next on each side are 2 more
    assert mann_whitney(np.array([4, 5, 6]), np.array([1, 2, 3])) == (9, 2 / 20, True, 3, 3, 2 / 20)
    assert mann_whitney(np.array([1, 2, 4]), np.array([3, 5, 6])) == (1, 4 / 20, True, 3, 3, 2 / 20)
    assert mann_whitney(np.array([1.0]), np.array([2.0])) == (0, 1, True, 1, 1, 1)


@pytest.mark.parametrize("sizes", [(1, 4), (3, 3), (4, 3), (2, 6)])
@pytest.mark.parametrize("distinct", [2, 4, 1000])
def test_mann_whitney_equals_all_splits(sizes, distinct):
    def pairs_won(chosen, others):
        return sum((x > y) + (x == y) / 2 for x in chosen for y in others)

    random = np.random.default_rng(sum(sizes) + distinct)
    for _ in range(5):
        values = random.integers(0, distinct, sum(sizes)).astype(float)
        a, b = values[: sizes[0]], values[sizes[0] :]
        found = mann_whitney(a, b)
        splits = [
            pairs_won(values[list(chosen)], np.delete(values, chosen))
            for chosen in itertools.combinations(range(sum(sizes)), sizes[0])
        ]
        assert found.u == pairs_won(a, b)
        fewer = min(sum(u <= found.u for u in splits), sum(u >= found.u for u in splits))
        assert found.p == pytest.approx(min(1, 2 * fewer / len(splits)), rel=1e-12)
        assert found.p >= found.smallest_p == min(1, 2 / len(splits))
        other = mann_whitney(b, a)
        assert (other.u, other.p) == (sizes[0] * sizes[1] - found.u, pytest.approx(found.p))
        assert mann_whitney(np.exp(a / 1000), np.exp(b / 1000)) == found


@pytest.mark.parametrize(("seeds", "smallest"), [(2, 1 / 3), (3, 1 / 10), (4, 1 / 35), (5, 1 / 126), (10, 1 / 92378)])
def test_the_smallest_p_of_so_many_seeds(seeds, smallest):
    found = mann_whitney(np.arange(seeds) + 100, np.arange(seeds))
    assert found.p == found.smallest_p == pytest.approx(smallest)


def test_mann_whitney_of_large_samples():
    random = np.random.default_rng(0)
    a, b = random.integers(2, 12, 30).astype(float), random.integers(0, 10, 25).astype(float)
    found = mann_whitney(a, b)
    ties = [(np.concatenate([a, b]) == value).sum() for value in range(12)]
    spread = math.sqrt(30 * 25 / 12 * (56 - sum(t**3 - t for t in ties) / (55 * 54)))
    z = (abs(found.u - 30 * 25 / 2) - 1 / 2) / spread
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=1e-12)
    assert not found.exact
    # at the change from counting to the approximation the two are close
    values = random.permutation(51).astype(float)
    assert mann_whitney(values[:25], values[25:50]).exact
    for start in range(20):
        mixed = np.roll(values, start)
        counted, approximate = mann_whitney(mixed[:25], mixed[25:50]), mann_whitney(mixed[:25], mixed[25:])
        assert (counted.exact, approximate.exact) == (True, False)
        assert significance._normal_p(significance.average_ranks(mixed[:50]), 25, counted.u) == pytest.approx(
            counted.p, abs=0.005
        )
    # one against sixty equal ones: the approximation alone would give 2e-14
    alone = mann_whitney(np.array([1.0]), np.zeros(60))
    assert alone.p == alone.smallest_p == 2 / 61
    assert mann_whitney(np.ones(30), np.ones(30)).p == 1


def test_benjamini_hochberg_on_its_paper():
    # the 15 comparisons of section 4, of which the first four are declared at 5 %
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    adjusted = benjamini_hochberg(np.array(p))
    assert_array_equal(adjusted <= 0.05, [True] * 4 + [False] * 11)
    assert_allclose(adjusted[:4], [0.0015, 0.003, 0.0095, 0.0095 * 15 / 4])
    assert adjusted[5] == adjusted[6] == pytest.approx(0.0298 * 15 / 7)


@pytest.mark.parametrize("seed", range(4))
def test_benjamini_hochberg_equals_its_definition(seed):
    random = np.random.default_rng(seed)
    p = np.round(random.random((4, 5)) ** 3, 2)
    p[random.random(p.shape) < 0.2] = NAN
    known = sorted(value for value in p.flat if not math.isnan(value))
    found = benjamini_hochberg(p)
    assert_array_equal(np.isnan(found), np.isnan(p))
    for value, adjusted in zip(p.flat, found.flat, strict=True):
        if not math.isnan(value):
            ratios = [len(known) * other / j for j, other in enumerate(known, start=1) if other >= value]
            assert adjusted == pytest.approx(min(1, *ratios, 1), rel=1e-14)
    shuffled = random.permutation(p.size)
    assert_array_equal(benjamini_hochberg(p.ravel()[shuffled]), found.ravel()[shuffled])


def test_benjamini_hochberg_of_little():
    assert benjamini_hochberg(np.array([0.3])) == [0.3]
    assert_array_equal(benjamini_hochberg(np.array([NAN, 0.5, NAN])), [NAN, 0.5, NAN])
    assert benjamini_hochberg(np.empty((0, 3))).shape == (0, 3)
    assert_array_equal(benjamini_hochberg(np.full(2, NAN)), [NAN, NAN])


def test_deflated_sharpe_prints_what_its_paper_prints():
    # 5 years of 250 days, annual Sharpe 2.5, annual variance of the trials 1/2
    best, variance = SharpeEstimate(2.5 / math.sqrt(250), 1250, -3.0, 10.0), 0.5 / 250
    assert expected_maximum_sharpe(100, variance) == pytest.approx(0.1132, abs=5e-5)
    assert deflated_sharpe(best, 100, variance) == pytest.approx(0.9004, abs=5e-5)
    assert deflated_sharpe(best, 46, variance) == pytest.approx(0.9505, abs=5e-5)
    # with normal returns 88 trials give the same
    assert deflated_sharpe(best._replace(skew=0.0, kurtosis=3.0), 88, variance) == pytest.approx(0.9505, abs=5e-5)


def test_probabilistic_sharpe_on_its_paper():
    # the least record for 95 % is 59.895 months: mean 2, sd sqrt(12), against an annual Sharpe of 1
    months = {n: SharpeEstimate(2 / math.sqrt(12), n, -0.72, 5.78) for n in (59, 60)}
    assert (
        probabilistic_sharpe(months[59], 1 / math.sqrt(12)) < 0.95 < probabilistic_sharpe(months[60], 1 / math.sqrt(12))
    )


def test_sharpe_estimate_equals_the_sums():
    x = np.random.default_rng(0).gamma(2.0, 0.01, 40) - 0.015
    n, mean = 40, math.fsum(x) / 40
    m2, m3, m4 = (math.fsum((v - mean) ** k for v in x) / n for k in (2, 3, 4))
    found = sharpe_estimate(x)
    assert_allclose(found, (mean / math.sqrt(m2 * n / (n - 1)), n, m3 / m2**1.5, m4 / m2**2), rtol=1e-12)
    assert_allclose(sharpe_estimate(1e-180 * x), found, rtol=1e-10)
    error = math.sqrt((1 - found.skew * found.sharpe + (found.kurtosis - 1) / 4 * found.sharpe**2) / (n - 1))
    assert probabilistic_sharpe(x) == pytest.approx(0.5 * math.erfc(-found.sharpe / error / math.sqrt(2)))
    assert probabilistic_sharpe(x, found.sharpe) == 0.5
    assert deflated_sharpe(x, 1) == probabilistic_sharpe(x)
    assert deflated_sharpe(x, 9) == deflated_sharpe(found, 9, 1 / 39)


def test_more_trials_deflate_more():
    best = SharpeEstimate(0.1, 1000, 0.0, 3.0)
    found = [deflated_sharpe(best, trials) for trials in (1, 2, 5, 100, 10**6, 10**300)]
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == len(found)


def test_the_best_of_trials_without_skill_is_told():
    trials = np.random.default_rng(1).normal(0.0, 0.01, size=(200, 20, 60))
    chosen = (trials.mean(axis=-1) / trials.std(axis=-1)).argmax(axis=-1)
    best = trials[np.arange(200), chosen]
    assert np.mean([probabilistic_sharpe(x) > 0.95 for x in best]) > 0.5
    assert np.mean([deflated_sharpe(x, 20) > 0.95 for x in best]) < 0.03


def test_two_valued_returns_have_a_limit():
    # kurtosis 1 + skew^2 and Sharpe 2 / skew: the estimated error is 0
    sure = SharpeEstimate(2.0, 10, 1.0, 2.0)
    assert [probabilistic_sharpe(sure, benchmark) for benchmark in (1.0, 2.0, 3.0)] == [1, 0.5, 0]
    # rounding takes the kurtosis, and then the error, just below the least that there is
    assert 0 < probabilistic_sharpe(np.array([0.01] * 4 + [-0.08] * 6)) < 1
    below = SharpeEstimate(2 / 1.0349386747441978, 10, 1.0349386747441978, 1 + 1.0349386747441978**2)
    assert 1 - below.skew * below.sharpe + (below.kurtosis - 1) / 4 * below.sharpe**2 < 0
    assert probabilistic_sharpe(below) == 1


def two_accounts(seed=0, days=60, rho=0.5):
    """Returns of two accounts that move together."""
    first, second = np.random.default_rng(seed).normal(size=(2, days))
    return 0.001 + 0.01 * first, 0.0004 + 0.02 * (rho * first + math.sqrt(1 - rho**2) * second)


@pytest.mark.parametrize("rho", [0.0, 0.6, -0.9])
def test_sharpe_difference_of_normal_returns_is_that_of_jobson_korkie_and_memmel(rho):
    """Nodes of a Gauss-Hermite rule have the moments of a normal, up to the fifth."""
    nodes = math.sqrt(3) * np.array([-1.0, 0, 0, 0, 0, 1])
    f, g = (grid.ravel() for grid in np.meshgrid(nodes, nodes))
    ours, theirs = 0.3 + 2.0 * f, -0.1 + 0.5 * (rho * f + math.sqrt(1 - rho**2) * g)
    a, b, n = 0.3 / 2.0, -0.1 / 0.5, 36
    variance = 2 - 2 * rho + (a**2 + b**2 - 2 * a * b * rho**2) / 2
    found = sharpe_difference(ours, theirs, days_per_year=252, lags=0)
    assert found.sharpe == pytest.approx(a * math.sqrt(35 / 36), rel=1e-12)  # ddof 1
    assert found.difference == pytest.approx((a - b) * math.sqrt(35 / 36), rel=1e-12)
    assert found.hac.se == pytest.approx(math.sqrt(variance / (n - 1)), rel=1e-12)
    assert found.hac.t == pytest.approx(found.difference / found.hac.se, rel=1e-12)
    assert found.hac.p == pytest.approx(slow_student(found.hac.t, 35), rel=1e-9)
    assert found.annual == pytest.approx(found.difference * math.sqrt(252), rel=1e-14)


@pytest.mark.parametrize("lags", [0, 1, 7])
def test_sharpe_difference_equals_the_delta_method_of_its_paper(lags):
    """The gradient by both means and both second moments, and their 4 x 4 long-run covariance, by loops."""
    ours, theirs = two_accounts(1)
    n = len(ours)
    y = np.array([ours, theirs, ours**2, theirs**2]).T
    a, b, c, d = y.mean(axis=0)
    gradient = np.array(
        [c / (c - a * a) ** 1.5, -d / (d - b * b) ** 1.5, -a / 2 / (c - a * a) ** 1.5, b / 2 / (d - b * b) ** 1.5]
    )
    e = y - y.mean(axis=0)
    psi = np.zeros((4, 4))
    for t in range(n):
        for u in range(n):
            if abs(t - u) <= lags:
                psi += (1 - abs(t - u) / (lags + 1)) * np.outer(e[t], e[u]) / n
    found = sharpe_difference(ours, theirs, days_per_year=252, lags=lags)
    assert found.hac.se == pytest.approx(math.sqrt(gradient @ psi @ gradient / (n - 1)), rel=1e-9)


def every_sharpe_difference(ours, theirs, block):
    """Of all resamples, less that of the series, and their probability; NaN where one day alone was drawn."""
    n = len(ours)

    def difference(days):
        ratios = [x[days].mean() / x[days].std(ddof=1) for x in (ours, theirs)]
        return ratios[0] - ratios[1]

    found = []
    for days in itertools.product(range(n), repeat=n):
        chance = 1 / n
        for before, day in itertools.pairwise(days):
            chance *= 1 / block / n + (1 - 1 / block) * (day == (before + 1) % n)
        gone = len(set(days)) == 1
        found.append((NAN if gone else difference(list(days)) - difference(list(range(n))), chance))
    return difference(list(range(n))), *np.array(found).T


@pytest.mark.parametrize(("days", "block"), [(5, 2.0), (4, 1.0)])
def test_the_bootstrap_of_sharpe_ratios_equals_all_resamples(days, block):
    ours, theirs = two_accounts(4, days=days, rho=-0.5)
    difference, d, chance = every_sharpe_difference(ours, theirs, block)
    gone = np.isnan(d)
    above = chance[gone | (d >= difference)].sum()
    below = chance[gone | (d <= difference)].sum()
    found = sharpe_difference(ours, theirs, days_per_year=252, block=block, draws=40_000, alpha=0.2).bootstrap
    assert 0.02 < min(above, below) < 0.4
    assert found.p == pytest.approx(2 * min(above, below), abs=0.01)
    assert found.mean == pytest.approx(difference, rel=1e-12)
    # a tenth of the draws lies beyond either end, those without a ratio among them
    for end, beyond in ((difference - found.low, d), (found.high - difference, -d)):
        assert chance[gone | (beyond >= end - 1e-9)].sum() > 0.095
        assert chance[gone | (beyond > end + 1e-9)].sum() < 0.105
    assert (found.low > 0 or found.high < 0) == (found.p <= 0.2)


def test_accounts_that_seldom_move_have_no_interval():
    """Of three days one alone is drawn in a ninth of the draws: more than the interval leaves out."""
    ours, theirs = np.array([0.01, 0.02, -0.01]), np.array([0.01, -0.01, 0.02])
    found = sharpe_difference(ours, theirs, days_per_year=252, block=1.0, draws=2000).bootstrap
    assert (found.low, found.high) == (-INF, INF)
    assert found.p > 2 / 9


def test_sharpe_differences_are_of_the_right_size_under_dependence():
    """Of accounts of one true Sharpe ratio, persistent and together; a test without lags rejects too often."""
    rejected = np.zeros(3)
    for seed in range(200):
        x = 0.05 + autoregressive(seed, 0.4, 400, series=3)
        ours, theirs = x[0] + x[1], 3 * (x[0] + x[2])
        found = sharpe_difference(ours, theirs, days_per_year=252, draws=199)
        naive = sharpe_difference(ours, theirs, days_per_year=252, lags=0, draws=39)
        rejected += np.array([found.hac.p, found.bootstrap.p, naive.hac.p]) <= 0.05
    hac, bootstrap, naive = rejected / 200
    assert 0.01 <= hac <= 0.11
    assert 0.01 <= bootstrap <= 0.13
    assert naive > hac + 0.05


def test_a_better_account_is_told():
    ours, theirs = two_accounts(2, days=500, rho=0.9)
    found = sharpe_difference(ours + 0.001, theirs, days_per_year=252)
    assert found.hac.p < 0.01
    assert found.bootstrap.p < 0.01
    assert 0 < found.annual_interval[0] < found.annual < found.annual_interval[1]
    turned = sharpe_difference(theirs, ours + 0.001, days_per_year=252)
    assert turned.difference == pytest.approx(-found.difference, rel=1e-12)
    assert turned.hac.p == pytest.approx(found.hac.p)
    assert turned.bootstrap.p == found.bootstrap.p
    assert turned.bootstrap.high == pytest.approx(-found.bootstrap.low)


def test_leverage_changes_nothing():
    ours, theirs = two_accounts(3)
    plain = sharpe_difference(ours, theirs, days_per_year=252)
    scaled = sharpe_difference(3 * ours, 1e-9 * theirs, days_per_year=252)
    assert scaled.hac.t == pytest.approx(plain.hac.t, rel=1e-9)
    assert scaled.bootstrap.low == pytest.approx(plain.bootstrap.low, rel=1e-9)
    for same in (ours, 3 * ours, 1e-9 * ours, ours - ours.mean()):
        found = sharpe_difference(same, same / 7, days_per_year=252)
        assert (found.difference, found.hac.t, found.hac.p, found.bootstrap.p) == (0, 0, 1, 1)


def test_accounts_of_several_seeds_have_the_mean_of_their_ratios():
    ours, theirs = (np.stack([two_accounts(seed)[side] for seed in (0, 1, 2)]) for side in (0, 1))
    found = sharpe_difference(ours, theirs[:2], days_per_year=252)
    ratios = [[row.mean() / row.std(ddof=1) for row in side] for side in (ours, theirs[:2])]
    assert found.sharpe == pytest.approx(np.mean(ratios[0]), rel=1e-12)
    assert found.difference == pytest.approx(np.mean(ratios[0]) - np.mean(ratios[1]), rel=1e-12)
    one = sharpe_difference(ours[0], theirs[0], days_per_year=252, lags=3, block=4)
    twice = sharpe_difference(ours[[0, 0]], theirs[0], days_per_year=252, lags=3, block=4)
    assert twice.hac.t == pytest.approx(one.hac.t, rel=1e-12)
    assert twice.bootstrap.low == pytest.approx(one.bootstrap.low, rel=1e-9)
    single = [sharpe_difference(a, b, days_per_year=252, lags=3).hac.se for a, b in zip(ours, theirs, strict=True)]
    # seeds that are independent: the error of the mean is that of one over the root of their number
    three = sharpe_difference(ours, theirs, days_per_year=252, lags=0).hac.se
    assert three < 0.8 * min(single)


def test_days_that_one_account_lacks_are_left_out():
    ours, theirs = two_accounts(5)
    holes = ours.copy()
    holes[[3, 40]], gaps = NAN, theirs.copy()
    gaps[[40, 50]] = INF
    kept = np.delete(np.arange(60), [3, 40, 50])
    found = sharpe_difference(np.stack([holes, ours]), gaps, days_per_year=252)
    whole = sharpe_difference(np.stack([ours, ours])[:, kept], theirs[kept], days_per_year=252)
    assert (found.hac.left_out, found.bootstrap.left_out, found.hac.n, found.bootstrap.n) == (3, 3, 57, 57)
    assert found.hac.t == whole.hac.t
    assert found.bootstrap.low == whole.bootstrap.low


TEN = np.arange(10.0)


def difference(ours, theirs, **settings):
    return sharpe_difference(ours, theirs, **{"days_per_year": 252, **settings})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: hac_test(np.array([1.0, NAN, INF])), DataError, r"two finite values or more, got 1 of shape \(3,\)"),
        (lambda: hac_test(np.ones((3, 3))), DataError, r"differences: expected a series .* got 9 of shape \(3, 3\)"),
        (lambda: hac_test(TEN, lags=10), ConfigError, r"lags: expected 0 \.\. 9 for 10 days, got 10; None"),
        (lambda: hac_test(TEN, lags=-1), ConfigError, r"lags: expected 0 \.\. 9"),
        (lambda: block_bootstrap(np.array([1.0])), DataError, "two finite values or more"),
        (lambda: block_bootstrap(TEN, block=0.5), ConfigError, r"block: expected 1 \.\. 10 for 10 days, got 0.5; None"),
        (lambda: block_bootstrap(TEN, block=11), ConfigError, "block: expected"),
        (lambda: block_bootstrap(TEN, block=NAN), ConfigError, "block: expected"),
        (lambda: block_bootstrap(TEN, alpha=1.0), ConfigError, "alpha: expected above 0 and below 1, got 1.0"),
        (lambda: block_bootstrap(TEN, alpha=0.0), ConfigError, "alpha: expected above 0"),
        (lambda: block_bootstrap(TEN, draws=38), ConfigError, "draws: expected 39 or more for alpha 0.05, got 38"),
        (lambda: paired(TEN, TEN[:9]), DataError, r"same days in both, got shapes \(10,\) and \(9,\); align"),
        (lambda: paired(TEN, np.full(10, NAN)), DataError, "two finite values or more, got 0"),
        (lambda: mann_whitney(TEN, np.array([])), DataError, "b: expected finite values"),
        (lambda: mann_whitney(np.array([1.0, NAN]), TEN), DataError, "a: .* got 1 finite of shape .* failed is a res"),
        (lambda: benjamini_hochberg(np.array([0.1, 1.5, NAN])), DataError, r"0 \.\. 1 or NaN, got 0.1 \.\. 1.5"),
        (lambda: benjamini_hochberg(np.array([-0.1])), DataError, "p: expected"),
        (lambda: sharpe_estimate(np.array([0.1])), DataError, "returns: .* two finite values"),
        (
            lambda: sharpe_estimate(np.array([0.1, 0.2, NAN])),
            DataError,
            "got 1 that are not; a day without trade has 0",
        ),
        (lambda: sharpe_estimate(np.full(5, 0.1)), DataError, "values that vary, got 0.1 on all 5"),
        (lambda: difference(TEN, TEN[:9]), DataError, "same days in both, got 10 and 9; align them"),
        (lambda: difference(TEN, np.full(10, 0.2)), DataError, "other: expected values that vary, got 0.2 on all days"),
        (lambda: difference(np.zeros(10), TEN), DataError, "returns: expected values that vary, got 0.0"),
        (lambda: difference(TEN, np.full(10, NAN)), DataError, "two days or more that all have, got 0"),
        (lambda: difference(np.ones((2, 2, 2)), TEN), DataError, r"returns: .* or \(accounts, days\), got \(2, 2, 2\)"),
        (lambda: difference(TEN, TEN**2, days_per_year=0), ConfigError, "days_per_year: expected a number above 0"),
        (lambda: difference(TEN, TEN**2, draws=38), ConfigError, "draws: expected 39 or more"),
        (lambda: difference(TEN, TEN**2, lags=10), ConfigError, "lags: expected 0"),
        (lambda: difference(TEN, TEN**2, block=11), ConfigError, "block: expected 1"),
        (lambda: deflated_sharpe((0.1, 100, 0.0, 3.0), 5), DataError, "got a tuple; name figures as SharpeEstimate"),
        (lambda: deflated_sharpe(TEN, 0), ConfigError, "trials: expected 1 or more, got 0"),
        (lambda: deflated_sharpe(TEN, 5, -0.1), DataError, "variance_of_trials: expected 0 or more, got -0.1"),
        (lambda: deflated_sharpe(TEN, 5, NAN), DataError, "variance_of_trials: expected"),
        (
            lambda: probabilistic_sharpe(SharpeEstimate(0.1, 100, -1.0, 1.5)),
            DataError,
            r"at least 1 \+ skew\^2 = 2, got 1.5; give the kurtosis that is 3 for a normal",
        ),
        (lambda: probabilistic_sharpe(SharpeEstimate(0.1, 1, 0.0, 3.0)), DataError, "2 periods or more"),
        (lambda: probabilistic_sharpe(SharpeEstimate(NAN, 9, 0.0, 3.0)), DataError, "expected finite figures"),
        (lambda: probabilistic_sharpe(TEN, INF), DataError, "benchmark inf"),
    ],
)
def test_errors_say_what_to_do(call, error, text):
    with pytest.raises(error, match=text):
        call()
