"""Statistics of comparisons and of classifiers, in numpy alone: intervals, paired tests, scores by class, calibration.

    mean, half = t_interval([0.91, 0.93, 0.92])                # 95 % interval: mean - half .. mean + half
    paired(with_generator, without)["p"]                       # one value per seed on both sides, in the same order
    mcnemar(right_a, right_b)["p"]                             # two classifiers on the same test images
    scores(confusion(labels, predicted, 10))["macro_f1"]

Where too few values are given to say something, a figure is nan.
"""
import math
from statistics import NormalDist

import numpy as np

BINS = 15                  # of the expected calibration error: Guo et al. 2017
TINY = 1e-300


# ---- Student's t -----------------------------------------------------------------------------------------------------

def incomplete_beta(x, a, b):
    """Regularised incomplete beta function I_x(a, b), x in [0, 1], a, b > 0: a float.

    The continued fraction of DLMF 8.17.22 (https://dlmf.nist.gov/8.17.v) by the method of Lentz (1976). It converges
    fast for x < (a + 1) / (a + b + 2); beyond, I_x(a, b) = 1 - I_{1-x}(b, a).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(1 - x, b, a)
    fraction, c, d = 1.0, 1.0, 0.0
    for i in range(1, 10_000):
        m = i // 2
        term = (-(a + m) * (a + b + m) / (a + 2 * m + 1) if i % 2 else m * (b - m) / (a + 2 * m - 1)) * x / (a + 2 * m)
        d = 1 / (1 + term * d or TINY)
        c = 1 + term / c or TINY
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a / fraction


def t_cdf(t, freedom):
    """P(T <= t) of Student's t with `freedom` > 0 degrees of freedom, a float (Abramowitz and Stegun 26.7.1)."""
    tail = incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2
    return 1 - tail if t > 0 else tail


def t_quantile(p, freedom):
    """The t with P(T <= t) = p, 0 < p < 1, by bisection: a float."""
    if p < 0.5:
        return -t_quantile(1 - p, freedom)
    low, high = 0.0, 1.0
    while t_cdf(high, freedom) < p:
        low, high = high, 2 * high
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:          # two neighbouring floats
            break
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return high


def t_interval(values, level=0.95):
    """(mean, half width) of the t-interval of the mean of `values` [n]: floats. Half is nan for a single value.

        mean +- t_{n-1, (1 + level) / 2} s / sqrt(n),    s^2 = sum (x - mean)^2 / (n - 1)           Student 1908
    """
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return float(x.mean()) if len(x) else math.nan, math.nan
    return float(x.mean()), float(t_quantile((1 + level) / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))


