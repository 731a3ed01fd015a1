"""Kills trainings at random moments, resumes each, and compares the weights with those of a run that was never killed.

    python benchmarks/kill.py                                 # 50 kills over all models, about two minutes
    python benchmarks/kill.py --kills 3 --models cgan,cvae,classifier --seed 1

Every other kill comes at a random moment of the run; the rest at a random one of its file operations, just before a file
is opened, renamed or removed, as these moments are the dangerous ones and short. Three in four are SIGKILL, the others
SIGTERM and SIGINT (Ctrl-C). A run that left a state goes on with --resume, another begins anew. Exit status 1 where the
weights of one differ in a bit, or where its folder holds another set of files in the end than it should.

Runs are processes forked from this one, so that torch is imported once; they are small (160 strokes, a few dozen steps,
a state saved several times a second) and otherwise what train.py does. The ONNX export, three quarters of such a run, is
left out unless --onnx asks for it: zeros are written in its place.
"""
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import export_onnx
import train
from datasets import strokes
from training import preview
from training.gan import ConditionalGAN, GANSettings
from training.run import TRAINERS
from utils.cli import Parser, Progress, names_from, number, run_command
from utils.files import UserError, atomic

SIGNALS = [signal.SIGKILL] * 6 + [signal.SIGTERM, signal.SIGINT]
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}     # sys.audit names them before they happen
PATIENCE = 300                                 # seconds after which a run hangs


def parse_args(argv=None):
    parser = Parser("Kill trainings at random moments, resume them, compare the weights.")
    add = parser.add_argument
    add("--kills", type=number(int, above=0), default=50, help="how many, shared out among the models")
    add("--models", type=names_from(TRAINERS), default=list(TRAINERS), help="some of " + ",".join(TRAINERS))
    add("--epochs", type=number(int, above=0), default=6, help="of a run, of 5 steps each")
    add("--seed", type=number(int, at_least=0), default=0, help="of the moments")
    add("--onnx", action="store_true", help="with the export to ONNX")
    return parser.parse_args(argv)


# ---- one run, in a process of its own ------------------------------------------------------------

class Child:
    """A run of train.py in a forked process. `kill_at`: (n, signal number) for a signal at the n-th file operation in
    `folder`; their number is in `operations` when it has ended."""

    def __init__(self, words, folder, kill_at=None):
        fork = multiprocessing.get_context("fork")
        self.counter = fork.Value("q", 0, lock=False)
        self.process = fork.Process(target=self._run, args=([str(word) for word in words], str(folder), kill_at),
                                    daemon=True)
        self.process.start()

    def _run(self, words, folder, kill_at):
        def audit(event, arguments):
            if event in FILE_EVENTS and str(arguments[0]).startswith(folder):
                self.counter.value += 1
                if kill_at and self.counter.value == kill_at[0]:
                    os.kill(os.getpid(), kill_at[1])
        with open(f"{folder}.txt", "a", encoding="utf-8") as text:
            os.dup2(text.fileno(), 1)
            os.dup2(text.fileno(), 2)
        sys.addaudithook(audit)
        signal.signal(signal.SIGINT, signal.default_int_handler)       # a background job would ignore it
        run_command(lambda: train.main(words))

    @property
    def operations(self):
        return self.counter.value

    def wait(self, seconds=PATIENCE):
        """The exit status, negative for a signal; None where it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def end(self):
        """Wait, and end it where it hangs; the exit status."""
        status = self.wait()
        if status is None:
            self.process.kill()
            self.process.join()
            return "hung"
        return status


class Model:
    """How one model is trained here, and what its run leaves when nobody kills it."""

    def __init__(self, name, data_file, root, epochs):
        self.name, self.root = name, root
        self.words = ["--model", name, "--dataset", data_file, "--epochs", epochs, "--batch", 32, "--save-every", 0.2,
                      "--device", "cpu", "--snapshots"]
        folder, started = root / name / "whole", time.monotonic()
        child = Child([*self.words, "--out", make(folder)], folder)
        if child.end():
            raise UserError(f"{name}: the run that nobody kills failed, see {folder}.txt")
        self.seconds, self.operations = time.monotonic() - started, child.operations
        self.files, self.weights = files_of(folder), weights_of(folder)

    def kill(self, number, rng):
        """Kill a run at a random moment; (its folder, signal, moment as text, exit status or "hung")."""
        for attempt in range(20):
            sent, folder = SIGNALS[rng.integers(len(SIGNALS))], self.root / self.name / f"{number}-{attempt}"
            if number % 2:
                n = int(rng.integers(1, self.operations + 1))
                moment = f"file operation {n} of {self.operations}"
                status = Child([*self.words, "--out", make(folder)], folder, (n, sent)).end()
            else:
                seconds = rng.uniform(0, self.seconds)
                moment, child = f"{seconds:.2f} of {self.seconds:.2f} s", Child([*self.words, "--out", make(folder)], folder)
                if child.wait(seconds) is None:
                    os.kill(child.process.pid, sent)
                status = child.end()
            if status:                                   # else it was faster than the kill: once more
                return folder, sent, moment, status
        raise UserError(f"{self.name}: its runs end before they can be killed")

    def resume(self, folder):
        """Go on until the run has ended. -> what is wrong then, "" for nothing"""
        how = ["--model", self.name, "--resume"] if list(folder.glob("*.resume.pth")) else self.words
        status = Child([*how, "--out", folder], folder).end()
        if status:
            return f"status {status} on the way on, see {folder}.txt"
        left, lost = files_of(folder) - self.files, self.files - files_of(folder)
        weights = weights_of(folder)
        differ = [file for file in weights.keys() & self.weights.keys()
                  if not all(torch.equal(value, weights[file][key]) for key, value in self.weights[file].items())]
        return "; ".join(f"{what} {', '.join(sorted(names))}" for what, names in
                         (("left", left), ("lost", lost), ("differ:", differ)) if names)


def make(folder):
    folder.mkdir(parents=True)
    return folder


def files_of(folder):
    """The names of all files below a folder: a set."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def weights_of(folder):
    """{file: {name: tensor}} of all checkpoints below a folder."""
    return {path.relative_to(folder).as_posix(): torch.load(path, weights_only=True)["weights"]
            for path in folder.rglob("*.pth")}


