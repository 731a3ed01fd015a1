"""metrics/statistics.py against printed tables, closed forms and counting by hand."""
import math

import numpy as np
import pytest

from metrics import statistics


@pytest.mark.parametrize("freedom, p, printed", [      # Abramowitz and Stegun, table 26.10
    (1, 0.975, 12.706), (2, 0.975, 4.303), (4, 0.975, 2.776), (9, 0.975, 2.262), (30, 0.975, 2.042),
    (120, 0.975, 1.980), (1, 0.95, 6.314), (5, 0.995, 4.032), (10, 0.9995, 4.587)])
def test_quantiles_of_t_are_those_of_the_printed_table(freedom, p, printed):
    assert statistics.t_quantile(p, freedom) == pytest.approx(printed, abs=6e-4)
    assert statistics.t_cdf(statistics.t_quantile(p, freedom), freedom) == pytest.approx(p, abs=1e-12)


@pytest.mark.parametrize("t", [-30, -2.5, -1e-3, 0, 0.3, 1, 7, 1e4])
def test_cdf_of_t_where_it_has_a_closed_form(t):
    assert statistics.t_cdf(t, 1) == pytest.approx(0.5 + math.atan(t) / math.pi, abs=1e-12)              # Cauchy
    assert statistics.t_cdf(t, 2) == pytest.approx(0.5 + t / (2 * math.sqrt(2 + t * t)), abs=1e-12)
    assert statistics.t_cdf(t, 3) == pytest.approx(                       # for 3 and 4: Shaw 2006
        0.5 + math.atan(t / 3 ** 0.5) / math.pi + 3 ** 0.5 * t / (math.pi * (t * t + 3)), abs=1e-12)
    assert statistics.t_cdf(t, 4) == pytest.approx(0.5 + t * (t * t + 6) / (2 * (t * t + 4) ** 1.5), abs=1e-12)
    assert statistics.t_cdf(t, 10 ** 5) == pytest.approx(0.5 * math.erfc(-t / math.sqrt(2)), abs=1e-5)   # normal


def test_interval_by_hand_and_how_often_it_holds_the_mean():
    mean, half = statistics.t_interval([1, 2, 3])           # s = 1, t_{2, .975} = 4.3027
    assert (mean, half) == (2, pytest.approx(4.302653 / math.sqrt(3), abs=1e-5))
    assert math.isnan(statistics.t_interval([5])[1]) and statistics.t_interval([4, 4, 4]) == (4, 0)
    draws = np.random.default_rng(0).normal(10, 3, (1000, 5))
    result = [statistics.t_interval(x) for x in draws]
    assert np.mean([abs(m - 10) <= h for m, h in result]) == pytest.approx(0.95, abs=0.02)


def test_paired_sees_a_difference_that_the_spread_over_seeds_hides():
    seeds = np.array([0.70, 0.80, 0.90, 0.60, 0.75])
    result = statistics.paired_t_test(seeds + [0.01, 0.012, 0.011, 0.009, 0.01], seeds)
    assert result["mean"] == pytest.approx(0.0104) and result["p"] < 1e-4 and result["n"] == 5
    assert result["half"] < 0.002 < statistics.t_interval(seeds)[1]
    classic = statistics.paired_t_test([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
                           [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    assert classic["p"] == pytest.approx(0.002833, abs=1e-6)        # Student's sleep data, as in R's ?t.test
    assert classic["mean"] == pytest.approx(1.58)


def test_paired_without_spread_or_pairs():
    assert statistics.paired_t_test([1, 2], [1, 2])["p"] == 1
    assert statistics.paired_t_test([2, 3], [1, 2])["p"] == 0.5        # no spread: two signs alike
    assert math.isnan(statistics.paired_t_test([1], [0])["p"])
    assert math.isnan(statistics.paired_t_test([1, math.nan], [0, 0])["p"])
    with pytest.raises(ValueError, match="3 and 2"):
        statistics.paired_t_test([1, 2, 3], [1, 2])


@pytest.mark.parametrize("wins, losses, p", [(10, 10, 1), (15, 5, 0.0414), (17, 8, 0.1078), (0, 5, 0.0625), (0, 0, 1)])
def test_mcnemar_against_known_values(wins, losses, p):
    a, b = np.repeat([True, False], [wins, losses]), np.repeat([False, True], [wins, losses])
    assert statistics.mcnemar(a, b)["p"] == pytest.approx(p, abs=5e-5) == statistics.mcnemar(b, a)["p"]


def test_mcnemar_counts_what_only_one_classified_correctly():
    a, b = np.array([1, 1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 0, 0])
    assert statistics.mcnemar(a, b) == {"only_a": 3, "only_b": 1, "p": 0.625}
    assert statistics.mcnemar(a, a)["p"] == 1


def test_holm_by_hand():
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])   # Wikipedia
    assert statistics.holm([0.9, 0.8]).tolist() == [1, 1]
    assert statistics.holm([0.01, math.nan, 0.02])[[0, 2]] == pytest.approx([0.02, 0.02])


def test_wilson_against_published_values():
    assert statistics.wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)   # Newcombe 1998, I
    assert statistics.wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    low, high = statistics.wilson_interval(20, 20)
    assert high == 1 and low == pytest.approx(1 - 0.1611, abs=5e-5)


