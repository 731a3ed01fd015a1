"""Saliency maps against closed forms, the promise to leave the network as it was, and the section of the report."""
import copy

import numpy as np
import pytest
import torch
from conftest import command
from PIL import Image
from torch import nn

import data
import models
import saliency
from datasets import strokes
from utils.files import UserError

METHODS = list(saliency.METHODS.items())


@pytest.fixture(scope="module")
def glyphs():
    x, y = strokes.generate(700, seed=5)
    return data.split_up("digits", list("0123456789"), x[:560], y[:560], x[560:], y[560:], 0, source="strokes",
                         license="none", warnings=[])


@pytest.fixture(scope="module")
def quick(glyphs):
    """A classifier after a few seconds of training, and 12 test images that it classifies correctly."""
    torch.manual_seed(0)
    net = models.Classifier(models.ClassifierConfig(10, 4))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        batch = torch.randint(len(glyphs.x_train), [48])
        logits = net(models.from_uint8(torch.from_numpy(glyphs.x_train)[batch]))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(glyphs.y_train)[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net = net.eval().requires_grad_(False)
    x, y = models.from_uint8(torch.from_numpy(glyphs.x_test)), torch.from_numpy(glyphs.y_test)
    right = (net(x).argmax(1) == y).nonzero()[:, 0]
    assert len(right) > 70
    return net, x[right[:12]].contiguous(), y[right[:12]]


@pytest.fixture
def images():
    return torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round(decimals=2)


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 10)

    def forward(self, x):
        return self.linear(x.flatten(1))


def test_linear_network_in_closed_form(images):
    net, y = Linear(), torch.tensor([0, 3, 3, 9, 5])
    w = net.linear.weight.detach()[y].view(-1, 28, 28)
    for name, expected in (("gradient", w), ("SmoothGrad", w), ("gradient x input", w * images[:, 0]),
                           ("integrated gradients", w * images[:, 0])):
        torch.testing.assert_close(saliency.METHODS[name](net, images, y), expected, rtol=1e-4, atol=1e-6)


def test_square_has_the_integral_that_paper_gives(images):
    """score = sum of x^2: the gradient at a x is 2 a x, so that the integral is x^2."""
    class Square(Linear):
        def forward(self, x):
            return x.flatten(1).square().sum(1, keepdim=True).expand(-1, 10)
    maps = saliency.integrated_gradients(Square(), images, 0)
    torch.testing.assert_close(maps, images[:, 0].square(), rtol=1e-3, atol=1e-6)


def test_integrated_gradients_are_complete(quick, monkeypatch):
    monkeypatch.setattr(saliency, "MAX_STEPS", 2 ** 15)          # the network decides how many are needed, not a limit
    net, x, y = (quick[0], *(v[:4] for v in quick[1:]))
    for target in (y, (y + 1) % 10):
        maps = saliency.integrated_gradients(net, x, target)
        error = saliency.completeness_error(net, x, target, maps)
        with torch.no_grad():
            wanted = (net(x) - net(torch.zeros_like(x))).gather(1, target[:, None])[:, 0]
        torch.testing.assert_close(error, (maps.sum((1, 2)) - wanted).abs() / wanted.abs().clamp(min=0.1), rtol=0, atol=1e-4)
        assert error.max() <= 0.01
    rough = saliency.integrated_gradients(net, x, y, steps=2, tolerance=9.0)
    assert saliency.completeness_error(net, x, y, rough).max() > 0.01          # the check can fail


def test_grad_cam_of_a_network_made_by_hand():
    """Channel 0 copies the ink, channel 1 its negative; class 0 reads the mean of channel 0 alone."""
    conv = nn.Conv2d(1, 2, 1, bias=False)
    conv.weight.data = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.tensor([[784.0, 0.0], [-1.0, 0.0]])
    x = torch.zeros(2, 1, 28, 28)
    x[0, 0, 4, 7], x[1, 0, 20, 3] = 1, 0.5
    for pool in (nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)):
        net = nn.Sequential(conv, nn.ReLU(), pool, nn.Flatten(), head)
        assert saliency.last_convolution(net) is net[1]
        torch.testing.assert_close(saliency.grad_cam(net, x, 0), x[:, 0])   # weight 784 / 784 places
        assert (saliency.grad_cam(net, x, 1) == 0).all()                    # it speaks against class 1
    with pytest.raises(UserError, match="convolution"):
        saliency.grad_cam(Linear(), x, 0)


