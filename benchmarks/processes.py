"""One training in several processes (training/distributed.py): how fast, and whether its losses are those of one process.

    python benchmarks/processes.py                           # images/s of 1 and 2 processes, three times in turn
    python benchmarks/processes.py --cpu-time                # images per second of a process's own time, on a busy machine
    python benchmarks/processes.py --losses                  # how far the losses of 200 steps lie apart
    python benchmarks/processes.py --losses --double         # the same in float64

Steps are train.py's, on drawn digits, one thread a process; the processes are forked from this one, as torchrun would
start them. With --losses two threads in one process, which round in another order, too, are the yardstick. With --double
there is little to round: the exit status is 1 where several processes differ from one by more than 1e-6 of a loss.
"""
import math
import multiprocessing
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data
import train
from datasets import strokes
from training import distributed
from training.run import TRAINERS, Batches
from training.trainer import learning_rate
from utils.cli import Parser, names_from, number, run_command

CPU, FORK = torch.device("cpu"), multiprocessing.get_context("fork")
STORES = []
clock = time.perf_counter
WARM = 5                   # steps that are not timed
MARKS = (1, 10, 50, 100, 200, 500, 1000)


def parse_args(argv=None):
    parser, count = Parser("Compare a training in one process with one in several."), number(int, above=0, at_most=10_000)
    add = parser.add_argument
    add("--models", type=names_from(TRAINERS), default=["cgan", "cvae", "classifier"], help="some of " + ",".join(TRAINERS))
    add("--processes", type=count, default=2, help="compared with one")
    add("--batch", type=count, default=train.BATCH, help="images per step, of all processes together")
    add("--images", type=count, default=1000, help="of the data set")
    add("--steps", type=count, default=None, help="of a training (default: 200 for losses; for the speed, 40)")
    add("--cpu-time", action="store_true", help="count the time that a process computes, not what it waits")
    add("--losses", action="store_true", help="compare these in place of the speed")
    add("--double", action="store_true", help="in float64")
    return parser.parse_args(argv)


# ---- several processes ---------------------------------------------------------------------------

def fork(size, function):
    """Start function(rank) in `size` processes that are told of each other as torchrun would tell them; -> the processes."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(store)                       # it stays as long as this process

    def begin(rank):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
                       "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port),
                       "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        function(rank)
    children = [FORK.Process(target=begin, args=(rank,)) for rank in range(size)]
    for child in children:
        child.start()
    return children


def statuses(children):
    """Wait for processes; -> their exit statuses, negative for a signal."""
    for child in children:
        child.join()
    return [child.exitcode for child in children]


def trained(size, *arguments):
    """What take_steps(*arguments) gives in the first of `size` processes."""
    if size == 1:
        return take_steps(*arguments)
    results = FORK.SimpleQueue()

    def one(rank):
        with distributed.joined():
            result = take_steps(*arguments)
            if rank == 0:
                results.put(result)
    if any(statuses(fork(size, one))):
        raise SystemExit(1)
    return results.get()


def take_steps(glyphs, model, steps, batch, first=0):
    """Train as train.py does, from the `first` step on, with fresh weights. -> ([{name: loss}] of each step, images per second)"""
    torch.manual_seed(0)
    kind = TRAINERS[model]
    settings = kind.Settings(**({"diffaugment": 2, "backbone": False} if kind.makes_images else {}))     # its file is in float32
    trainer, batches = kind(settings, len(glyphs.classes), CPU), Batches(glyphs, 0, batch, 0.0, CPU)
    batches.thickness = batches.thickness.to(torch.get_default_dtype())
    distributed.synchronise(trainer)
    rows = []
    for step in range(first, steps):
        if step == first + WARM:
            began = clock()
        batches.refit_prior(trainer, step)
        lr = learning_rate(step, steps, settings.lr, settings.warm_up, settings.final_lr)
        losses = train.train_step(trainer, batches.batch(step, steps), lr)
        rows.append({name: float(value) for name, value in losses.items()})
    return rows, (steps - first - WARM) * batches.size / (clock() - began)


def use_double():
    """float64 in place of float32, from here on."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double               # models.py asks for float32 by this name


# ---- the comparisons -----------------------------------------------------------------------------

def compare_losses(args, glyphs):
    """Print how far the losses lie apart. -> the largest difference between one process and several"""
    marks = [n for n in MARKS if n < args.steps] + [args.steps]
    print("largest difference from one process, relative to the loss, in so many steps")
    print(f"| model | compared | {' | '.join(map(str, marks))} |\n|---|---|{'---:|' * len(marks)}", flush=True)
    worst = 0.0
    for model in args.models:
        words = glyphs, model, args.steps, args.batch
        (one, _), (several, _) = trained(1, *words), trained(args.processes, *words)
        worst = max(worst, *(gaps := differences(one, several)))
        print(table_row(model, f"{args.processes} processes", gaps, marks), flush=True)
        if args.double:                        # no yardstick is needed
            continue
        torch.set_num_threads(2)
        gaps = differences(one, trained(1, *words)[0])
        torch.set_num_threads(1)
        print(table_row(model, "2 threads", gaps, marks), flush=True)
    return worst


def differences(rows, others):
    """[the largest relative difference of a loss so far] for every step; inf where it is no number."""
    gaps = [max(abs(a[name] - b[name]) / abs(a[name]) for name in a) for a, b in zip(rows, others, strict=True)]
    gaps = [gap if math.isfinite(gap) else math.inf for gap in gaps]
    return [max(gaps[:n]) for n in range(1, len(gaps) + 1)]


def table_row(model, what, gaps, marks):
    return f"| {model} | {what} | {' | '.join(f'{gaps[n - 1]:.0e}' for n in marks)} |"


def compare_speed(args, glyphs):
    """Print the images per second of one process and of several, in turn."""
    print(f"| model, batches of {args.batch} | 1 process, images/s | {args.processes} processes | ratio |\n|---|---:|---:|---:|")
    for model in args.models:
        words = glyphs, model, args.steps, args.batch
        speeds = [[trained(size, *words)[1] for size in (1, args.processes)] for _ in range(3)]
        one, several = (" ".join(f"{s:,.0f}" for s in column) for column in zip(*speeds))
        ratios = " ".join(f"{b / a:.2f}" for a, b in speeds)
        print(f"| {model} | {one} | {several} | {ratios} |", flush=True)


def main(argv=None):
    global clock
    args = parse_args(argv)
    clock = time.process_time if args.cpu_time else clock
    args.steps = args.steps or (200 if args.losses else 40)
    torch.set_num_threads(1)                   # a process that has threads is not to be forked
    torch.set_flush_denormal(True)
    x, y = strokes.generate(args.images, seed=5)
    glyphs = data.Glyphs("drawn", list("0123456789"), x, y, *[x[:0], y[:0]] * 2, "strokes", "MIT", True)
    if args.double:
        use_double()
    if not args.losses:
        compare_speed(args, glyphs)
    elif compare_losses(args, glyphs) > 1e-6 and args.double:
        raise SystemExit(1)


if __name__ == "__main__":
    run_command(main)