def test_confusion_and_scores_by_hand():
    table = statistics.confusion_matrix([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 0], 4)
    assert table.tolist() == [[2, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    s = statistics.classification_scores(table)
    assert s["precision"] == pytest.approx([2 / 3, 2 / 3, 0, 0])
    assert s["recall"][:3] == pytest.approx([2 / 3, 1, 0]) and math.isnan(s["recall"][3])
    assert s["f1"][:3] == pytest.approx([2 / 3, 0.8, 0])
    assert s["accuracy"] == pytest.approx(4 / 6)
    assert s["balanced_accuracy"] == s["macro_recall"] == pytest.approx(5 / 9)     # class 3 has no images
    assert s["macro_f1"] == pytest.approx((2 / 3 + 0.8) / 3)


def test_balanced_accuracy_does_not_reward_the_common_class():
    s = statistics.classification_scores(statistics.confusion_matrix([0] * 98 + [1] * 2, [0] * 100, 2))
    assert s["accuracy"] == 0.98 and s["balanced_accuracy"] == 0.5


def test_calibration_error_of_known_classifiers():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, 20_000)
    assert statistics.expected_calibration_error(p, rng.uniform(size=len(p)) < p) < 0.015
    assert statistics.expected_calibration_error([0.9] * 10, [True, False] * 5) == pytest.approx(0.4)
    assert statistics.expected_calibration_error([1.0] * 3, [True] * 3) == 0


def test_rank_correlation_by_hand():
    assert statistics.rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert statistics.rank_correlation([1, 2, 2, 3], [3, 2, 2, 1]) == pytest.approx(-1)
    assert statistics.rank_correlation([1, 2, 3], [5, 5, 5]) == 0
    assert statistics.rank_correlation([1, 2, 3], [10, 30, 10]) == pytest.approx(0)       # ranks 1.5, 3, 1.5
    assert statistics.rank_correlation([1, 1, 2], [1, 2, 2]) == pytest.approx(0.5)        # 1.5, 1.5, 3 and 1, 2.5, 2.5


def test_how_numbers_are_written():
    assert [statistics.format_number(v) for v in (0.3821, 3.14159, 416.2, 99.96, 12345.6)] == ["0.382", "3.14", "416", "100", "12,346"]
    assert [statistics.format_number(v, 2) for v in (1.11, 9.97, 34.4, 127.0)] == ["1.1", "10", "34", "127"]
    assert statistics.format_percent(0.98884) == "98.88 %" and statistics.format_percent(0.5, 0) == "50 %"
    assert statistics.format_percent(None) == statistics.format_percent(math.nan) == "-"
    assert statistics.format_interval(0.9888, 0.0009) == "98.88 ± 0.09"
    assert statistics.format_interval(0.98765, math.nan, 1) == "98.8"
    assert statistics.format_interval(1.234, 0.05, 1, scale=1) == "1.2 ± 0.1"
    assert statistics.format_points(0.013, 0.004) == "+1.30 ± 0.40"
    assert statistics.format_points(-0.013) == statistics.format_points(-0.013, math.nan) == "-1.30"