def paired(a, b, level=0.95):
    """The paired t-test of a [n] against b [n], as measured on the same seeds in the same order.

    Returns {"mean", "half", "p", "n"}: mean difference a - b, half width of its t-interval, two-sided p-value of "no
    difference". p and half are nan for fewer than two pairs; p is 1 where all differences are 0; where they are all the
    same but not 0, as happens with few test images, it is that of the sign test.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"pairs need as many values on both sides, not {len(a)} and {len(b)}")
    mean, half = t_interval(a - b, level)
    p = math.nan
    if len(a) > 1:
        error = (a - b).std(ddof=1) / math.sqrt(len(a))
        if mean and error <= 1e-9 * abs(mean):        # all the same, which says nothing of their spread: the sign test
            return {"mean": mean, "half": half, "p": 2.0 ** (1 - len(a)), "n": len(a)}
        t = mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0
        p = 2 * t_cdf(-abs(t), len(a) - 1) if math.isfinite(t) else 0.0
    return {"mean": mean, "half": half, "p": p, "n": len(a)}


# ---- counts ----------------------------------------------------------------------------------------------------------

def mcnemar(right_a, right_b):
    """The exact McNemar test of two classifiers on the same images, bool [N] each: was the answer right?

    Returns {"only_a", "only_b", "p"}. Of the images that just one of them read right, each is as likely to be A's as
    B's where both are equally good, so p is two-sided binomial with 1/2 (McNemar 1947; exact: Dietterich 1998).
    """
    a, b = np.asarray(right_a, bool), np.asarray(right_b, bool)
    if a.shape != b.shape:
        raise ValueError(f"both classifiers must have read the same images, not {len(a)} and {len(b)}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return {"only_a": only_a, "only_b": only_b, "p": sign_test(only_a, only_b)}


def sign_test(wins, losses):
    """Two-sided exact binomial p-value of so many wins and losses, each as likely by chance; 1 without any."""
    n, few = wins + losses, min(wins, losses)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(few + 1)) / 2 ** n)       # whole numbers up to the division


def holm(p_values):
    """p-values [m] corrected for asking m questions at once, in the same order: float64 [m] (Holm 1979).

    The i-th smallest is multiplied by m + 1 - i, and none may be below a smaller one; nan is left out of the count.
    """
    p = np.asarray(p_values, np.float64)
    asked = np.flatnonzero(~np.isnan(p))
    order = asked[np.argsort(p[asked], kind="stable")]
    out = np.full(len(p), np.nan)
    out[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return out


def wilson(successes, n, level=0.95):
    """(low, high): the score interval of a share of `successes` of `n` (Wilson 1927), floats; nan for n = 0.

    Unlike share +- z s it stays inside [0, 1] and holds near the ends, where accuracies lie.
    """
    if not n:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


# ---- classifiers -----------------------------------------------------------------------------------------------------

def confusion(labels, predicted, k):
    """int64 [k, k]: images by true class (row) and answer (column). labels, predicted: int [N] in 0 .. k - 1."""
    table = np.zeros((k, k), np.int64)
    np.add.at(table, (np.asarray(labels), np.asarray(predicted)), 1)
    return table


def scores(table):
    """What a confusion table [k, k] says, as floats and float64 [k]:

        precision[c]  right answers c / answers c (0 where c was never answered)
        recall[c]     right answers c / images of c (nan where the set has none of c)
        f1[c]         their harmonic mean, 2 right / (answers c + images of c) (nan where the set has none of c)
        support[c]    images of c, int64
        accuracy; macro_precision, macro_recall, macro_f1: means over the classes that the set has
        balanced_accuracy: the same as macro_recall (Brodersen et al. 2010), under the name that people look for
    """
    table = np.asarray(table)
    right, support, answers = np.diag(table), table.sum(1), table.sum(0)
    present = support > 0
    by_class = {"precision": right / np.maximum(answers, 1),
                "recall": np.where(present, right / np.maximum(support, 1), np.nan),
                "f1": np.where(present, 2 * right / np.maximum(answers + support, 1), np.nan)}
    macro = {f"macro_{name}": float(x[present].mean()) if present.any() else math.nan for name, x in by_class.items()}
    return {**by_class, "support": support, "accuracy": float(right.sum() / table.sum()) if present.any() else math.nan,
            **macro, "balanced_accuracy": macro["macro_recall"]}


def ece(probabilities, labels, bins=BINS):
    """Expected calibration error of probabilities [N, K] for labels int [N], a float in [0, 1] (Guo et al. 2017).

        sum over bins  n_b / N  |accuracy in b - mean confidence in b|

    Confidence is the largest probability; the bins cut (0, 1] into equal widths, each with its upper end.
    """
    gap, share = calibration(probabilities, labels, bins)[2:]
    return float((share * np.nan_to_num(gap)).sum())


def calibration(probabilities, labels, bins=BINS):
    """By bin of confidence, float64 [bins] each: mean confidence, accuracy, their absolute difference (nan where a bin
    is empty), and the share of all images in it."""
    probabilities, labels = np.asarray(probabilities, np.float64), np.asarray(labels)
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    n = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        sure, accuracy = (np.bincount(place, v, bins) / n for v in (confidence, right))
    return sure, accuracy, np.abs(sure - accuracy), n / max(len(labels), 1)


# ---- as text ---------------------------------------------------------------------------------------------------------

def format_percent(value, digits=2):
    """0.9123 -> "91.23 %"; "-" for None and nan."""
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def format_interval(mean, half, digits=2, scale=100):
    """(0.9123, 0.0045) -> "91.23 ± 0.45"; without the half width where it is nan."""
    return f"{scale * mean:.{digits}f}" + (f" ± {scale * half:.{digits}f}" if math.isfinite(half) else "")


def format_points(mean, half=None, digits=2):
    """A difference of two shares in percentage points, with its sign: "+1.23 ± 0.45"."""
    return f"{100 * mean:+.{digits}f}" + (f" ± {100 * half:.{digits}f}" if half is not None and math.isfinite(half) else "")
