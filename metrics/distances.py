"""Distances between two sets of feature vectors: FID, KID, precision / recall, density / coverage, nearest neighbours.

    stats = Statistics(); stats.add(batch); ...                  # streaming, in float64
    frechet(stats1.mean, stats1.cov, stats2.mean, stats2.cov)    # FID
    kid(real, fake); precision_recall(real, fake); fid_infinity(real, fake); memorisation(fake, train, test)

Numpy alone, no images here: `real` and `fake` are float [N, d], one row per image. The commands, and the networks that
make features of images, are in fid.py and features.py. Wherever two sets are compared the first is the real one.
"""
import numpy as np

KID_SUBSETS, KID_SIZE = 100, 1000  # Binkowski et al. 2018
PR_K, DC_K = 3, 5                  # neighbours: Kynkaanniemi et al. 2019, Naeem et al. 2020
BLOCK = 1 << 24                    # distances held at once: 64 MB of float32
COPY_QUANTILE = 0.01               # see memorisation()


# ---- Frechet distance ------------------------------------------------------------------------------------------------

class Statistics:
    """Mean and covariance of feature vectors that come in batches; how they are cut into batches does not matter.

    Sums and outer products are float64 and taken around the mean of the first batch, so that features far from zero
    lose no digits.
    """

    def __init__(self):
        self.n = 0

    def add(self, features):
        """features: [B, d], any float type. Raises ValueError for NaN and infinity."""
        x = np.asarray(features, np.float64)
        if not np.isfinite(x).all():
            raise ValueError("features hold NaN or infinity")
        if not self.n:
            self.shift = x.mean(0)
            self.sum, self.outer = np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2)
        x = x - self.shift
        self.n += len(x)
        self.sum += x.sum(0)
        self.outer += x.T @ x
        return self

    @property
    def mean(self):
        """float64 [d]."""
        return self.shift + self.sum / self.n

    @property
    def cov(self):
        """Unbiased covariance, float64 [d, d]; needs two vectors."""
        if self.n < 2:
            raise ValueError("a covariance needs at least two images")
        return (self.outer - np.outer(self.sum, self.sum) / self.n) / (self.n - 1)


def statistics(features, batch=4096):
    """Statistics of an array [N, d], taken in batches so that only one is held in float64."""
    stats = Statistics()
    for i in range(0, len(features), batch):
        stats.add(features[i:i + batch])
    return stats


def frechet(mean1, cov1, mean2, cov2):
    """Frechet distance of two Gaussians, squared, as a float >= 0: FID on features of images.

        |mean1 - mean2|^2 + tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2))          Heusel et al. 2017, Dowson & Landau 1982

    means float [d], covariances symmetric [d, d], singular ones (fewer vectors than d) included. Always real: with
    cov1 = A A' the eigenvalues of cov1 cov2 are those of the symmetric A' cov2 A. Raises ValueError for shapes that do
    not fit and for NaN.
    """
    mean1, cov1, mean2, cov2 = (np.asarray(a, np.float64) for a in (mean1, cov1, mean2, cov2))
    d = mean1.size
    if mean1.shape != (d,) or mean2.shape != (d,) or cov1.shape != (d, d) or cov2.shape != (d, d):
        raise ValueError(f"means {mean1.shape} and {mean2.shape} do not fit covariances {cov1.shape} and {cov2.shape}")
    difference = mean1 - mean2
    value = difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_root_product(cov1, cov2)
    if not np.isfinite(value):
        raise ValueError("means or covariances hold NaN or infinity")
    return max(float(value), 0.0)


def trace_root_product(cov1, cov2):
    """tr (cov1 cov2)^(1/2) of two positive semi-definite [d, d], a float."""
    try:
        a = np.linalg.cholesky(cov1)
        eigenvalues = np.linalg.eigvalsh(a.T @ cov2 @ a)
        if eigenvalues[0] < len(eigenvalues) * np.finfo(float).eps * eigenvalues[-1]:
            np.linalg.cholesky(cov2)
        return float(np.sqrt(eigenvalues.clip(0)).sum())
    except np.linalg.LinAlgError:
        # A covariance is singular. Eigenvalues that should be 0 come out as +-1e-16 and their roots, 1e-8 each, would
        # add up: leave them out of both factors instead, and take singular values, which need no root.
        return float(np.linalg.svd(_factor(cov1).T @ _factor(cov2), compute_uv=False).sum())


