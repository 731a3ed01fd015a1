"""The classic small CVAE beside ours: one hidden layer on each side, condition as one-hot, ten latent values.

    python benchmarks/mlp_cvae.py --epochs 10 --ours runs-cvae/0/cvae.pth

Encoder: 784 pixels and a one-hot label -> 512 ReLU -> mean and log variance (10); decoder: 10 and the label -> 512 ReLU
-> 784 sigmoid; loss: binary cross-entropy summed over pixels plus KL; Adam 1e-3, batch 64. That is what student projects
call a conditional VAE. It has no thickness dial, so its style and spearman are those of chance. Measured as
benchmarks/runs.py does, on the same test set.
"""
import time

import torch
import torch.nn.functional as F
from runs import QUALITY, Bench, quality, table
from torch import nn

import models
from generate_digits import open_generator
from metrics.features import DEFAULT_MODEL
from training.vae import kl_divergence
from utils.cli import Parser, run_command

CODE, HIDDEN = 10, 512


class PlainCVAE(nn.Module):
    """784 + K -> 512 -> 10 -> 512 -> 784."""

    def __init__(self, n_classes):
        super().__init__()
        self.n_classes = n_classes
        self.encoder = nn.Sequential(nn.Linear(784 + n_classes, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * CODE))
        self.decoder = nn.Sequential(nn.Linear(CODE + n_classes, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 784))

    def encode(self, x, y):
        return self.encoder(torch.cat([x, F.one_hot(y, self.n_classes).float()], 1)).chunk(2, 1)

    def decode(self, code, y):
        return self.decoder(torch.cat([code, F.one_hot(y, self.n_classes).float()], 1))


class Source:
    """It as a generator of py; the thickness is not used."""

    def __init__(self, network, classes):
        self.network, self.classes, self.latent = network, classes, CODE

    def __call__(self, noise, label, thickness):
        with torch.inference_mode():
            pixels = self.network.decode(torch.from_numpy(noise), torch.from_numpy(label)).sigmoid()
            return models.to_uint8(pixels.view(-1, 1, 28, 28)).numpy()


def train(glyphs, epochs, seed):
    torch.manual_seed(seed)
    network = PlainCVAE(len(glyphs.classes))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    images, labels = torch.from_numpy(glyphs.x_train), torch.from_numpy(glyphs.y_train)
    for epoch in range(epochs):
        sums = torch.zeros(2)
        for chosen in torch.randperm(len(images)).split(64):
            x, y = models.from_uint8(images[chosen]).flatten(1), labels[chosen]
            mean, log_var = network.encode(x, y)
            logits = network.decode(mean + torch.randn_like(mean) * (log_var / 2).exp(), y)
            pixels = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
            kl = kl_divergence(mean, log_var).sum()
            optimizer.zero_grad()
            ((pixels + kl) / len(x)).backward()
            optimizer.step()
            sums += torch.stack([pixels.detach(), kl.detach()])
        pixels, kl = (sums / len(images)).tolist()
        print(f"epoch {epoch + 1}: cross-entropy {pixels:.2f}, KL {kl:.2f} nats per image", flush=True)
    return network.eval()


def main():
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--features", default=str(DEFAULT_MODEL), help="classifier.onnx, another model, or pixels")
    parser.add_argument("--ours", nargs="*", default=[], help="generator files to measure beside it")
    args = parser.parse_args()
    bench = Bench(args)
    started = time.perf_counter()
    network = train(bench.glyphs, args.epochs, args.seed)
    print(f"{models.n_parameters(network):,} parameters, {time.perf_counter() - started:.0f} s of training")
    rows = [quality(bench, Source(network, bench.glyphs.classes))]
    rows += [quality(bench, open_generator(path)) for path in args.ours]
    table(rows, QUALITY, ["plain", *args.ours])


if __name__ == "__main__":
    run_command(main)
