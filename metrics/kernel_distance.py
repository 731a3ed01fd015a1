"""KID: the kernel distance of two sets of feature vectors (Binkowski et al. 2018), in numpy alone."""
import numpy as np

from utils.files import UserError


def kernel_distance(real, fake, subsets=100, size=1000, seed=0):
    """KID of features [N, d] and [M, d]: {"value", "standard_error", "subsets", "size"}. UserError for under 4 images.
    The squared maximum mean discrepancy (Gretton et al. 2012) under the kernel (x.y / d + 1)^3, averaged over random
    `subsets` of `size` vectors of each side (of half the smaller set, if less). It is unbiased: equal distributions
    give 0 on average, so values slightly below 0 are correct. As subsets overlap, the error is not s / sqrt(subsets)
    but s sqrt(1 / subsets + f / (1 - f)), f = size / smaller set: an upper limit where the sets do not differ."""
    smaller = min(len(real), len(fake))
    size = min(size, smaller // 2)
    if size < 2:
        raise UserError(f"KID needs at least 4 images on both sides, not {smaller}: give more, or leave out kid")
    rng = np.random.default_rng(seed)

    def kernel(a, b):
        k = a @ b.T / a.shape[1] + 1
        return k * k * k

    def mean_within(a):
        k = kernel(a, a)
        return (k.sum() - np.trace(k)) / (size * (size - 1))

    values = []
    for _ in range(subsets):
        x, y = (np.asarray(a[rng.choice(len(a), size, replace=False)], np.float64) for a in (real, fake))
        values.append(mean_within(x) + mean_within(y) - 2 * kernel(x, y).mean())
    error = np.std(values, ddof=1) * np.sqrt(1 / subsets + size / smaller / (1 - size / smaller))
    return {"value": float(np.mean(values)), "standard_error": float(error), "subsets": subsets, "size": size}
