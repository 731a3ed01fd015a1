"""FID: the Frechet distance of two sets of feature vectors, its bias and its uncertainty, in numpy alone."""
from typing import NamedTuple

import numpy as np

from datasets.formats import Form, expand_home, names_in_npz, read_npz
from utils.files import UserError, atomic
from utils.limits import MAX_FEATURES

BATCH = 4096                           # vectors that moments() holds in float64 at once
EPSILON, TINY = np.finfo(np.float64).eps, np.finfo(np.float64).tiny
STATISTICS = {"mu": Form(("f",), (None,)), "sigma": Form(("f",), (None, None)), "n": Form(("i", "u"), ()),
              "extractor": Form(("U",), ())}
LARGEST = 1e60                         # of a mean or a covariance in a file
ROUNDING = 1e-4                        # of eigenvalues of a covariance in a file, relative to its largest variance


class Moments(NamedTuple):
    """What FID needs of a set. `extractor` is "hash:output" of the network whose features these are."""
    mean: np.ndarray                   # float64 [d]
    cov: np.ndarray                    # float64 [d, d], unbiased
    n: int | None = None               # images; None if unknown
    extractor: str | None = None       # None if unknown


def moments(features, extractor=None):
    """Moments of features [N, d] of any float type. Sums are taken around the first batch's mean, so that
    features far from zero lose no digits. Raises ValueError for NaN, infinity or fewer than two vectors."""
    n = len(features)
    if n < 2 or not np.isfinite(features).all():
        raise ValueError("moments need at least two vectors, without NaN or infinity")
    shift = np.asarray(features[:BATCH], np.float64).mean(0)
    total = outer = 0.0
    for i in range(0, n, BATCH):
        x = np.asarray(features[i:i + BATCH], np.float64) - shift
        total += x.sum(0)
        outer += x.T @ x
    return Moments(shift + total / n, (outer - np.outer(total, total) / n) / (n - 1), n, extractor)


def fid(real, fake):
    """FID of two Moments: a float >= 0."""
    return frechet_distance(real.mean, real.cov, fake.mean, fake.cov)


def frechet_distance(mean_1, cov_1, mean_2, cov_2):
    """Squared Frechet distance of Gaussians with means [d] and covariances [d, d], singular or not: a float >= 0.

        |mean_1 - mean_2|^2 + tr(cov_1 + cov_2 - 2 (cov_1 cov_2)^(1/2))     Heusel et al. 2017, Dowson & Landau 1982

    With cov_1 = A A' the eigenvalues of cov_1 cov_2 are those of the symmetric A' cov_2 A, and real. All
    arrays are float64 and finite, as in Moments."""
    def factor(cov):                                                 # A [d, rank] with A A' = cov
        w, v = np.linalg.eigh(cov)
        keep = w > len(w) * EPSILON * max(w[-1], 0)
        return v[:, keep] * np.sqrt(w[keep])

    try:
        a = np.linalg.cholesky(cov_1)
        eigenvalues = np.linalg.eigvalsh(a.T @ cov_2 @ a)
        if eigenvalues[0] < len(a) * EPSILON * eigenvalues[-1]:
            np.linalg.cholesky(cov_2)                                # is the other one singular?
        root_trace = float(np.sqrt(eigenvalues.clip(0)).sum())
    except np.linalg.LinAlgError:
        # A covariance is singular. Eigenvalues that should be 0 come out as +-1e-16 and their roots, 1e-8 each, would
        # add up: leave them out of both factors instead, and take singular values, which need no root.
        root_trace = float(np.linalg.svd(factor(cov_1).T @ factor(cov_2), compute_uv=False).sum())
    difference = mean_1 - mean_2
    return max(float(difference @ difference + np.trace(cov_1) + np.trace(cov_2) - 2 * root_trace), 0.0)


def fid_bias(real, fake):
    """By about how much the FID of two Moments is too high because they are estimates: a float; None if N is unknown.

        (1/n_real + 1/n_fake) (5/4 sum_i l_i + 1/2 sum_ij l_i l_j / (l_i + l_j)),    l: eigenvalues of the real cov

    This is what two samples of one Gaussian score, to second order: E|error of mean|^2 + 1/2 sum_ij E[D_ij^2] / (l_i +
    l_j), D the error of cov_1 - cov_2 in the eigenbasis. Within some percent on features of a digit classifier, N > d."""
    if not (real.n and fake.n):
        return None
    w = np.linalg.eigvalsh(real.cov)
    w = w[w > len(w) * EPSILON * w[-1]]
    pairs = np.outer(w, w) / np.add.outer(w, w)
    return float((1.25 * w.sum() + 0.5 * pairs.sum()) * (1 / real.n + 1 / fake.n))


