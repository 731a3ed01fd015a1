"""The attacks: bounds, closed forms of linear classifiers, and checks that catch a network which hides its gradients."""
import copy
import json
from functools import partial

import numpy as np
import pytest
import torch
from conftest import command
from torch import nn

import attacks
import models
from datasets import strokes
from utils.files import UserError

WHITE_BOX = [name for name in attacks.ATTACKS if name not in attacks.GRADIENT_FREE]
QUICK = {"fgsm": attacks.fgsm, "pgd": partial(attacks.pgd, steps=8),
         "apgd-ce": partial(attacks.apgd, loss="ce", steps=10), "apgd-dlr": partial(attacks.apgd, loss="dlr", steps=10),
         "apgd-t": partial(attacks.apgd_targeted, targets=3, steps=6), "square": partial(attacks.square, queries=30)}


class Linear(nn.Module):
    """Logits 0 and w x + b: the distance of the decision is known exactly."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(torch.tensor(bias))

    def forward(self, x):
        score = (x * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([torch.zeros_like(score), score], 1)


class Then(nn.Module):
    """A network with something done to its logits."""

    def __init__(self, network, change):
        super().__init__()
        self.network, self.change = network, change

    def forward(self, x):
        return self.change(self.network(x))


@pytest.fixture(autouse=True)
def few_checked_images(monkeypatch):
    monkeypatch.setattr(attacks, "CHECKED_IMAGES", 24)


@pytest.fixture(scope="module")
def glyphs():
    return strokes.generate(64, seed=11)


@pytest.fixture(scope="module")
def network(glyphs):
    """A small classifier with batch norm, trained on strokes until it knows most of them."""
    x, y = strokes.generate(640, seed=12)
    x, y = models.from_uint8(torch.from_numpy(x)), torch.from_numpy(y)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                        nn.Conv2d(6, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
                        nn.Flatten(), nn.Linear(12 * 49, 10))
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    for i in range(80):
        part = torch.arange(i * 64, i * 64 + 64) % len(x)
        loss = nn.functional.cross_entropy(net(x[part]), y[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def batch(network, glyphs):
    """The images that the network classifies correctly, as tensors."""
    x, y = models.from_uint8(torch.from_numpy(glyphs[0])), torch.from_numpy(glyphs[1])
    right = ~attacks.misclassified(network, x, y)
    assert right.float().mean() > 0.8
    return x[right], y[right]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("norm, eps", [("linf", 0.08), ("l2", 0.9)])
def test_changes_stay_within_eps_and_range(network, batch, name, norm, eps):
    x, y = batch
    found = QUICK[name](network, x, y, eps, norm, seed=0)
    delta = (found - x).flatten(1)
    size = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
    assert size.max() <= eps + 1e-6 and found.min() >= 0 and found.max() <= 1
    assert size.max() > eps / 2, "the ball is made use of"
    assert attacks.misclassified(network, found, y).any(), "a weak bound already misleads this network somewhere"


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_eps_zero_is_the_identity(network, batch, name, norm):
    x, y = batch[0][:16], batch[1][:16]
    torch.testing.assert_close(QUICK[name](network, x, y, 0.0, norm, seed=0), x, rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nothing_left_to_attack(network, norm):
    nothing = torch.zeros(0, 1, 28, 28)
    assert all(attack(network, nothing, torch.zeros(0, dtype=torch.int64), 0.1, norm).shape == nothing.shape
               for attack in attacks.ATTACKS.values())


@pytest.mark.parametrize("name", QUICK)
def test_seed_decides_all(network, batch, name):
    x, y = batch[0][:16], batch[1][:16]
    before = torch.random.get_rng_state()
    one, two = (QUICK[name](network, x, y, 0.05, seed=3) for _ in range(2))
    assert torch.equal(one, two) and torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", WHITE_BOX)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_linear_classifier_falls_exactly_where_it_must(name, norm):
    """Two classes: an image falls as soon as eps exceeds margin / ||w||_1 (L-infinity) or margin / ||w||_2 (L2)."""
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn(1, 1, 6, 6, generator=rng)
    x = 0.5 + 0.04 * torch.randn(40, 1, 6, 6, generator=rng)      # far enough from 0 and 1: the range does not bind
    net = Linear(weight, -float((0.5 * weight).sum()))
    y = net(x).argmax(1)
    dual = weight.abs().sum() if norm == "linf" else weight.norm()
    distance = net(x)[:, 1].abs() / dual
    assert distance.max() < 0.35
    attack, close = attacks.ATTACKS[name], 0.001 if norm == "linf" else 0.03     # a corner is reached, a sphere's pole neared
    for i in torch.argsort(distance)[[5, 39]]:
        for factor, falls in ((1 + close, True), (1 - close, False)):
            found = attack(net, x[i:i + 1], y[i:i + 1], distance[i].item() * factor, norm, seed=0)
            assert bool(attacks.misclassified(net, found, y[i:i + 1])) == falls


def test_square_finds_the_corner_of_a_linear_classifier():
    """Weights of one sign in each half: windows can reach the worst corner, and the search gets close to it."""
    weight = torch.ones(1, 1, 8, 8)
    weight[..., 4:] = -1
    net, x = Linear(weight, 0.5), torch.full((8, 1, 8, 8), 0.5)
    y = net(x).argmax(1)                                          # margin 0.5, ||w||_1 = 64
    for norm, bound, near in (("linf", 0.5 / 64, 1.3), ("l2", 0.5 / 8, 2.2)):
        assert attacks.misclassified(net, attacks.square(net, x, y, bound * near, norm, queries=400), y).all()
        assert not attacks.misclassified(net, attacks.square(net, x, y, bound * 0.99, norm, queries=100), y).any()


def test_dlr_closed_form_and_scale():
    logits = torch.tensor([[3.0, 1.0, 0.5, -2.0], [0.0, 4.0, 3.0, 1.0]])
    y = torch.tensor([0, 2])
    expected = torch.tensor([-(3 - 1) / (3 - 0.5), -(3 - 4) / (4 - 1)])
    torch.testing.assert_close(attacks.dlr(logits, y), expected)
    torch.testing.assert_close(attacks.dlr(100 * logits, y), expected)


def test_targeted_dlr_closed_form():
    """Towards the last class, over the largest logit less the mean of the third and the fourth."""
    logits = torch.tensor([[3.0, 1.0, 0.5, -2.0, -7.0]])
    for classes, gap in ((5, 3 - (0.5 - 2.0) / 2), (4, 3 - (0.5 - 2.0) / 2), (3, 1.0), (2, 1.0)):
        found = attacks.targeted_dlr(logits[:, :classes], torch.tensor([[0, classes - 1]]))
        assert float(found) == pytest.approx(float(logits[0, classes - 1] - 3) / gap)


class Rival(nn.Module):
    """Logits 1, 0.9, s, -5, ...: the likeliest wrong class is out of reach, the least likely but one is not."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        score = x.flatten(1).sum(1)
        fixed = [torch.full_like(score, value) for value in (1.0, 0.9)]
        return torch.stack([*fixed, score, *(-5 - k - score for k in range(self.classes - 3))], 1)


