"""What nearest neighbours tell: precision / recall, density / coverage, and whether training images were copied."""
import numpy as np

from utils import figures
from utils.files import UserError

PR_K, DC_K = 3, 5                      # neighbours: Kynkaanniemi et al. 2019, Naeem et al. 2020
BLOCK = 1 << 22                        # distances held at once: 16 MB of float32, which stay in the cache
TINY = np.finfo(np.float64).tiny


def centre(*arrays):
    """The arrays as float32 around the mean of the first, so that distances lose no digits to a common offset."""
    mean = np.mean(arrays[0], 0, np.float64)
    return [np.subtract(a, mean, out=np.empty(np.shape(a), np.float32), casting="same_kind") for a in arrays]


def squared_distances(a, b=None):
    """Yield (first row, block): blocks of rows of the squared distances of a [N, d] to b [M, d], float32. Without b: of
    each vector of `a` to the others, infinite to itself. Rounding may leave values a little below 0."""
    points = a if b is None else b
    norms_a, norms_b = (np.einsum("nd,nd->n", x, x, dtype=np.float64).astype(np.float32) for x in (a, points))
    rows = max(1, min(4096, BLOCK // len(points)))
    for i in range(0, len(a), rows):
        block = a[i:i + rows] @ points.T
        block *= -2                                    # in place: |x|^2 - 2 x.y + |y|^2
        block += norms_a[i:i + rows, None]
        block += norms_b
        if b is None:
            np.fill_diagonal(block[:, i:], np.inf)
        yield i, block


def knn_radii(x, ks):
    """Squared distance of each vector of x [N, d] to its k-th nearest other one, for k in `ks`: float32 [len(ks), N],
    enlarged by the rounding error of a float32 distance, so that whatever lies on the rim of a ball, as equal vectors
    do on one of radius 0, is inside as the definition says."""
    if len(x) <= max(ks):
        raise UserError(f"{max(ks)} neighbours need more images than {len(x)}: give more, or leave out prdc")
    columns, radii = [k - 1 for k in ks], np.empty((len(ks), len(x)), np.float32)
    for i, block in squared_distances(x):
        block.partition(columns, axis=1)
        radii[:, i:i + len(block)] = block[:, columns].T
    return radii.clip(0) + 8 * np.finfo(np.float32).eps * np.einsum("nd,nd->n", x, x).max()


def precision_recall(real, fake):
    """{"precision", "recall", "density", "coverage"}: floats in [0, 1], but density may exceed 1. Compare at equal N.

    The ball B_k(x) around x reaches the k-th nearest neighbour of x in its set, and what lies on its rim is inside, for
    all four: distance <= radius, as Kynkaanniemi et al. define it (the package prdc has <, which differs where images
    are equal). Kynkaanniemi et al. 2019, k = 3:
        precision   fraction of fakes inside the ball of any REAL image: are the fakes like real ones?
        recall      fraction of reals inside the ball of any FAKE image: is everything real covered?
    Naeem et al. 2020, k = 5, robust to outliers:
        density     mean number of REAL balls that a fake lies in, divided by k; 1 for equal distributions
        coverage    fraction of REAL balls that hold at least one fake; then 1 - (M choose k) / (N + M choose k), 0.97"""
    real, fake = centre(real, fake)
    real_k, real_dense = knn_radii(real, (PR_K, DC_K))
    fake_k, = knn_radii(fake, (PR_K,))
    nearest_fake = np.full(len(real), np.inf, np.float32)
    in_fake_ball, precise, balls = np.zeros(len(real), bool), 0, 0
    for i, block in squared_distances(fake, real):                   # [fakes of the block, all reals]
        precise += (block <= real_k).any(1).sum()
        balls += np.count_nonzero(block <= real_dense)
        np.minimum(nearest_fake, block.min(0), out=nearest_fake)
        in_fake_ball |= (block <= fake_k[i:i + len(block), None]).any(0)
    return {"precision": float(precise / len(fake)), "recall": float(in_fake_ball.mean()),
            "density": float(balls / (DC_K * len(fake))), "coverage": float((nearest_fake <= real_dense).mean())}


def nearest(queries, points=None):
    """The nearest of `points` [M, d] (without: the nearest other query) of each of `queries` [N, d]: (index
    int64 [N], distance float64 [N], exact: that of a copy is 0)."""
    index, distance = np.empty(len(queries), np.int64), np.empty(len(queries))
    blocks = squared_distances(*centre(queries)) if points is None else squared_distances(*centre(queries, points))
    points = queries if points is None else points
    for i, block in blocks:
        rows = slice(i, i + len(block))
        index[rows] = block.argmin(1)
        difference = np.asarray(queries[rows], np.float64) - points[index[rows]]
        distance[rows] = np.sqrt((difference ** 2).sum(1))
    return index, distance


def centred_pixels(images):
    """uint8 [N, H, W] -> float32 [N, H W / 4]: each image moved so that its centre of mass lies in the middle, also by
    parts of a pixel (bilinear), then averaged over 2 x 2 pixels. A glyph and the same glyph elsewhere become alike."""
    out = np.empty((len(images), images.shape[1] // 2, images.shape[2] // 2), np.float32)
    for i in range(0, len(images), 1000):
        x = images[i:i + 1000] / np.float32(255)
        mass, moved = np.maximum(x.sum((1, 2)), 1e-6), []
        for axis in (1, 2):                                # a matrix [size, size] that moves the rows, or the columns
            size = x.shape[axis]
            off = x.sum(3 - axis) @ np.arange(size, dtype=np.float32) / mass - (size - 1) / 2
            looks_at = np.arange(size) + off[:, None]
            moved.append(np.maximum(0, 1 - abs(looks_at[:, :, None] - np.arange(size))).astype(np.float32))
        x = moved[0] @ x @ moved[1].transpose(0, 2, 1)
        out[i:i + 1000] = x.reshape(len(x), *(v for size in x.shape[1:] for v in (size // 2, 2))).mean((2, 4))
    return out.reshape(len(out), -1)


def closeness(real, fake, train):
    """How much nearer fakes are to training images than to real ones, of vectors [N, d] each: (closeness float64 [N],
    the distance to the nearest training image / that to the nearest real one; threshold, the 1 % quantile of that of
    the real images, to the OTHER ones; what nearest() says of fakes and training, and of fakes and real images)."""
    in_train, in_real = nearest(fake, train), nearest(fake, real)
    of_real = nearest(real, train)[1] / np.maximum(nearest(real)[1], TINY)
    return in_train[1] / np.maximum(in_real[1], TINY), float(np.quantile(of_real, 0.01)), in_train, in_real


def copies(real, fake, train, picture=None, seed=0):
    """Does a generator copy its training set? A dict from FeatureSets; `real` must hold no training images.

        ratio         median distance of a fake to its nearest training image / that to its nearest real one, the larger
                      set cut (by `seed`) to the size of the other: 1 without copying, well below 1 with it
        near_copies   fraction of fakes whose closeness, the distance to the nearest training image (of all) / that to
                      the nearest real one, is below `threshold`: the 1 % quantile of that of the real images (to the
                      OTHER ones). So 0.01 by chance, also for a glyph that all people write alike
        moved_copies  the same by pixels in place of features, all glyphs moved to their centre of mass: features change
                      where a glyph is moved, and would miss most copies by a pixel or two (where images are known)
        exact_copies  fraction of fakes whose features equal those of a training image

    None sees a copy that was turned, stretched or redrawn by more than such images of one class differ anyway.
    `picture`: a PNG of the fakes with the least closeness, beside their nearest training and real images."""
    close, threshold, (train_index, to_train), (real_index, to_real) = closeness(
        real.features, fake.features, train.features)
    near_copies, moved = float((close < threshold).mean()), {}
    if all(x.images is not None for x in (real, fake, train)):
        close_moved, threshold_moved, *_ = closeness(*(centred_pixels(x.images) for x in (real, fake, train)))
        moved["moved_copies"] = float((close_moved < threshold_moved).mean())
    n, rng = min(len(train.features), len(real.features)), np.random.default_rng(seed)
    medians = [np.median(d if len(x) == n else nearest(fake.features, x[rng.choice(len(x), n, replace=False)])[1])
               for x, d in ((train.features, to_train), (real.features, to_real))]
    if picture:
        order = np.argsort(close, kind="stable")[:12]
        rows = [fake.images[order], train.images[train_index[order]], real.images[real_index[order]]]
        footer = (f"Above: distance to the training image / to the test image, in feature space. Near-copies (below "
                  f"{threshold:.3g}, as 1 % of the test images are): {near_copies:.2%} of {len(fake.features):,}. "
                  f"Training images: {len(train.features):,}.")
        page = figures.grid(rows, ["generated", "nearest training image", "nearest test image"],
                            [f"{v:.2f}" for v in close[order]], "Closest to the training set", footer)
        figures.save(page, picture)
    return {"ratio": float(medians[0] / max(medians[1], TINY)), "near_copies": near_copies, **moved,
            "exact_copies": float((to_train == 0).mean()), "threshold": threshold, "n_train": len(train.features)}