def _factor(cov):
    """A [d, rank] with A A' = cov."""
    w, v = np.linalg.eigh(cov)
    keep = w > len(w) * np.finfo(float).eps * max(w[-1], 0)
    return v[:, keep] * np.sqrt(w[keep])


def fid(real, fake):
    """FID of two arrays of features [N, d]."""
    one, two = statistics(real), statistics(fake)
    return frechet(one.mean, one.cov, two.mean, two.cov)


def fid_bias(cov, n_real, n_fake):
    """By about how much FID comes out too high because means and covariances are estimated: a float.

    This is what two samples of one and the same distribution score. To second order in the errors of the estimates, for
    Gaussian features whose covariance `cov` has the eigenvalues l,

        (1/n_real + 1/n_fake) (5/4 sum_i l_i + 1/2 sum_ij l_i l_j / (l_i + l_j))

    namely E|error of mean1 - mean2|^2 + 1/2 sum_ij E[D_ij^2] / (l_i + l_j), with D the error of cov1 - cov2 in the
    eigenbasis and E[D_ij^2] = (1/n_real + 1/n_fake) (1 + [i = j]) l_i l_j. For cov = 1 that is d (d + 5) / 4
    (1/n_real + 1/n_fake). Within some percent on the features of a digit classifier, down to N = d; too high below.
    """
    w = np.linalg.eigvalsh(cov)
    w = w[w > len(w) * np.finfo(float).eps * w[-1]]
    pairs = np.outer(w, w) / np.add.outer(w, w)
    return float((1.25 * w.sum() + 0.5 * pairs.sum()) * (1 / n_real + 1 / n_fake))


def bootstrap_fid(real, fake, repeats=100, seed=0):
    """Standard deviation of FID over bootstrap samples: a float. `FID +- 1.96 times it` is the 95 % interval used here.

    Both sets are drawn anew with replacement (Efron 1979). It covers the luck of which images were drawn, on both
    sides; not the bias of a finite N (fid_bias), not another training run of the generator. The drawn values themselves
    are not used as limits: a resampled set has the bias twice.
    """
    rng = np.random.default_rng(seed)
    sides = [np.asarray(x, np.float64) - np.mean(real, 0, np.float64) for x in (real, fake)]

    def resampled(x):
        times = rng.multinomial(len(x), np.full(len(x), 1 / len(x)))
        drawn = x[times > 0]
        weighted = drawn * times[times > 0, None]
        mean = weighted.sum(0) / len(x)
        return mean, (weighted.T @ drawn - len(x) * np.outer(mean, mean)) / (len(x) - 1)

    return float(np.std([frechet(*resampled(sides[0]), *resampled(sides[1])) for _ in range(repeats)], ddof=1))


def fid_infinity(real, fake, points=15, repeats=2, seed=0):
    """FID extrapolated to infinitely many images: (value, standard error).

    Chong & Forsyth 2020: FID of random subsets is close to linear in 1/N; the line's value at 0 is free of the bias.
    Here both sides shrink together, down to a fifth but not below 2 d images, and the line runs over 1/n_real +
    1/n_fake (see fid_bias); their paper holds the real side fixed, which keeps its share of the bias. The error is that
    of the line's fit; a value below 0 within it means "no difference found". Raises ValueError with fewer than 3 d
    images.
    """
    smallest, d = min(len(real), len(fake)), np.shape(real)[1]
    most = min(5, smallest / (2 * d))
    if most < 1.5:
        raise ValueError(f"FID at infinity needs at least 3 d = {3 * d} images on both sides, not {smallest}")
    rng = np.random.default_rng(seed)
    x, y = [], []
    for shrink in np.repeat(np.linspace(1, most, points), repeats):
        parts = [a if shrink == 1 else a[rng.permutation(len(a))[:round(len(a) / shrink)]] for a in (real, fake)]
        x.append(1 / len(parts[0]) + 1 / len(parts[1]))
        y.append(fid(*parts))
    x, y = np.array(x), np.array(y)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    value = y.mean() - slope * x.mean()
    rest = ((y - value - slope * x) ** 2).sum() / (len(x) - 2)
    error = np.sqrt(rest * (1 / len(x) + x.mean() ** 2 / ((x - x.mean()) ** 2).sum()))
    return float(value), float(error)


# ---- kernel distance -------------------------------------------------------------------------------------------------