@pytest.mark.parametrize("classes", [3, 4, 10])
def test_targets_are_the_likeliest_wrong_classes_one_after_the_other(classes):
    x, y = torch.full((3, 1, 2, 2), 0.1), torch.zeros(3, dtype=torch.int64)                # s = 0.4; 1.2 within eps
    attack = partial(attacks.apgd_targeted, Rival(classes), x, y, 0.2, steps=10)
    assert not attacks.misclassified(Rival(classes), attack(targets=1), y).any()
    assert attacks.misclassified(Rival(classes), attack(targets=2), y).all()
    assert attacks.misclassified(Rival(classes), attack(), y).all(), "as many as there are"


def test_checkpoints_of_apgd_are_the_papers():
    """22 % of the steps first, then gaps that shrink by 3 % to 6 % (section 3 of the paper)."""
    np.testing.assert_allclose(attacks.CHECKPOINTS[:6], [0, 0.22, 0.41, 0.57, 0.70, 0.80], atol=1e-9)
    assert np.diff(attacks.CHECKPOINTS).min() > 0.06 - 1e-9


class Hill(nn.Module):
    """Logits 2 and a hill whose top lies inside the ball, not on its rim: only ever shorter steps come near to it."""
    TOP = torch.tensor([0.46, 0.53, 0.6, 0.38]).view(1, 1, 2, 2)
    WIDTH = torch.tensor([1.0, 9.0, 3.0, 5.0]).view(1, 1, 2, 2)

    def forward(self, x):
        score = -(self.WIDTH * (x - self.TOP).square()).flatten(1).sum(1)
        return torch.stack([torch.full_like(score, 2.0), score], 1)


