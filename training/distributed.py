"""Several processes that train one model on one data set, as torchrun starts them; without torchrun nothing happens here.

    torchrun --nproc-per-node 2 train.py --model classifier

Every process takes its part of the images of a step and, of what is drawn at random for the whole batch, the numbers of
these images; gradients, losses and the statistics of batch norm are averaged. So all hold the same weights after each
step, those that one process has but for rounding. Rank 0 leads: it alone writes, speaks, draws, measures and decides.

A process that fails ends all of them: the first on each machine that knows why says it in one line, the others are silent.
"""
import contextlib
import os
import signal
import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from utils.cli import Terminated
from utils.files import UserError

JOIN_SECONDS = 120         # for all processes to have started
WAIT_SECONDS = 600         # for the slowest in one step; the leader saves and draws, the others wait for it
STOP_SECONDS = 2           # for all processes of a machine to hear that they are to stop
rank, size = 0, 1          # which of how many processes this is
leads = True               # whether it is rank 0
store = None               # in which all can leave a word

LOST = ("another process of this run has died or hangs (torchrun says which): start them anew, with --resume where "
        "something was saved; their number may change")


# ---- begin and end -------------------------------------------------------------------------------

@contextlib.contextmanager
def joined():
    """All processes that torchrun has started are together in this block; without torchrun it does nothing.

    A UserError, OSError or signal in one of them ends all: the first of a machine passes it on to utils.cli.run_command,
    which says it; the others leave with the same exit status, in silence."""
    global rank, size, leads
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ["WORLD_SIZE"] == "1":
        yield
        return
    rank, size, leads = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), os.environ["RANK"] == "0"
    with contextlib.ExitStack() as stack:
        if not leads:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w", encoding="ascii"))))
        try:
            join()
            yield
            share(None)                                    # nobody leaves before the leader has written everything
            dist.destroy_process_group()
        except (UserError, OSError, KeyboardInterrupt) as e:
            leave(e)


def join():
    """Meet the other processes. Raises UserError where one does not come."""
    global store
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=JOIN_SECONDS)))
        if absent := leave_word("here", rank, size, JOIN_SECONDS):
            raise UserError(f"rank {', '.join(map(str, absent))} of {size} has not come within {JOIN_SECONDS} s: does it run, "
                            "and does the network let it through?")
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", store=store, rank=rank,
                                world_size=size, timeout=timedelta(seconds=WAIT_SECONDS))
    except RuntimeError as e:
        raise UserError(f"the {size} processes could not meet within {JOIN_SECONDS} s: start all machines with the same "
                        f"rendezvous; does the network let them through? ({str(e).splitlines()[0][:100]})") from e


def leave_word(word, own, many, seconds):
    """Say that this process, the `own`-th of `many`, is so far, and wait for the others; -> those that are not in time."""
    store.set(f"{word}/{own}", "")
    until, absent = time.monotonic() + seconds, range(many)
    while (absent := [other for other in absent if not store.check([f"{word}/{other}"])]) and time.monotonic() < until:
        time.sleep(0.02)
    return absent


def check_others(stop):
    """Raises UserError where a signal, caught as the KeyboardInterrupt `stop`, has come to this process because another of
    its machine has died, and not to all of them. None is listened to from here on."""
    if size == 1:
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if not isinstance(stop, Terminated):                   # torchrun ends with SIGTERM those that are left
        return
    if dist.is_initialized():
        dist.destroy_process_group()                       # who waits for this process is set free, to hear its own signal
    with contextlib.suppress(RuntimeError, AttributeError):            # the store has gone with its owner, or never was
        if leave_word(f"stopped/{os.environ['GROUP_RANK']}", int(os.environ["LOCAL_RANK"]),
                      int(os.environ["LOCAL_WORLD_SIZE"]), STOP_SECONDS):
            raise UserError(LOST)


def leave(error):
    """Raise `error` where this process is the one to speak of it, else SystemExit with its status."""
    try:
        check_others(error)
    except UserError as e:
        error = e
    if isinstance(error, KeyboardInterrupt):
        if leads:
            raise error
        sys.exit(143 if isinstance(error, Terminated) else 130)
    with contextlib.suppress(RuntimeError, AttributeError):
        if store.add(f"said/{os.environ['GROUP_RANK']}", 1) > 1:
            sys.exit(2)
    raise error


# ---- words ---------------------------------------------------------------------------------------

@contextlib.contextmanager
def together():
    """What all processes do at once: where one is missing, a UserError comes of it."""
    try:
        yield
    except RuntimeError as e:
        raise UserError(LOST) from e


def share(value):
    """The leader's value in all processes; anything that pickle takes."""
    if size == 1:
        return value
    values = [value if leads else None]
    with together():
        dist.broadcast_object_list(values)
    return values[0]


def ask_leader(function, *arguments):
    """What function(*arguments) gives to the leader, in all processes; the others do not call it."""
    return share(function(*arguments) if leads else None)