@pytest.mark.parametrize("name, method", METHODS)
def test_the_network_is_left_as_it_was(name, method, images):
    net = models.Classifier(models.ClassifierConfig(10, 4)).train()
    net.net[1].eval()                                                       # one module in another mode
    net.head.weight.requires_grad_(False)
    net.net[0].weight.grad = torch.ones_like(net.net[0].weight)
    before = copy.deepcopy(net)
    with torch.no_grad():                                                   # as a notebook might call it
        maps = method(net, images, 3)
    assert maps.shape == (5, 28, 28) and maps.dtype == torch.float32 and not maps.requires_grad
    assert maps.isfinite().all()
    for (n, a), b in zip(net.state_dict().items(), before.state_dict().values()):
        assert torch.equal(a, b), n
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for (n, a), b in zip(net.named_parameters(), before.parameters()):
        assert a.requires_grad == b.requires_grad == (n != "head.weight")
        assert (a.grad == 1).all() if n == "net.0.weight" else a.grad is None
    assert not any(m._forward_hooks or m._backward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(maps, method(before.eval(), images, 3))              # eval mode was used


def test_a_fault_leaves_the_network_as_it_was(images):
    net = models.Classifier(models.ClassifierConfig(10, 4)).train()
    with pytest.raises(RuntimeError):
        saliency.grad_cam(net, images, 10)                                  # there is no class 10
    assert net.training and not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("name, method", METHODS)
def test_the_target_class_decides_and_the_batch_does_not(name, method, quick):
    net, x, y = (quick[0], *(v[:2] for v in quick[1:]))
    maps = method(net, x, y)
    assert torch.equal(method(net, x[1:], y[1:]), maps[1:])                 # alone, to the bit
    assert torch.equal(method(net, x.flip(0), int(y[0]))[1], maps[0])       # at another place
    strided = torch.stack([x, x], 1)[:, 0].contiguous(memory_format=torch.channels_last)
    assert torch.equal(method(net, strided, y), maps)                       # whatever the memory format
    others = method(net, x, (y + 1) % 10)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(maps, others))


def test_smoothgrad_follows_its_seed(quick):
    net, x, y = quick
    a, b, c = (saliency.smoothgrad(net, x, y, samples=4, seed=s) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.allclose(a, c)
    calm = saliency.smoothgrad(net, x, y, samples=2, sigma=0.0)
    torch.testing.assert_close(calm, saliency.gradient(net, x, y), rtol=1e-3, atol=1e-4)


def test_wrong_input_is_refused(images):
    net = Linear()
    for x, y in ((images * 255, 0), ((images * 255).to(torch.uint8), 0), (images[:, 0], 0), (images, torch.zeros(4)),
                 (images, torch.zeros(4, dtype=torch.int64))):
        with pytest.raises(UserError, match="saliency needs"):
            saliency.gradient(net, x, y)


# ---- do they mean anything? ----------------------------------------------------------------------

def rank_correlation(a, b):
    """Of the magnitudes of two maps of each image, over all pixels: float64 [N]."""
    ranks = [m.abs().flatten(1).argsort(1).argsort(1).double() for m in (a, b)]
    return np.array([np.corrcoef(*pair)[0, 1] for pair in zip(*ranks)])


def test_randomization_lowers_the_correlation(quick):
    net, x, y = quick
    x, y = x[:4], y[:4]
    before, maps = copy.deepcopy(net), saliency.smoothgrad(net, x, y, samples=16)
    state, names, falls = torch.get_rng_state(), [], []
    for name, network in saliency.cascading_randomization(net):
        names.append(name)
        falls.append(rank_correlation(maps, saliency.smoothgrad(network, x, y, samples=16)).mean())
    assert names == ["linear 7", "conv 6", "conv 5", "conv 4", "conv 3", "conv 2", "conv 1"]
    assert rank_correlation(maps, maps) == pytest.approx(1) and falls[-1] < 0.5
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), before.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), state)
    last = [next(saliency.cascading_randomization(net, seed))[1].head.weight for seed in (0, 0, 1)]
    assert torch.equal(last[0], last[1]) and not torch.equal(last[0], last[2])


def test_randomization_starts_at_the_top_and_is_cumulative(quick):
    net = quick[0]
    steps = saliency.cascading_randomization(net)
    _, network = next(steps)
    assert not torch.equal(network.head.weight, net.head.weight)
    assert torch.equal(network.net[0].weight, net.net[0].weight)
    head = network.head.weight.clone()
    _, network = next(steps)
    assert torch.equal(network.head.weight, head) and network.net[-4].running_mean.abs().max() == 0