def kid(real, fake, subsets=KID_SUBSETS, size=KID_SIZE, seed=0):
    """Kernel Inception Distance: (value, standard error), floats. Unbiased, so equal distributions give 0 on average
    and slightly negative values are right.

    Binkowski et al. 2018: the squared maximum mean discrepancy (Gretton et al. 2012, unbiased) under the kernel
    (x.y / d + 1)^3, averaged over random `subsets` of `size` vectors of each side (of half the smaller set, where that
    is less). Subsets overlap, so their spread s / sqrt(subsets) would be too small an error. Here

        s sqrt(1 / subsets + f / (1 - f)),   f = size / smaller set

    which counts what all subsets share; right where the sets differ, an upper limit where they do not.
    """
    smaller = min(len(real), len(fake))
    size = min(size, smaller // 2)
    if size < 2:
        raise ValueError(f"KID needs at least 4 images on both sides, not {smaller}")
    rng = np.random.default_rng(seed)

    def kernel(a, b):
        k = a @ b.T
        k /= a.shape[1]
        k += 1
        return k * k * k

    def within(a):
        k = kernel(a, a)
        return (k.sum() - np.trace(k)) / (size * (size - 1))

    values = []
    for _ in range(subsets):
        x, y = (np.asarray(a[rng.choice(len(a), size, replace=False)], np.float64) for a in (real, fake))
        values.append(within(x) + within(y) - 2 * kernel(x, y).mean())
    share = size / smaller
    return float(np.mean(values)), float(np.std(values, ddof=1) * np.sqrt(1 / subsets + share / (1 - share)))


# ---- neighbours ------------------------------------------------------------------------------------------------------

def centred(*arrays):
    """The arrays as float32 around the mean of the first, so that distances lose no digits to a common offset."""
    mean = np.mean(arrays[0], 0, np.float64)
    return [np.subtract(a, mean, out=np.empty(np.shape(a), np.float32), casting="same_kind") for a in arrays]


def squared_distances(a, b):
    """Yield (first row, block): blocks of rows of the matrix of squared distances of a [N, d] and b [M, d], float32.

    |x - y|^2 as one matrix product, (-2 x, |x|^2, 1).(y, 1, |y|^2); rounding may leave values a little below 0. The
    block is overwritten by the next one.
    """
    def wide(x, first, *rest):
        out = np.empty((len(x), x.shape[1] + 2), np.float32)
        np.multiply(x, first, out=out[:, :-2])
        for column, values in zip((-2, -1), rest):
            out[:, column] = values
        return out

    norms = [np.einsum("nd,nd->n", x, x, dtype=np.float64) for x in (a, b)]
    right = wide(b, 1, 1, norms[1]).T
    left = wide(a, -2, norms[0], 1)
    rows = max(1, min(len(a), BLOCK // len(b)))
    memory = np.empty((rows, len(b)), np.float32)
    for i in range(0, len(a), rows):
        part = left[i:i + rows]
        yield i, np.matmul(part, right, out=memory[:len(part)])


def knn_radii(x, ks):
    """Squared distance of each vector of x [N, d] to its k-th nearest other one, for k in `ks`: float32 [len(ks), N].

    Enlarged by the rounding error of a float32 distance, so that equal vectors lie inside a ball of radius 0.
    """
    if len(x) <= max(ks):
        raise ValueError(f"{max(ks)} neighbours need more than {max(ks)} images, not {len(x)}")
    radii = np.empty((len(ks), len(x)), np.float32)
    for i, block in squared_distances(x, x):
        rows = np.arange(len(block))
        block[rows, i + rows] = np.inf
        block.partition([k - 1 for k in ks], axis=1)
        radii[:, i:i + len(block)] = block[:, [k - 1 for k in ks]].T
    return radii.clip(0) + 8 * np.finfo(np.float32).eps * np.einsum("nd,nd->n", x, x).max()


def precision_recall(real, fake, k=PR_K, k_density=DC_K):
    """{"precision", "recall", "density", "coverage"}: floats in [0, 1], but density may exceed 1.

    B_k(x) is the ball around x that reaches its k-th nearest neighbour within x's own set.
        precision   share of fakes inside the ball of any REAL image     (k = 3)    are the fakes like real ones?
        recall      share of reals inside the ball of any FAKE image     (k = 3)    is everything real covered?
        density     mean number of REAL balls that a fake lies in, / k   (k = 5)    precision, not fooled by one outlier
        coverage    share of REAL balls that hold at least one fake      (k = 5)    recall, not fooled by fake outliers
    Improved precision and recall: Kynkaanniemi et al. 2019. Density and coverage: Naeem et al. 2020; equal
    distributions give density 1 and coverage 1 - (M choose k) / (N + M choose k), 0.97 at equal sizes. Compare only at
    equal N.
    """
    real, fake = centred(real, fake)
    real_k, real_dense = knn_radii(real, (k, k_density))
    fake_k, = knn_radii(fake, (k,))
    nearest_fake = np.full(len(real), np.inf, np.float32)
    in_fake_ball = np.zeros(len(real), bool)
    precise, balls = 0, 0
    for i, block in squared_distances(fake, real):                   # [fakes of the block, all reals]
        precise += (block <= real_k).any(1).sum()
        balls += np.count_nonzero(block <= real_dense)
        np.minimum(nearest_fake, block.min(0), out=nearest_fake)
        in_fake_ball |= (block <= fake_k[i:i + len(block), None]).any(0)
    return {"precision": float(precise / len(fake)), "recall": float(in_fake_ball.mean()),
            "density": float(balls / (k_density * len(fake))), "coverage": float((nearest_fake <= real_dense).mean())}


def nearest(queries, points=None):
    """The nearest of `points` [M, d] for each of `queries` [N, d], or the nearest other query where no points are
    given: (index int64 [N], distance float64 [N])."""
    points, alone = (queries, True) if points is None else (points, False)
    index = np.empty(len(queries), np.int64)
    for i, block in squared_distances(*centred(queries, points)):
        if alone:
            rows = np.arange(len(block))
            block[rows, i + rows] = np.inf
        index[i:i + len(block)] = block.argmin(1)
    distance = np.empty(len(queries))
    for i in range(0, len(queries), 4096):  # exactly: the distance of a copy is 0, not the rounding of a difference
        difference = np.asarray(queries[i:i + 4096], np.float64) - points[index[i:i + 4096]]
        distance[i:i + 4096] = np.sqrt((difference ** 2).sum(1))
    return index, distance


def memorisation(fake, train, test, seed=0):
    """Does a generator copy its training set? Distances in feature space; test images cannot have been copied.

    Returns {"ratio", "near_copies", "exact_copies", "threshold", ...}:
        ratio        median distance of a fake to its nearest training image / that to its nearest test image, where
                     the larger set is cut (by `seed`) to the size of the other: 1 without copying, well below 1 with it
        near_copies  share of near-copies. A fake is one where  distance to the nearest training image (of all) /
                     distance to the nearest test image  is below `threshold`: the 1 % quantile of the same ratio over
                     the test images (to the nearest training image / to the nearest OTHER test image). So 0.01 by
                     chance, and a glyph that all people write alike does not count only because everything is near it
        exact_copies share of fakes whose features equal those of a training image
        train_index, test_index: int64 [N], the nearest ones of each fake; closeness: float64 [N], that ratio
    """
    tiny = np.finfo(float).tiny
    train_index, to_train = nearest(fake, train)
    test_index, to_test = nearest(fake, test)
    closeness = to_train / np.maximum(to_test, tiny)
    threshold = float(np.quantile(nearest(test, train)[1] / np.maximum(nearest(test)[1], tiny), COPY_QUANTILE))
    n, rng = min(len(train), len(test)), np.random.default_rng(seed)
    equal = [np.median(d if len(x) == n else nearest(fake, x[rng.choice(len(x), n, replace=False)])[1])
             for x, d in ((train, to_train), (test, to_test))]
    return {"ratio": float(equal[0] / max(equal[1], tiny)), "near_copies": float((closeness < threshold).mean()),
            "exact_copies": float((to_train == 0).mean()), "threshold": threshold,
            "train_index": train_index, "test_index": test_index, "closeness": closeness}


# ---- labels ----------------------------------------------------------------------------------------------------------

def joint_features(features, labels, n_classes, alpha):
    """Features [N, d] beside one-hot labels times alpha: [N, d + n_classes], for the Frechet joint distance.

    DeVries et al. 2019: FID of these vectors falls only where images AND their labels fit; alpha is the mean norm of
    the real features over that of the label vectors (1 here), the same for both sides.
    """
    one_hot = np.zeros((len(labels), n_classes), np.float32)
    one_hot[np.arange(len(labels)), labels] = alpha
    return np.concatenate([features, one_hot], axis=1)


def ranks(x):
    """Ranks from 1 of x [N], ties sharing their mean: float64 [N]."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(a, b):
    """Rank correlation of a [N] and b [N], ties sharing their mean rank; 0 where one of them is constant."""
    a, b = (r - r.mean() for r in (ranks(a), ranks(b)))
    scale = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / scale) if scale > 0 else 0.0