# ---- all of them ---------------------------------------------------------------------------------

def make_small(onnx):
    """Set what has no option so that runs are small and save often."""
    torch.set_num_threads(1)                   # a process that has threads is not to be forked
    ConditionalGAN(GANSettings(), 10, "cpu")   # what torch imports late is imported before the forks
    train.LOG_SECONDS, train.MEASURED, preview.FRAMES = 0.0, 500, 3
    if not onnx:
        export_onnx.export, export_onnx.accuracy = write_in_its_place, lambda *arguments: 0.0


def write_in_its_place(checkpoint, path):
    with atomic(path) as tmp:
        tmp.write_bytes(bytes(500_000))
    return {}


def write_data(path):
    x, y = strokes.generate(240, seed=5)
    np.savez(path, x_train=x[:180], y_train=y[:180], x_test=x[180:], y_test=y[180:])
    return path


def main(argv=None):
    args, say, started = parse_args(argv), Progress(), time.monotonic()
    make_small(args.onnx)
    rng, rows = np.random.default_rng(args.seed), {}
    root = Path(tempfile.mkdtemp(prefix="kill-"))
    data_file = write_data(root / "strokes.npz")
    for i in range(args.kills):
        name = args.models[i % len(args.models)]
        if name not in rows:
            rows[name] = (Model(name, data_file, root, args.epochs), [])
        model, results = rows[name]
        folder, sent, moment, status = model.kill(i // len(args.models), rng)
        fault = "hung" if status == "hung" else model.resume(folder)
        results.append((sent, fault))
        say(f"{i + 1}/{args.kills}  {name}  {sent.name} at {moment}: {fault or 'the same weights, nothing left'}")
    print(table(rows))
    print(f"{time.monotonic() - started:.0f} s")
    if any(fault for _, results in rows.values() for _, fault in results):
        print(f"the folders are in {root}")
        raise SystemExit(1)
    shutil.rmtree(root)


def table(rows):
    """The results as Markdown."""
    lines = ["| model | kills | SIGKILL | SIGTERM | SIGINT | the same weights, nothing left |", "|---|---:|---:|---:|---:|---:|"]
    everything = [("all", [r for _, results in rows.values() for r in results])]
    for name, results in [*((name, results) for name, (_, results) in rows.items()), *everything]:
        counts = [sum(sent == number for sent, _ in results) for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)]
        lines.append(f"| {name} | {len(results)} | {' | '.join(map(str, counts))} | {sum(not fault for _, fault in results)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
