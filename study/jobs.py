"""The trainings of a study: one after the other, or in several processes of one thread each, on one machine or on more.

    class MyStudy(RowStudy):                     # see there: what a job is, its key, how it is run
        ...
    rows = run(MyStudy(context, cache), jobs)    # a row for each job; what was finished before is not run again

With context.jobs == 0 the jobs run here, each on as many threads as are fastest. Else so many workers share them: each
takes the next job that nobody has begun (claims.py) and writes its row into a file of its own (run_cache.py), so that
workers of other machines that were given the same folder share the work, too. Whatever a job's result depends on is
made from its key, in one thread: rows do not depend on the number of workers, nor on who did which.
"""
import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from study.claims import Claims, clear
from utils.files import UserError

POLL = 1.0                 # seconds between two looks at what others have done
PATIENCE = 10.0            # seconds that a worker has to end when it is asked to
MOST_DEATHS = 5            # workers killed from outside, after which something must be wrong
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")       # of torch, numpy and onnxruntime


class RowStudy:
    """A study whose result is a row for each job, a tuple of plain values. A subclass defines key() and run_one().

    It is pickled as its class, context and options, and made anew from them in a worker: what __init__ makes must
    follow from these, and the options must be what __init__ takes beside the context."""

    def __init__(self, context, cache, **options):
        self.context, self.cache, self.options = context, cache, options

    def __reduce__(self):
        return partial(type(self), **self.options), (replace(self.context, say=say_nothing, is_alone=is_not_alone),)

    def begin(self):
        """Called in a worker before its first job."""
        import torch  # here: this module needs none
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)

    def key(self, *job):
        """What makes the result of a job: the key of its row in the cache, a dict of JSON types."""
        raise NotImplementedError

    def run_one(self, *job):
        """Do a job; returns its row, as cache.add() gives it."""
        raise NotImplementedError

    def is_ready(self, *job):
        """Whether the rows that a job builds on are in the cache."""
        return True

    def group(self, *job):
        """Jobs of one group share what is slow to make, a generator for example: one worker does them where it can."""
        return job

    def describe(self, row):
        """A row as a line of progress."""
        return f"{row}"


def say_nothing(*words):
    """The `say` of a worker: the process that has started it tells what is done."""


def is_not_alone():
    return False


def missing(study, jobs):
    """Those of the jobs that have no row yet."""
    return [job for job in jobs if study.cache.get(study.key(*job)) is None]


def run(study, jobs):
    """Do what is not yet done; returns the rows of all jobs, in their order."""
    left = missing(study, jobs)
    if left and study.context.jobs:
        run_parallel(study, left)
    else:
        for done, job in enumerate(left, 1):
            study.context.say(study.describe(study.run_one(*job)), done, len(left))
    if study.context.is_alone():
        study.cache.merge()
        clear(study.cache.folder)
    return [study.cache.get(study.key(*job)) for job in jobs]


# ---- the process that was called -----------------------------------------------------------------

def run_parallel(study, jobs):
    """Do the jobs in workers, and wait for those that other machines have begun. Raises UserError where a job does, or
    where worker after worker is killed. However this process ends, its workers end, too."""
    say, deaths, workers = study.context.say, 0, {}
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "study.pickle"
        recipe.write_bytes(pickle.dumps((study, jobs), protocol=5))
        try:
            while left := missing(study, jobs):
                while len(workers) < min(study.context.jobs, len(left)):
                    process, receiver = start_worker(recipe)
                    workers[process] = receiver
                wait([process.sentinel for process in workers], POLL)
                ended = [process for process in workers if not process.is_alive()]
                if rows := study.cache.refresh():
                    say(study.describe(rows[-1]), len(jobs) - len(missing(study, jobs)), len(jobs))
                for process in ended:
                    deaths += was_killed(process, workers.pop(process))
                    if deaths > MOST_DEATHS:
                        raise UserError(f"{deaths} workers were killed, perhaps for want of memory: try fewer --jobs; "
                                        "finished rows are kept")
        finally:
            stop(workers)


def start_worker(recipe):
    """-> a process that works through the pickled study and its jobs, and the end of a pipe for what it dies of."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=work, args=(recipe, sender), daemon=True)
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))       # libraries look at it when they are loaded
    try:
        with interrupts_ignored():
            process.start()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        sender.close()
    return process, receiver


@contextlib.contextmanager
def interrupts_ignored():
    """A process that is started meanwhile ignores Ctrl-C from the first: whoever has started it will stop it."""
    if threading.current_thread() is not threading.main_thread():
        yield                                            # Python lets no other thread set handlers
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def was_killed(process, receiver):
    """Whether a worker that has ended was killed from outside. Raises UserError for its own errors."""
    with receiver, contextlib.suppress(EOFError):
        raise UserError(receiver.recv())
    if process.exitcode == 1:
        raise UserError("a worker failed: what it says above is a fault of this program; finished rows are kept")
    return process.exitcode != 0


def stop(workers):
    """End the workers; their claims go with them."""
    for process in workers:
        process.terminate()
    deadline = time.monotonic() + PATIENCE
    for process in workers:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


# ---- a worker ------------------------------------------------------------------------------------

def work(recipe, sender):
    """A worker: do what nobody has begun until nothing is left."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))        # and give the claims back
    threading.Thread(target=end_with_parent, daemon=True).start()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        study, jobs = pickle.loads(recipe.read_bytes())
        study.begin()
        study.cache.shared = True
        with Claims(study.cache.folder) as claims:
            work_through(study, jobs, claims)
    except (UserError, OSError) as e:
        sender.send(str(e))


def end_with_parent():
    """A worker whose parent was killed ends, too."""
    multiprocessing.parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def work_through(study, jobs, claims):
    """Do the jobs that nobody else does; returns when all have a row, whoever has done them."""
    group = None                                         # of the last job that was done here
    while left := missing(study, jobs):
        names, others = {job: study.cache.digest(study.key(*job)) for job in left}, claims.others()
        for job in in_order(study, left, {job for job in left if names[job] in others}, group):
            if claims.take(names[job]):
                try:
                    study.cache.refresh()                # it may have been done since the last look
                    if study.cache.get(study.key(*job)) is None:
                        study.run_one(*job)
                finally:
                    claims.release(names[job])
                group = study.group(*job)
                break
        else:
            time.sleep(POLL)
        study.cache.refresh()


def in_order(study, left, taken, group):
    """The jobs that a worker may begin, in the order in which it should: those of its own group; of groups that nobody
    is at; of the other workers' groups, where these will come last."""
    free = [job for job in left if job not in taken and study.is_ready(*job)]
    busy = {study.group(*job) for job in taken} - {group}
    mine = [job for job in free if study.group(*job) == group]
    others = [job for job in free if study.group(*job) in busy]
    return mine + [job for job in free if job not in mine and job not in others] + others[::-1]
