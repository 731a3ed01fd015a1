"""Mixtures of Gaussians fitted by expectation maximisation (Dempster et al. 1977), in numpy: the prior of the CVAE."""
from statistics import NormalDist

import numpy as np

MOST = 20_000              # codes of a class that its mixture is fitted to


def log_density(x, mean, cov):
    """log N(x; mean_c, cov_c) of x [N, d] for components mean [C, d], cov [C, d, d] -> [N, C]."""
    root = np.linalg.cholesky(cov)
    whiten = np.linalg.inv(root)
    n, (components, d) = len(x), mean.shape
    white = x @ whiten.reshape(-1, d).T - (whiten @ mean[:, :, None]).reshape(-1)        # one product for all: [N, C d]
    log_det = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    return -0.5 * ((white ** 2).reshape(n, components, d).sum(2) + log_det + d * np.log(2 * np.pi))


def fit(x, components, rng, start=None, pull=None, strength=0.0, steps=30):
    """Fit a mixture to x float [N, d]: (weights [C], means [C, d], covariances [C, d, d]), float64.

    `start`: a mixture to begin from, else random points. `pull`, a covariance [d, d], counts as `strength` more points
    in every component's covariance, so that components of few points stay sane.
    """
    x = np.asarray(x, np.float64)
    n, d = x.shape
    pull = np.cov(x.T, bias=True) if pull is None else pull
    floor = 1e-4 * np.eye(d)
    if components == 1:                       # nothing to iterate, which counts where there are thousands of classes
        cov = (np.cov(x.T, bias=True) * n + strength * pull) / (n + strength) + floor
        return np.ones(1), x.mean(0, keepdims=True), cov[None]
    if start is None:
        start = (np.full(components, 1 / components), x[rng.choice(n, components, replace=False)],
                 np.repeat(pull[None] + floor, components, 0))
    weights, mean, cov = start
    for _ in range(steps):
        logs = log_density(x, mean, cov) + np.log(weights)
        logs -= logs.max(1, keepdims=True)
        share = np.exp(logs)
        share /= share.sum(1, keepdims=True)                                             # [N, C]
        mass = share.sum(0) + 1e-9
        weights, mean = mass / mass.sum(), (share.T @ x) / mass[:, None]
        shared = (share[:, :, None] * x[:, None]).reshape(n, -1)                          # [N, C d]
        scatter = (shared.T @ x).reshape(-1, d, d) - mass[:, None, None] * (mean[:, :, None] * mean[:, None])
        cov = (scatter + strength * pull) / (mass + strength)[:, None, None] + floor
    return weights, mean, cov


def class_prior(codes, labels, thick, n_classes, components, seed=0):
    """The buffers of models.Prior for codes float [N, d] with labels int [N] and thick bool [N].

    One mixture per class and style half. Both halves of a class start from the mixture of the whole class, so that
    component c of "thin" and of "thick" go together and a sample changes little where the dial passes the middle. Fewer
    than 40 codes for a component make fewer components; covariances lean on that of all codes about their class's mean
    with the weight of 20 codes (d = 16 wants more than 16). A half without codes takes the mixture of its class, a
    class without any the standard normal. -> thresholds [2 K, C], mean [2 K C, d], root [2 K C, d, d], float32.
    """
    codes, d = np.asarray(codes, np.float64), codes.shape[1]
    rng = np.random.default_rng(seed)
    thresholds = np.full((2 * n_classes, components), 1e9)
    means, roots = np.zeros((2 * n_classes, components, d)), np.tile(np.eye(d), (2 * n_classes, components, 1, 1))
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(labels, minlength=n_classes)))
    members = [own[::-(-len(own) // MOST)] for own in parts if len(own)]
    scatter = sum(np.cov(codes[own].T, bias=True) * len(own) for own in members)
    pull = scatter / max(1, sum(map(len, members)) - n_classes)
    for own in members:
        k = labels[own[0]]
        halves = [codes[own[thick[own] == half]] for half in (False, True)]
        own = codes[own]
        count = int(np.clip(min(len(h) for h in halves) // 40, 1, components))
        whole = fit(own, count, rng, pull=pull, strength=20)
        for half, x in enumerate(halves):
            weights, mean, cov = fit(x, count, rng, whole, pull, 20) if len(x) else whole
            cell = 2 * k + half
            ends = np.cumsum(weights)[:-1].clip(1e-9, 1 - 1e-9)
            thresholds[cell, :count - 1] = [NormalDist().inv_cdf(e) for e in ends]
            means[cell, :count], roots[cell, :count] = mean, np.linalg.cholesky(cov)
    return (thresholds.astype(np.float32), means.reshape(-1, d).astype(np.float32),
            roots.reshape(-1, d, d).astype(np.float32))