def test_deletion_and_insertion_in_closed_form():
    """A network whose answer is the share of ink in the left half knows which order is best."""
    class Left(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(20.0))

        def forward(self, x):
            left = x[..., :14].sum((1, 2, 3)) / 392
            return torch.stack([self.scale * (left - 0.5), torch.zeros_like(left)], 1)
    x, net = torch.ones(2, 1, 28, 28), Left()
    left = (torch.arange(28) < 14).float().expand(2, 28, 28)
    for insertion, best in ((False, left), (True, left)):
        good, bad = (saliency.perturbation(net, x, 0, o, insertion, points=5) for o in (best, -best))
        logits = torch.tensor([10.0, 0, -10, -10, -10] if not insertion else [-10.0, 0, 10, 10, 10])
        torch.testing.assert_close(good, logits.sigmoid().expand(2, 5), rtol=1e-4, atol=1e-5)
        assert (saliency.area_under_curve(good) < saliency.area_under_curve(bad)).all() != insertion
    torch.testing.assert_close(saliency.area_under_curve(torch.tensor([[0.0, 1.0, 0.0]])), torch.tensor([0.5]))


def test_sobel_finds_the_edge():
    x = torch.zeros(1, 1, 28, 28)
    x[..., 14:] = 1
    edges = saliency.sobel(x)[0, 1:-1, 1:-1]
    assert (edges[:, 12:14] == 4).all() and edges.sum() == 4 * 2 * 26


# ---- the command ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def files(quick, glyphs, tmp_path_factory):
    """A folder with classifier.pth, a large picture of a 7, dark on light, and an .npz with three labelled images."""
    folder = tmp_path_factory.mktemp("command")
    table = data.width_table(glyphs.x_train, glyphs.y_train, 10)
    models.save(folder / "classifier.pth", models.Checkpoint("classifier", quick[0], glyphs.classes, table))
    seven = glyphs.x_test[np.flatnonzero(glyphs.y_test == 7)[0]]
    Image.fromarray(255 - seven).resize((140, 140)).save(folder / "seven.png")
    np.savez(folder / "three.npz", images=glyphs.x_test[:3], labels=glyphs.y_test[:3])
    return folder


def test_command_explains_a_picture(files):
    done = command("saliency.py", "classifier.pth", "seven.png", "--out", "why.png", cwd=files)
    assert done.returncode == 0, done.stderr
    answer, out = done.stdout.splitlines()
    assert answer.startswith("seven.png: ") and answer.endswith("%)") and out == "why.png"
    width, height = Image.open(files / "why.png").size
    assert width > 6 * 28 * 5 and height > 28 * 5                           # the image and five maps


def test_command_explains_a_class_of_a_set(files, capsys):
    words = [str(files / "classifier.pth"), str(files / "three.npz"), "--method", "gradient", "--out"]
    saliency.main([*words, str(files / "a.png"), "--n", "2", "--class", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and "[0], labelled" in lines[0] and "[2], labelled" in lines[1]
    assert all(", not 3: " in line or ": 3 (" in line for line in lines[:2])
    saliency.main([*words, str(files / "b.png"), "--n", "2", "--class", "4"])
    saliency.main([*words, str(files / "c.png"), "--n", "2", "--class", "4"])
    contents = [(files / name).read_bytes() for name in ("a.png", "b.png", "c.png")]
    assert contents[0] != contents[1] == contents[2]


@pytest.mark.parametrize("words, message", [
    (["seven.png", "--class", "x"], "the classes are 0, 1"), (["seven.png", "--method", "magic"], "Grad-CAM"),
    (["none.png"], "none.png"), (["text.png"], "text.png"), (["blank.png"], "blank"), ([""], "no images"),
    (["none:test"], "none"), (["seven.png", "--out", ""], "empty"), (["three.npz", "--n", "0"], "--n")])
def test_bad_input_of_the_command(files, monkeypatch, words, message):
    monkeypatch.chdir(files)
    (files / "text.png").write_text("no picture")
    Image.new("L", (40, 40), 200).save(files / "blank.png")
    with pytest.raises(UserError, match=message) as fault:
        saliency.main(["classifier.pth", *words])
    assert "\n" not in str(fault.value)