def apgd_by_the_book(network, x, start, eps, steps):
    """Algorithm 1 for one image and cross-entropy, with the checkpoints where its authors' code has them."""
    def loss_and_direction(z):
        z = z.clone().requires_grad_()
        loss = nn.functional.cross_entropy(network(z), torch.tensor([0]))
        return loss.item(), torch.autograd.grad(loss, z)[0].sign()

    def project(z):
        return z.clamp(x - eps, x + eps).clamp(0, 1)
    windows = [int(np.ceil(share * steps)) for share in attacks.CHECKPOINTS]
    z, z_before, eta, visited, losses = start, start, 2 * eps, [], []
    best, at_checkpoint, last = (-np.inf, None, None), None, 0
    for k in range(steps + 1):
        loss, sign = loss_and_direction(z)
        visited.append(z)
        losses.append(loss)
        if loss > best[0]:
            best = loss, z, sign
        if k in windows:
            rose = sum(b > a for a, b in zip(losses[last:k], losses[last + 1:k + 1]))
            if k and (rose < 0.75 * (k - last) or at_checkpoint == (eta, best[0])):
                at_checkpoint, eta = (eta, best[0]), eta / 2
                losses[-1], z, sign = best
            else:
                at_checkpoint = eta, best[0]
            last = k
        new = project(z + eta * sign)
        z, z_before = (project(z + 0.75 * (new - z) + 0.25 * (z - z_before)) if k else new), z
    return visited, best[1]


@pytest.mark.parametrize("steps", [12, 50])
def test_apgd_takes_the_steps_of_the_paper(steps, monkeypatch):
    """Point by point: the first step, momentum, when the step is halved, where it goes on then, what is given back."""
    visited, original = [], attacks.loss_and_gradient
    monkeypatch.setattr(attacks, "loss_and_gradient", lambda network, z, *rest: visited.append(z.clone()) or
                        original(network, z, *rest))
    x, eps, net = torch.full((1, 1, 2, 2), 0.5), 0.2, Hill()
    found = attacks.apgd(net, x, torch.tensor([0]), eps, steps=steps, seed=3)
    start = attacks.random_start(x, eps, "linf", torch.Generator().manual_seed(3))
    expected, best = apgd_by_the_book(net, x, start, eps, steps)
    torch.testing.assert_close(torch.cat(visited), torch.cat(expected))
    torch.testing.assert_close(found, best)
    assert (found - Hill.TOP).abs().max() < (0.06 if steps == 12 else 0.02), "it has come near to the top"


def test_apgd_goes_back_where_its_best_loss_does_not_rise_any_more(monkeypatch):
    """Planted losses: the first is the highest, and all others rise step by step, as if on the way to a lower top."""
    visited = []

    def planted(network, z, *rest):
        visited.append(z.clone())
        loss = float(len(visited)) if len(visited) > 1 else 1e3
        return torch.tensor([loss]), torch.ones_like(z), torch.tensor([[1.0, 0.0]])
    monkeypatch.setattr(attacks, "loss_and_gradient", planted)
    attacks.apgd(Hill(), torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), 0.4, steps=50)
    rim, after = torch.cat(visited[1:12]), visited[12]               # step 11 is the first checkpoint
    assert (rim - 0.9).abs().max() < 1e-6 and (after - 0.9).abs().max() > 0.01


