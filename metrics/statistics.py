"""Statistics of comparisons and of classifiers, in numpy alone; nan where too few values are given to say something.

    format_interval(*t_interval([0.91, 0.93, 0.92]))           # "92.00 ± 2.48"
    paired_t_test(with_generator, without)["p"]                # one value per seed on both sides, in the same order
    classification_scores(confusion_matrix(labels, predicted, 10))["macro_f1"]
"""
import math
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95          # of all intervals
SIGNIFICANT = 0.05         # a p-value below it is called a difference
BINS = 15                  # of the expected calibration error: Guo et al. 2017


def t_cdf(t, freedom):
    """P(T <= t) of Student's t with `freedom` (an int > 0) degrees of freedom: a float, to 1e-14. The finite
    series of Abramowitz and Stegun 26.7.3 and 26.7.4."""
    angle, odd = math.atan(t / math.sqrt(freedom)), freedom % 2
    term = series = math.cos(angle) if odd else 1.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        series += term
    area = math.sin(angle) * series                                  # P(-|t| < T < |t|), with the sign of t
    if odd:
        area = 2 / math.pi * (angle + (area if freedom > 1 else 0))
    return min(max((1 + area) / 2, 0.0), 1.0)


def t_quantile(p, freedom):
    """The t with P(T <= t) = p, 0.5 <= p < 1 - 1e-6, by bisection: a float."""
    low, high = 0.0, 1e6
    while low < (middle := (low + high) / 2) < high:                 # until they are neighbouring floats
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return high


def t_interval(values):
    """(mean, half width) of the t-interval of the mean of `values` [n], mean +- t_{n-1, (1 + CONFIDENCE) / 2} s /
    sqrt(n) (Student 1908): floats. The half width is nan for a single value."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return float(x.mean()) if len(x) else math.nan, math.nan
    return float(x.mean()), float(t_quantile((1 + CONFIDENCE) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))


def paired_t_test(a, b):
    """The paired t-test of a [n] against b [n]: {"mean": of a - b, "half": half width of its t-interval, "p", "n"}.
    p, two-sided, and half are nan for fewer than two pairs; p is 1 where all differences are 0; where they are all the
    same but not 0, as happens with few test images, it is that of the sign test. ValueError for unequal lengths."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need as many values on both sides, not {len(a)} and {len(b)}")
    n, p = len(a), math.nan
    mean, half_width = t_interval(a - b)
    if n > 1:
        error = (a - b).std(ddof=1) / math.sqrt(n)
        if error <= 1e-9 * abs(mean):                                # no spread to compare the mean with
            p = 2.0 ** (1 - n) if mean else 1.0
        else:
            p = 2 * t_cdf(-abs(mean / error), n - 1)
    return {"mean": mean, "half": half_width, "p": p, "n": n}


def mcnemar(correct_a, correct_b):
    """The exact McNemar test of two classifiers on the same images, bool [N] each: {"only_a", "only_b", "p"}.
    Of the images that only one of them classifies correctly, each is as likely to be A's as B's where both are equally
    good: p is two-sided binomial with 1/2 (McNemar 1947; exact: Dietterich 1998). ValueError for unequal lengths."""
    a, b = np.asarray(correct_a, bool), np.asarray(correct_b, bool)
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, fewer = only_a + only_b, min(only_a, only_b)
    p = min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2 ** n)        # integers up to the division
    return {"only_a": only_a, "only_b": only_b, "p": p}


def holm(p_values):
    """p-values [m] corrected for testing m hypotheses at once, in the same order: float64 [m] (Holm 1979). The i-th
    smallest is multiplied by m + 1 - i, and none may be below a smaller one; nan is left out of the count."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")[:np.count_nonzero(~np.isnan(p))]            # nan comes last
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


def wilson_interval(successes, n):
    """(low, high): the score interval of a proportion (Wilson 1927), which holds near 0 and 1, where accuracies lie."""
    if not n:
        return math.nan, math.nan
    z, rate = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half_width = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, middle - half_width), min(1.0, middle + half_width)


def rank_correlation(a, b):
    """Spearman's rank correlation of a [N] and b [N], ties with their mean rank; 0 where one of them is constant."""
    def ranks(x):
        _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    a, b = (r - r.mean() for r in (ranks(a), ranks(b)))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0


def confusion_matrix(labels, predicted, k):
    """int64 [k, k]: images by true class (row) and answer (column). labels, predicted: int [N] in 0 .. k - 1."""
    cells = np.asarray(labels, np.int64) * k + np.asarray(predicted, np.int64)
    return np.bincount(cells, minlength=k * k).reshape(k, k)


def classification_scores(matrix):
    """What a confusion matrix [k, k] says, as floats and float64 [k]:

        precision[c]  correct answers c / answers c (0 where c was never answered)
        recall[c]     correct answers c / images of c (nan where the set has none of c)
        f1[c]         their harmonic mean, 2 correct / (answers c + images of c) (nan where the set has none of c)
        support[c]    images of c, int64
        accuracy; macro_precision, macro_recall (also called balanced_accuracy), macro_f1: means over present classes"""
    matrix = np.asarray(matrix)
    correct, support, answers = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    present = support > 0
    by_class = {"precision": correct / np.maximum(answers, 1),
                "recall": np.where(present, correct / np.maximum(support, 1), np.nan),
                "f1": np.where(present, 2 * correct / np.maximum(answers + support, 1), np.nan)}
    mean = {f"macro_{name}": float(x[present].mean()) if present.any() else math.nan for name, x in by_class.items()}
    accuracy = float(correct.sum() / matrix.sum()) if present.any() else math.nan
    return {**by_class, "support": support, "accuracy": accuracy, **mean, "balanced_accuracy": mean["macro_recall"]}


def expected_calibration_error(confidence, correct):
    """Sum over bins of n_b / N |accuracy in b - mean confidence in b| (Guo et al. 2017): a float in [0, 1]."""
    _, _, gap, weight = calibration_bins(confidence, correct)
    return float((weight * np.nan_to_num(gap)).sum())


def calibration_bins(confidence, correct):
    """Of the largest probability of each image, [N] in [0, 1], and of whether that is of its class, bool [N], by bin of
    confidence, float64 [BINS] each: mean confidence, accuracy, their absolute difference (nan where a bin is empty), and
    the fraction of all images in it. The bins cut (0, 1] into equal widths, each with its upper end."""
    confidence = np.asarray(confidence, np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means, accuracy = (np.bincount(bins, v, BINS) / n for v in (confidence, correct))
    return means, accuracy, np.abs(means - accuracy), n / max(len(confidence), 1)


def format_number(value, digits=3):
    """3.14159 -> "3.14", 1234.5 -> "1,234": so many significant digits, all of those before the point, no exponent."""
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def format_percent(value, digits=2):
    """0.9888 -> "98.88 %"; "-" for None and nan."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def format_interval(mean, half_width, digits=2, scale=100, sign=""):
    """(0.9888, 0.0009) -> "98.88 ± 0.09"; without the latter where it is None or not finite."""
    is_known = half_width is not None and math.isfinite(half_width)
    return f"{scale * mean:{sign}.{digits}f}" + (f" ± {scale * half_width:.{digits}f}" if is_known else "")


def format_points(mean, half_width=None):
    """(0.013, 0.004) -> "+1.30 ± 0.40": percentage points with their sign."""
    return format_interval(mean, half_width, sign="+")
