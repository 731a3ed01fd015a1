"""Connected ink of a picture, and ink grown by some pixels."""
import numpy as np


def components(mask):
    """Connected ink (by sides and corners): (labels int64 [H,W], 0 is paper, 1 .. n; boxes int64 [n,4] of top, left,
    bottom, right, the last two exclusive; areas int64 [n])."""
    h, w = mask.shape
    flat = np.pad(mask, ((0, 0), (1, 1))).ravel()
    wide = w + 2
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start, end = edges[::2], edges[1::2]              # the runs of all rows
    low = np.searchsorted(end, start + wide, "left")  # those in the next row that touch
    count = np.searchsorted(start, end + wide, "right") - low
    one = np.repeat(np.arange(len(start)), count)
    two = np.arange(count.sum()) + np.repeat(low - np.cumsum(count) + count, count)
    root = np.arange(len(start))
    while (root[one] != root[two]).any():
        a, b = root[one], root[two]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while (root != root[root]).any():
            root = root[root]
    names, number = np.unique(root, return_inverse=True)
    change = np.zeros(len(flat) + 1, np.int64)
    change[start] = number + 1
    change[end] -= number + 1
    labels = np.cumsum(change)[:-1].reshape(h, wide)[:, 1:-1]
    n = len(names)
    boxes = np.tile([h, w, 0, 0], (n, 1))
    row = start // wide
    for k, (best, value) in enumerate([(np.minimum, row), (np.minimum, start % wide - 1), (np.maximum, row + 1),
                                       (np.maximum, end - 1 - row * wide)]):
        best.at(boxes[:, k], number, value)
    return labels, boxes, np.bincount(number, end - start, n).astype(np.int64)


def grow(mask, n):
    """`mask` with n more pixels on every side of its ink."""
    for _ in range(n):
        mask = mask.copy()
        before = mask.copy()
        mask[1:] |= before[:-1]
        mask[:-1] |= before[1:]
        before = mask.copy()
        mask[:, 1:] |= before[:, :-1]
        mask[:, :-1] |= before[:, 1:]
    return mask