def test_pgd_starts_twice_at_random_and_steps_by_its_share_of_eps(monkeypatch):
    visited, original = [], attacks.loss_and_gradient
    monkeypatch.setattr(attacks, "loss_and_gradient", lambda network, z, *rest: visited.append(z.clone()) or
                        original(network, z, *rest))
    x, eps = torch.full((1, 1, 2, 2), 0.5), 0.2
    attacks.pgd(Hill(), x, torch.tensor([0]), eps, steps=10)
    first, second = torch.cat(visited[:10]), torch.cat(visited[10:])
    assert len(visited) == 20 and (first[0] - second[0]).abs().min() > 1e-3 and (first[0] - x).abs().min() > 1e-3
    steps = first.diff(dim=0).abs()
    assert steps.max() == pytest.approx(2.5 * eps / 10) and (steps > 0.049).float().mean() > 0.7


def test_random_starts_fill_the_ball_evenly():
    x, rng = torch.full((4000, 1, 2, 2), 0.5), torch.Generator().manual_seed(0)
    delta = (attacks.random_start(x, 0.3, "linf", rng) - x).flatten(1)
    assert delta.abs().max() <= 0.3 + 1e-6 and delta.std().item() == pytest.approx(0.3 / 3 ** 0.5, rel=0.03)
    radius = (attacks.random_start(x, 0.3, "l2", rng) - x).flatten(1).norm(dim=1) / 0.3       # P(radius < r) = r^4
    assert radius.max() <= 1 + 1e-5 and radius.mean().item() == pytest.approx(4 / 5, abs=0.01)


def test_projections_and_directions_by_hand():
    clean, x = torch.tensor([0.5, 0.5]).view(1, 1, 1, 2), torch.tensor([0.8, 0.1]).view(1, 1, 1, 2)    # off by 3, -4
    near = {(norm, eps): attacks.project(x, clean, eps, norm).flatten().tolist()
            for norm, eps in (("linf", 0.35), ("l2", 0.25), ("l2", 0.6))}
    assert near["linf", 0.35] == pytest.approx([0.8, 0.15]) and near["l2", 0.25] == pytest.approx([0.65, 0.3])
    assert near["l2", 0.6] == pytest.approx([0.8, 0.1])
    assert attacks.project(x + 1, clean, 2, "linf").max() == 1
    assert attacks.direction(x - clean, "l2").flatten().tolist() == pytest.approx([0.6, -0.8])
    assert attacks.direction(x - clean, "linf").flatten().tolist() == [1, -1]


def test_windows_of_square_shrink_and_only_gains_are_kept(monkeypatch):
    sides, kept = [], []

    def propose(x, x_adv, index, eps, side, rng):
        sides.append(side)
        kept.append(x_adv.mean().item())
        return x_adv + (0.001 if len(sides) % 2 else -0.004)          # a margin that falls, then one that rises
    monkeypatch.setattr(attacks, "propose_linf", propose)
    monkeypatch.setattr(attacks, "stripes", lambda x, eps, rng: x.clone())
    net = Linear(torch.full((1, 1, 28, 28), 1 / 784), -5.0)           # class 0, by a margin of 5 - ink
    attacks.square(net, torch.full((1, 1, 28, 28), 0.5), torch.tensor([0]), 0.3, queries=1000)
    assert [side for i, side in enumerate(sides) if not i or side != sides[i - 1]] == [25, 18, 13, 9, 6, 4, 3, 2]
    assert kept[10] == pytest.approx(0.5 + 5 * 0.001, abs=1e-4) and min(np.diff(kept)) >= -1e-6


def test_every_proposal_of_square_changes_the_image_and_spends_what_eps_allows():
    rng, index = torch.Generator().manual_seed(0), torch.arange(40)
    blank, grey = torch.zeros(40, 1, 28, 28), torch.full((40, 1, 28, 28), 0.5)
    up = attacks.propose_linf(blank, blank, index, 0.2, 5, rng).flatten(1)       # down is not possible from 0
    assert (up.amax(1) == 0.2).all() and ((up > 0).sum(1) == 25).all()
    delta = (attacks.propose_l2(grey, grey, index, 0.2, 5, rng) - grey).flatten(1)
    torch.testing.assert_close(delta.norm(dim=1), torch.full((40,), 0.2))


def test_an_answer_that_is_no_number_is_wrong():
    net = Then(nn.Flatten(), lambda z: torch.stack([z.sum(1) * float("nan"), z.sum(1)], 1))
    assert attacks.misclassified(net, torch.ones(2, 1, 2, 2), torch.tensor([0, 1])).all()