def bootstrap_fid(real, fake, repeats=100, seed=0):
    """Standard deviation of FID over bootstrap samples (Efron 1979) of features [N, d]: a float. FID +- 1.96
    times it is a 95 % interval for the choice of images, not for the bias, nor for training another
    generator. (Quantiles of the resampled values would be none: a resampled set has the bias twice.)"""
    rng = np.random.default_rng(seed)
    sides = [np.asarray(x, np.float64) - np.mean(real, 0, np.float64) for x in (real, fake)]

    def resample(x):
        times = rng.multinomial(len(x), np.full(len(x), 1 / len(x)))
        drawn = x[times > 0]
        weighted = drawn * times[times > 0, None]
        mean = weighted.sum(0) / len(x)
        return mean, (weighted.T @ drawn - len(x) * np.outer(mean, mean)) / (len(x) - 1)

    return float(np.std([frechet_distance(*resample(sides[0]), *resample(sides[1])) for _ in range(repeats)], ddof=1))


def fid_infinity(real, fake, seed=0):
    """FID of features [N, d], extrapolated to infinitely many images: {"value", "standard_error"} of the fit.
    Chong & Forsyth 2020: FID of random subsets is close to linear in 1/N, free of bias where the line meets 0. Here
    both sides shrink together, to a fifth but not below 2 d images, and the line runs over 1/n_real + 1/n_fake; their
    paper keeps the real side, and its part of the bias. Raises UserError with fewer than 3 d images."""
    smallest, d = min(len(real), len(fake)), real.shape[1]
    most = min(5, smallest / (2 * d))
    if most < 1.5:
        raise UserError(f"FID at infinite N needs 3 d = {3 * d} images on both sides, not {smallest}: give more")
    rng, x, y = np.random.default_rng(seed), [], []
    for shrink in np.repeat(np.linspace(1, most, 15), 2):
        parts = [a if shrink == 1 else a[rng.permutation(len(a))[:round(len(a) / shrink)]] for a in (real, fake)]
        x.append(1 / len(parts[0]) + 1 / len(parts[1]))
        y.append(fid(*map(moments, parts)))
    (_, value), cov = np.polyfit(x, y, 1, cov=True)
    return {"value": float(value), "standard_error": float(np.sqrt(cov[1, 1]))}


def load_moments(path):
    """Moments of an .npz with mu and sigma (and n, extractor, of save_moments); None if `path` is no such file. Raises
    UserError where they cannot be those of any set of vectors."""
    path = expand_home(path)
    if path.suffix.lower() != ".npz" or not path.is_file() or not {"mu", "sigma"} <= names_in_npz(path):
        return None
    stats = read_npz(path, STATISTICS)
    mu, sigma, n = stats["mu"].astype(np.float64), stats["sigma"].astype(np.float64), stats.get("n")
    n = None if n is None else int(n)
    if sigma.shape != mu.shape * 2 or not 0 < len(mu) <= MAX_FEATURES or (n is not None and n < 2):
        raise UserError(f"{path}: mu {list(mu.shape)}, sigma {list(sigma.shape)} and n {n} do not fit; expected mu "
                        f"[d], sigma [d, d], d up to {MAX_FEATURES:,}, and n > 1")
    # a bound, so that products stay finite
    if not (np.abs(mu).max() < LARGEST and np.abs(sigma).max() < LARGEST):
        raise UserError(f"{path}: mu or sigma holds NaN, infinity or values beyond {LARGEST:g}: the file is damaged")
    if not np.allclose(sigma, sigma.T, rtol=1e-4, atol=1e-6 * np.abs(sigma).max()):
        raise UserError(f"{path}: sigma is not symmetric, so it is no covariance: the file is damaged")
    sigma = (sigma + sigma.T) / 2
    try:   # positive semi-definite, but for what rounding to float32 does to the smallest eigenvalues
        np.linalg.cholesky(sigma + max(ROUNDING * sigma.diagonal().max(), TINY) * np.eye(len(mu)))
    except np.linalg.LinAlgError:
        raise UserError(f"{path}: sigma is not positive semi-definite, so it is no covariance: the file is "
                        "damaged") from None
    return Moments(mu, sigma, n, str(stats["extractor"]) if "extractor" in stats else None)


def save_moments(path, stats):
    """Write Moments as an .npz: mu and sigma (the names that other tools use), n, extractor."""
    with atomic(path) as tmp, open(tmp, "wb") as f:
        np.savez(f, mu=stats.mean, sigma=stats.cov, n=stats.n, extractor=stats.extractor)
