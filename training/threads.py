"""How many threads a training step takes: as many as are fastest, measured while the run goes on.

PyTorch shares every operation among its threads and waits for the slowest. On an idle machine that pays; as soon as
another process computes, some thread waits for its turn hundreds of times a step: two threads on two cores then take 2
to 50 times as long as one.
"""
import os
import time

import torch

WINDOW = 16                    # steps of one measurement: a gradient penalty comes once in so many (gan.PENALTY_EVERY)
SLOWER = 1.5                   # times as long a step as when the number was chosen: measure anew
HOPELESS = 1.5                 # times as long as before, over three steps or more: the trial has lost
RETRY, MAX_RETRY = 2.0, 60.0   # seconds until more threads are tried again; doubled each time that they lose
FREE = 0.6                     # of the cores that more threads would take, idle before that
MOST = torch.get_num_threads()


class ThreadTuner:
    """Sets the number of threads by the seconds that steps take: `tuner.add(seconds)` or `tuner.tick()` after each. As a
    context manager it gives the process back the number that it had.

    It begins with one, tries twice as many, up to MOST, where cores are idle, and half as many when steps have become
    slower. A trial lasts WINDOW steps, or until it has clearly lost; the faster number stays."""

    def __init__(self):
        self.threads = self.at_first = torch.get_num_threads()
        self.before = None                     # while another number is tried: (threads, seconds a step) of before
        self.chosen = 0.0                      # seconds a step when the number was chosen; 0: not chosen yet
        self.retry, self.since_trial = 0.0, 0.0
        self.idle = idle_seconds()             # at the last trial or look
        self.ticked = time.perf_counter()
        self._set(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._set(self.at_first)

    def tick(self):
        """Take note of a step that has lasted since the last tick."""
        before, self.ticked = self.ticked, time.perf_counter()
        self.add(self.ticked - before)

    def add(self, seconds):
        """Take note of one more step; perhaps change the number of threads."""
        self.steps, self.seconds, self.since_trial = self.steps + 1, self.seconds + seconds, self.since_trial + seconds
        step_seconds = self.seconds / self.steps
        if self.before:
            threads, step_seconds_before = self.before
            if self.seconds > min(WINDOW, HOPELESS * max(self.steps, 3)) * step_seconds_before:
                self.retry = min(max(2 * self.retry, RETRY), MAX_RETRY) if self.threads > threads else RETRY
                self._choose(threads, step_seconds_before)
            elif self.steps == WINDOW:
                onward = self.threads // 2 if self.threads < threads else 2 * self.threads
                self._choose(self.threads, step_seconds)
                self._try(onward, step_seconds)
        elif self.steps == WINDOW or 0 < WINDOW * SLOWER * self.chosen < self.seconds:
            if step_seconds > SLOWER * self.chosen > 0:
                self._choose(self.threads, step_seconds)
                self._try(self.threads // 2, step_seconds)
            elif self.since_trial > self.retry:
                self._choose(self.threads, step_seconds)
                if self._are_cores_free():
                    self._try(2 * self.threads, step_seconds)
                self.since_trial = 0.0
            else:
                self._choose(self.threads, step_seconds if step_seconds < self.chosen / SLOWER else self.chosen)

    def _are_cores_free(self):
        """Whether as many cores as there are threads now have mostly been idle since the last look."""
        before, self.idle = self.idle, idle_seconds()
        return before is None or self.idle - before > FREE * self.threads * self.since_trial

    def _choose(self, threads, step_seconds):
        self.before, self.chosen = None, step_seconds
        self._set(threads)

    def _try(self, threads, step_seconds):
        """Begin a trial, where there are so many threads."""
        if 1 <= threads <= MOST:
            self.before = self.threads, step_seconds
            self._set(threads)
        self.since_trial, self.idle = 0.0, idle_seconds()

    def _set(self, threads):
        """Begin a measurement with so many threads."""
        if threads != self.threads:
            torch.set_num_threads(threads)
        self.threads, self.steps, self.seconds = threads, 0, 0.0


def idle_seconds():
    """How long the cores of this machine have had nothing to do, in all; None where the system does not tell."""
    try:
        with open("/proc/stat", encoding="ascii") as f:
            return int(f.readline().split()[4]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