def test_without_another_attack_square_found_nothing_that_others_miss(network, glyphs):
    found = attacks.robust_accuracy(network, *glyphs, 0.2, attacks={"square": QUICK["square"]})
    assert found["attacks"]["square"]["flipped"] > 0 and found["checks"]["flipped_by_gradient_free_only"] == 0


@pytest.mark.parametrize("check, value, word", [
    ("largest_change", 0.11, "more than eps"), ("lowest_pixel", -0.01, "range"), ("highest_pixel", 1.01, "range"),
    ("zero_gradients", 0.02, "zero"), ("accuracy_at_grey", 0.06, "grey"), ("answers_differ", 0.01, "random"),
    ("flipped_by_gradient_free_only", 2, "gradient-free"), ("clean", 0.4, "only 40.0%"), (None, None, None)])
def test_each_check_has_its_flag(check, value, word):
    checks = {"largest_change": 0.1, "lowest_pixel": 0.0, "highest_pixel": 1.0, "zero_gradients": 0.01, "grey_eps": 0.5,
              "accuracy_at_grey": 0.05, "answers_differ": 0.0, "flipped_by_gradient_free_only": 1}
    result = {"eps": 0.1, "n": 100, "clean": 0.9, "checks": checks}
    (checks if check in checks else result)[check] = value
    found = list(attacks.flags(result))
    assert found == [] if check is None else len(found) == 1 and word in found[0]


def test_grey_lies_within_the_ball_that_the_self_check_takes(network, batch, monkeypatch):
    """.5 for each pixel; in L2 the length of as many changes of .5."""
    tried = []
    monkeypatch.setattr(attacks, "apgd", lambda network, x, y, eps, *rest, **more: tried.append(eps) or x)
    right = torch.ones(len(batch[0]), dtype=torch.bool)
    for norm, eps in (("linf", 0.5), ("l2", 0.5 * 28)):
        found = attacks.self_check(network, network, *batch, right, norm, 0)
        assert found["grey_eps"] == eps == tried[-1] and found["accuracy_at_grey"] == 1


