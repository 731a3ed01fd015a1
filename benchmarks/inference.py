"""How fast are the ONNX files, and how small? onnxruntime beside torch eager in fp32, plain arrays in and out of both.

    python benchmarks/inference.py                            # all of saved_models/, 2 threads; about 2 minutes
    python benchmarks/inference.py --only start               # how long until the first digit
    python benchmarks/inference.py --only int8                # what 8-bit weights and activations cost and bring

Within a row the candidates take turns (A B A B ...) in one process; the medians of the rounds are shown, so that a busy
machine hits all alike. Before each turn the other's threads get time to go to sleep, and one call is not timed.
"int8" exports classifier.pth both ways, in a temporary folder, and measures both on the test set.
"""
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import data
import models
from export_onnx import accuracy, export, quantize_int8, random_inputs
from utils.cli import Parser, names_from, number, run_command
from utils.onnx_session import open_session

NAMES = ("generator", "acgan", "cvae", "classifier", "classifier-tiny")
BATCHES = (1, 64, 1024)
TURN = 0.1         # seconds that one turn of one candidate lasts, at least
REST = 0.05        # seconds before it, in which the threads of the one before stop spinning


def take_turns(calls, rounds):
    """Median seconds per call of each function of `calls`, measured in turns."""
    counts = []
    for call in calls:
        call()                                            # the first call allocates
        start = time.perf_counter()
        call()
        counts.append(max(1, round(TURN / (time.perf_counter() - start))))
    seconds = [[] for _ in calls]
    for _ in range(rounds):
        for call, count, values in zip(calls, counts, seconds):
            time.sleep(REST)
            call()
            start = time.perf_counter()
            for _ in range(count):
                call()
            values.append((time.perf_counter() - start) / count)
    return [statistics.median(values) for values in seconds]


def eager(checkpoint, arrays):
    """A function that does in torch what the graph does: arrays -> images, or logits, probabilities and features."""
    def images():
        with torch.inference_mode():
            return models.to_uint8(checkpoint.model(*map(torch.from_numpy, arrays.values()))).numpy()

    def classes():
        with torch.inference_mode():
            features = checkpoint.model.net(2 * models.from_uint8(torch.from_numpy(arrays["image"])) - 1)
            logits = checkpoint.model.head(features)
            return [a.numpy() for a in (logits, logits.softmax(1), features[:, :checkpoint.model.n_features])]

    return images if checkpoint.role == "generator" else classes


def speed(folder, threads, rounds):
    """The table of all models: size, ms per batch and images per second."""
    print(f"{'model':16} {'bytes':>9} {'batch':>5}  {'onnxruntime ms':>14} {'images/s':>9}  {'torch ms':>9} "
          f"{'images/s':>9}  {'faster':>7}")
    for name in NAMES:
        file = folder / f"{name}.onnx"
        if not file.is_file() or not file.with_suffix(".pth").is_file():
            print(f"{name:16} left out: no {file} with its .pth")
            continue
        checkpoint = models.load(file.with_suffix(".pth"))
        session, meta = open_session(file, checkpoint.role, threads)
        for batch in BATCHES:
            arrays = random_inputs(checkpoint.role, batch, len(meta["classes"]), meta.get("latent_dim"))
            onnx, torchs = take_turns([partial(session.run, None, arrays), eager(checkpoint, arrays)], rounds)
            print(f"{name:16} {file.stat().st_size:9,} {batch:5}  {1e3 * onnx:14.3f} {batch / onnx:9,.0f}  "
                  f"{1e3 * torchs:9.3f} {batch / torchs:9,.0f}  {torchs / onnx:6.2f}x", flush=True)


def start(folder, threads, rounds):
    """Milliseconds to open each file; seconds of the whole command in a new process."""
    print(f"{'model':16} {'open ms':>8}   generate_digits.py --num_digits 10, seconds: median (slowest)")
    for name in NAMES:
        file = folder / f"{name}.onnx"
        if not file.is_file():
            continue
        kind = "classifier" if name.startswith("classifier") else "generator"
        opening, = take_turns([partial(open_session, file, kind, threads)], rounds)
        line = f"{name:16} {1e3 * opening:8.1f}"
        if kind == "generator":
            walls = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as out:
                    started = time.perf_counter()
                    subprocess.run([sys.executable, ROOT / "generate_digits.py", "--generator", file, "--num_digits",
                                    "10", "--out", out], check=True, stdout=subprocess.DEVNULL)
                    walls.append(time.perf_counter() - started)
            line += f"   {statistics.median(walls):.2f} ({max(walls):.2f})"
        print(line, flush=True)


def int8(folder, threads, rounds):
    """Size, test accuracy and milliseconds of the classifier in fp32 and in int8, both exported here."""
    checkpoint = models.load(folder / "classifier.pth", "classifier")
    glyphs = data.load(checkpoint.info["dataset"])
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: Path(scratch, f"{name}.onnx") for name in ("fp32", "int8")}
        export(checkpoint, files["fp32"])
        quantize_int8(checkpoint, files["int8"], glyphs)
        sessions = [open_session(file, "classifier", threads)[0] for file in files.values()]
        times = []
        for batch in BATCHES:
            arrays = {"image": glyphs.x_test[:batch]}
            times.append(take_turns([partial(s.run, None, arrays) for s in sessions], rounds))
        print(f"{'classifier':10} {'bytes':>9} {'test %':>7}  ms at batch {', '.join(map(str, BATCHES))}")
        for i, (name, file) in enumerate(files.items()):
            share = 100 * accuracy(file, glyphs.x_test, glyphs.y_test)
            print(f"{name:10} {file.stat().st_size:9,} {share:7.2f}  " + "  ".join(f"{1e3 * t[i]:9.3f}" for t in times))


TABLES = {"speed": speed, "start": start, "int8": int8}


def main(argv=None):
    parser = Parser(__doc__.split("\n")[0])
    parser.add_argument("--models", default=str(ROOT / "saved_models"), help="the folder of the files")
    parser.add_argument("--only", type=names_from(TABLES), default=list(TABLES), help=f"some of {','.join(TABLES)}")
    parser.add_argument("--threads", type=number(int, above=0), default=2, help="of onnxruntime and of torch")
    parser.add_argument("--rounds", type=number(int, above=0), default=9, help="turns of each candidate")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(f"{args.threads} threads, medians of {args.rounds} rounds, torch {torch.__version__}\n")
    for name in args.only:
        TABLES[name](Path(args.models), args.threads, args.rounds)
        print()


if __name__ == "__main__":
    run_command(main)