def check_alike(**things):
    """Raises UserError in all processes where one has another value of something than the leader."""
    if size == 1:
        return
    all_things = [None] * size
    with together():
        dist.all_gather_object(all_things, things)
    for other, theirs in enumerate(all_things):
        for name in things:
            ours, theirs_shown = (str(them.get(name))[:80] for them in (all_things[0], theirs))
            if theirs.get(name) != all_things[0].get(name):
                raise UserError(f"ranks 0 and {other} differ in {name}: {ours} and {theirs_shown}; all processes need the same "
                                "command and the same data")


def take_gpu(device):
    """Where `device`, a torch.device, is "cuda": that is one of its own in each process of a machine from here on. Raises
    UserError where there are too few."""
    if size > 1 and device.type == "cuda":
        here, there_are = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if here >= there_are:
            raise UserError(f"this machine has {there_are} GPUs: start at most as many processes, or use --device cpu")
        torch.cuda.set_device(here)


def check_parts(batch):
    """Raises UserError where a batch of so many images cannot be shared out evenly."""
    if batch % size:
        raise UserError(f"a batch of {batch:,} images cannot be shared out evenly among {size:,} processes: choose a --batch "
                        "that their number divides, at most as many as there are training images")


# ---- tensors -------------------------------------------------------------------------------------

def part(images):
    """Of the images of a batch, along the first dimension, those of this process."""
    own = len(images) // size
    return images[rank * own:(rank + 1) * own]


def draw(random, shape, dim=0, **how):
    """random(shape, **how), as torch.randn(shape, generator=rng), for the images of this process, which lie along `dim`:
    it is drawn for the whole batch, from a generator that all processes have alike, and the part of these images taken."""
    if size == 1:
        return random(shape, **how)
    shape = list(shape)
    own = shape[dim]
    shape[dim] *= size
    return random(shape, **how).narrow(dim, rank * own, own)


def average(tensors):
    """Put the means over all processes in the place of float tensors; in one message."""
    if size == 1:
        return
    flat = torch.cat([t.flatten() for t in tensors])
    with together():
        dist.all_reduce(flat)
    flat /= size
    for t, mean in zip(tensors, flat.split([t.numel() for t in tensors])):
        t.copy_(mean.view_as(t))


def average_gradients(optimizer):
    """To be called between backward() and step(): the loss of a batch is the mean of those of its parts."""
    if size > 1:
        average([p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None])


@torch.no_grad()
def average_losses(losses):
    """{name: tensor of no dimension}, of the whole batch."""
    if size == 1 or not losses:
        return losses
    means = torch.stack([value.float() for value in losses.values()])
    average([means])
    return dict(zip(losses, means))


def synchronise(trainer):
    """Give a Trainer the leader's weights, and a batch norm that counts the images of all processes."""
    if size == 1:
        return
    for network in trainer.networks.values():
        for module in network.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = BatchNorm               # the same parameters, names and buffers
    share_weights(trainer)


@torch.no_grad()
def share_weights(trainer):
    """Give all processes the leader's weights and buffers."""
    if size == 1:
        return
    for network in trainer.networks.values():
        for value in network.state_dict().values():
            message = value.contiguous()                   # as it is not with channels last
            with together():
                dist.broadcast(message, 0)
            value.copy_(message)


class BatchNorm(nn.BatchNorm2d):
    """Batch norm by the mean and variance of the images of all processes. (torch.nn.SyncBatchNorm is for GPUs alone.)"""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        y, mean, var = Normalize.apply(x, self.weight, self.bias, self.eps)
        n = x.numel() // x.shape[1] * size
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (n / (n - 1)), self.momentum)
        return y


class Normalize(torch.autograd.Function):
    """x [N, C, H, W] -> normalized x, and the mean and variance, both [C], of the parts of all processes, equally large."""

    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        statistics = torch.stack(torch.batch_norm_update_stats(x.float(), None, None, 0.0))       # mean, variance: [2, C]
        parts = [torch.empty_like(statistics) for _ in range(size)]
        with together():
            dist.all_gather(parts, statistics)
        means, variances = torch.stack(parts, 1)                                                  # [size, C] each
        mean, var = means.mean(0), variances.mean(0) + means.var(0, correction=0)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return nn.functional.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var

    @staticmethod
    def backward(ctx, dy, _mean, _var):
        """The gradient at fixed mean and variance, to which is added what goes through them (Ioffe and Szegedy 2015)."""
        x, weight, mean, var = ctx.saved_tensors
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, None, None, False, ctx.eps, [True, True, True])
        sums = torch.stack([dweight, dbias])               # over this process's images of dy * normalized x, and of dy
        with together():
            dist.all_reduce(sums)
        n = x.numel() // x.shape[1] * size
        slope = (var + ctx.eps).rsqrt()
        by_x = -weight * slope ** 2 * sums[0] / n
        constant = -weight * slope * sums[1] / n - mean * by_x
        dx = torch.addcmul(dx.float(), x.float(), by_x.view(-1, 1, 1)).add_(constant.view(-1, 1, 1)).to(dx.dtype)
        return dx, dweight, dbias, None