def test_network_is_left_as_found(network, batch):
    net = copy.deepcopy(network).train()
    net(batch[0][:8]).sum().backward()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [p.grad.clone() for p in net.parameters()]
    x = batch[0][:8].clone()
    for attack in QUICK.values():
        attack(net, x, batch[1][:8], 0.1, seed=0)
    assert net.training and all(m.training for m in net.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert all(torch.equal(g, p.grad) and p.requires_grad for g, p in zip(gradients, net.parameters()))
    assert torch.equal(x, batch[0][:8]) and not x.requires_grad


def test_folding_batch_norm_changes_nothing(network, batch):
    folded = attacks.folded_copy(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    torch.testing.assert_close(folded(batch[0]), network(batch[0]), rtol=1e-4, atol=1e-4)


def test_probabilities_are_refused(network, glyphs):
    with pytest.raises(UserError, match="probabilities"):
        attacks.robust_accuracy(Then(network, lambda z: z.softmax(1)), *glyphs, 0.1)
    with pytest.raises(UserError, match="not finite"):
        attacks.robust_accuracy(Then(network, lambda z: z * float("nan")), *glyphs, 0.1)
    with pytest.raises(UserError, match="labels"):
        attacks.robust_accuracy(network, glyphs[0], glyphs[1] + 1, 0.1)
    with pytest.raises(UserError, match="uint8"):
        attacks.robust_accuracy(network, glyphs[0] / 255, glyphs[1], 0.1)
    with pytest.raises(UserError, match="norm"):
        attacks.robust_accuracy(network, *glyphs, 0.1, "l1", QUICK)


def test_worst_case_and_table(network, glyphs):
    found = attacks.robust_accuracy(network, *glyphs, 0.06, attacks=QUICK)
    assert json.loads(json.dumps(found)) == found
    accuracies = [found["clean"]] + [row["accuracy"] for row in found["attacks"].values()]
    rows = list(found["attacks"].values())
    assert accuracies == sorted(accuracies, reverse=True), "one attack after the other can only lower it"
    assert rows[-1]["accuracy"] == pytest.approx(found["robust"])
    assert rows[1]["attacked"] == rows[0]["attacked"] - rows[0]["flipped"], "what was flipped is not attacked again"
    assert rows[0]["attacked"] == round(found["clean"] * len(glyphs[0])), "what is misclassified is not attacked"
    assert found["flags"] == [] and "no flags" in attacks.table(found)
    alone = attacks.robust_accuracy(network, *glyphs, 0.06, attacks=QUICK, alone=True)
    assert alone["attacks"]["pgd"]["attacked"] == rows[0]["attacked"]
    assert alone["robust"] <= min(row["accuracy"] for row in alone["attacks"].values()) + 1e-9
    assert alone["attacks"]["pgd"]["accuracy"] <= alone["attacks"]["fgsm"]["accuracy"]


@pytest.mark.parametrize("change, word", [
    (lambda z: (z * 4).round() / 4, "zero"),                      # quantised: no gradient at all
    (lambda z: z * 1e4, "gradient-free"),                         # so sure that cross-entropy is flat in fp32
    (lambda z: z + 0.1 * torch.randn_like(z), "random")])
def test_flags_fire_on_masked_gradients(network, glyphs, change, word):
    only_ce = {name: QUICK[name] for name in ("fgsm", "pgd", "apgd-ce", "square")}
    found = attacks.robust_accuracy(Then(network, change), *glyphs, 0.12, attacks=only_ce)
    assert any(word in flag for flag in found["flags"]), found
    assert "FLAG" in attacks.table(found)


def test_dlr_sees_through_large_logits(network, batch):
    """The masking that stops cross-entropy does not stop DLR."""
    x, y = batch
    sure = Then(network, lambda z: z * 1e4)
    robust = [(~attacks.misclassified(network, QUICK[name](sure, x, y, 0.06, seed=0), y)).float().mean()
              for name in ("apgd-ce", "apgd-dlr")]
    assert robust[1] < robust[0] - 0.1


@pytest.fixture(scope="module")
def files(small_npz, tmp_path_factory):
    """A folder with an untrained classifier and an untrained generator."""
    folder, classes = tmp_path_factory.mktemp("attacks"), list("0123456789")
    for kind, net in (("classifier", models.Classifier(models.ClassifierConfig(10, 2))),
                      ("generator", models.Generator(models.GeneratorConfig(10)))):
        models.save(folder / f"{kind}.pth", models.Checkpoint(kind, net, classes, np.zeros((10, 256))))
    return folder


def test_command(small_npz, files):
    done = command("attacks.py", files / "classifier.pth", "--on", f"{small_npz}:test", "--n", 24, "--eps", 0.05,
                   "--attacks", "fgsm,apgd-dlr")
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("24 images", "clean", "fgsm", "apgd-dlr", "robust", "checks"))
    assert "FLAG: only" in done.stdout, "an untrained network is right about a tenth of the time"


def test_json_of_the_command(small_npz, files, capsys):
    attacks.main([str(files / "classifier.pth"), "--on", f"{small_npz}:test", "--n", "8", "--attacks", "fgsm", "--json"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["attacks"].keys() == {"fgsm"} and "fgsm: " in printed.err


@pytest.mark.parametrize("file, words, message", [
    ("classifier.pth", ["--attacks", "fgsm,deepfool"], "deepfool.*apgd-dlr"), ("classifier.pth", ["--eps", "-1"], "eps"),
    ("classifier.pth", ["--on", ""], "no images"), ("generator.pth", [], "generator.pth.*classifier"), ("", [], "empty")])
def test_bad_input_of_the_command(small_npz, files, monkeypatch, file, words, message):
    monkeypatch.chdir(files)
    with pytest.raises(UserError, match=message) as fault:
        attacks.main([file, "--on", f"{small_npz}:test", *words])
    assert "\n" not in str(fault.value)


def test_accuracy_by_eps_only_falls(network, glyphs):
    found = attacks.robust_accuracy_curve(network, *glyphs, [0, 0.02, 0.05, 0.5])
    assert found == sorted(found, reverse=True) and found[-1] == 0
    one = attacks.robust_accuracy(network, *glyphs, 0.05, attacks=attacks.STRONG)["robust"]
    assert found[2] == pytest.approx(one, abs=0.03)
