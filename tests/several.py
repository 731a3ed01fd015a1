"""What test_several_processes.py looks at: trainings in several processes, in FOLDER, and FOLDER/seen.json. They are forked from
this process, which has no threads, so that torch is imported once.

    python tests/several.py FOLDER
"""
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import kill
import processes
from torch import nn

import train
from training import distributed
from utils.cli import run_command

WORDS = ["--model", "classifier-tiny", "--dataset", "small.npz", "--batch", "30", "--device", "cpu", "--epochs", "8",
         "--plain", "--save-every", "0.05", "--out"]


def begin(name, size, more=lambda rank: [], words=WORDS, missing=False, folder_of=lambda rank: "."):
    """Start train.py in `size` processes, each in folder_of(rank), `missing`: but for the last; -> the processes."""
    def run(rank):
        os.chdir(folder_of(rank))
        for stream in (1, 2):
            os.dup2(os.open(f"{ROOM}/{name}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if missing and rank == size - 1:
            return
        run_command(lambda: distributed.joined()(train.main)([*words, f"{ROOM}/{name}", *more(rank)]))
    return processes.fork(size, run)


def seen(name, children):
    """What the processes of begin() leave: exit statuses, lines of stdout and stderr, files."""
    status = processes.statuses(children)
    said, errors = (Path(f"{ROOM}/{name}.{stream}").read_text().splitlines() for stream in (1, 2))
    return {"status": status, "said": said, "errors": errors, "files": sorted(kill.files_of(Path(ROOM, name)))}


def signalled(name, sent, *ranks):
    """Two processes, of which some get a signal after something was saved."""
    children, state = begin(name, 2), Path(ROOM, name, "classifier-tiny.resume.pth")
    while not state.is_file() and children[0].is_alive():
        time.sleep(0.001)
    for rank in ranks:
        os.kill(children[rank].pid, sent)
    if sent == signal.SIGSTOP:                         # it hangs, until the other has noticed
        children[0].join()
        children[1].kill()
    return seen(name, children)


def normalize_parts():
    """Batch norm of three processes and of one -> the largest differences of what they give."""
    rng = torch.Generator().manual_seed(0)
    x, dy = (3 + torch.randn(6, 4, 5, 5, generator=rng).contiguous(memory_format=torch.channels_last) for _ in range(2))
    weight = torch.rand(4, generator=rng)

    def results(norm):
        own = distributed.part(x).clone().requires_grad_()
        norm.weight.data.copy_(weight)
        y = norm(own)
        y.backward(distributed.part(dy))
        gradients = [norm.weight.grad, norm.bias.grad]
        distributed.average(gradients)
        return [*(t.detach() for t in (y, own.grad)), *(g * distributed.size for g in gradients), norm.running_mean,
                norm.running_var, norm.num_batches_tracked, *norm.eval()(own).detach()[None]]
    queue = processes.FORK.SimpleQueue()

    def one_of_three(rank):
        with distributed.joined():
            norm = nn.BatchNorm2d(4)
            norm.__class__ = distributed.BatchNorm
            mine, gathered = results(norm), [None] * 3
            distributed.dist.all_gather_object(gathered, mine)
            if rank == 0:
                queue.put([[t.numpy() for t in parts] for parts in gathered])
    children, whole = processes.fork(3, one_of_three), results(nn.BatchNorm2d(4))
    parts = queue.get()
    assert processes.statuses(children) == [0, 0, 0]
    by_image = {0, 1, 7}                               # the rest is the same in all processes
    return [float(max(np.abs(t.numpy() - (np.concatenate([p[i] for p in parts]) if i in by_image else p[i])).max()
                      for p in parts)) for i, t in enumerate(whole)]


def compare_losses():
    """In float64: {model: the largest relative difference of a loss between one process and two}."""
    processes.use_double()
    x, y = kill.strokes.generate(60, seed=5)
    glyphs = processes.data.Glyphs("drawn", list("0123456789"), x, y, *[x[:0], y[:0]] * 2, "strokes", "MIT", True)
    gaps = {}
    for model, *steps in (("cgan", 10), ("acgan", 6), ("cvae", 110, 94), ("classifier-tiny", 100),
                          ("classifier-adversarial", 6)):
        one, two = (processes.trained(size, glyphs, model, steps[0], 2, *steps[1:])[0] for size in (1, 2))
        gaps[model] = processes.differences(one, two)[-1]
    return gaps


def main():
    kill.make_small(onnx=False)
    train.WARM_STEPS, train.PLAN_STEPS = 2, 4
    torch.set_flush_denormal(True)
    os.chdir(ROOM)
    for folder in (".", "elsewhere"):
        os.makedirs(folder, exist_ok=True)
        kill.write_data(Path(folder, "small.npz"))
    with np.load("small.npz") as z:
        np.savez("elsewhere/small.npz", **{**z, "x_train": z["x_train"][::-1]})
    both = ["--dataset", "small.npz", "--batch", "30", "--device", "cpu", "--precision", "fp32", "--epochs", "2", "--snapshots",
            "--out"]
    result = {"one": seen("one", begin("one", 1, words=both)), "two": seen("two", begin("two", 2, words=both)),
              "killed": signalled("killed", signal.SIGKILL, 1), "killed leader": signalled("leader", signal.SIGKILL, 0),
              "stopped": signalled("stopped", signal.SIGTERM, 0, 1)}
    shutil.copytree("killed", "resumed")
    result["resumed"] = seen("resumed", begin("resumed", 3, lambda rank: ["--resume"], ["--model", "classifier-tiny", "--out"]))
    result |= {
        "uneven": seen("uneven", begin("uneven", 2, lambda rank: ["--batch", "33"])),
        "too many": seen("many", begin("many", 3, lambda rank: ["--batch", "2"])),
        "data": seen("data", begin("data", 2, folder_of=lambda rank: ("elsewhere", ".")[rank])),
        "settings": seen("settings", begin("settings", 2, lambda rank: ["--lr", f"0.0{rank + 1}"])),
        "mistake": seen("mistake", begin("mistake", 2, lambda rank: ["--lr", "0"])),
        "one mistake": seen("nowhere", begin("nowhere", 2, lambda rank: ["--dataset", "nowhere"][:2 * rank]))}
    clock = [word for word in WORDS if word not in ("--epochs", "8")]
    result |= {"minutes": seen("minutes", begin("minutes", 2, lambda rank: ["--minutes", "0.015"], clock)),
               "nan": seen("nan", begin("nan", 2, lambda rank: ["--lr", "1e30", "--save-every", "99"]))}
    distributed.JOIN_SECONDS, distributed.WAIT_SECONDS = 1, 2
    result["hung"] = signalled("hung", signal.SIGSTOP, 1)
    result["missing"] = seen("missing", begin("missing", 2, missing=True))
    distributed.WAIT_SECONDS = 600
    result |= {"batch norm": normalize_parts(), "gaps": compare_losses()}
    Path("seen.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    ROOM = str(Path(sys.argv[1]).resolve())
    main()
