"""How many threads a training step takes: as many as are fastest, measured while the run goes on.

PyTorch shares every operation among its threads and waits for the slowest. On an idle machine that pays; as soon as
another process computes, some thread waits for its turn hundreds of times a step: two threads on two cores then take 2
to 50 times as long as one.
"""
import time

import torch

WINDOW = 16                    # steps of one measurement: a gradient penalty comes once in so many (gan.R1_EVERY)
SLOWER = 1.3                   # times as long a step as when the number was chosen: measure anew
HOPELESS = 1.5                 # times as long as before, over three steps or more: the trial has lost
RETRY, MAX_RETRY = 2.0, 60.0   # seconds until more threads are tried again; doubled each time that they lose
MOST = torch.get_num_threads()


class ThreadTuner:
    """Sets the number of threads by the seconds that steps take: `tuner.add(seconds)` or `tuner.tick()` after each.

    It begins with the present number, as the last training left it, tries half as many at once and whenever steps have
    become slower, and from time to time twice as many, up to MOST. A trial lasts WINDOW steps, or until it has clearly
    lost; the faster number stays."""

    def __init__(self):
        self.threads = torch.get_num_threads()
        self.chosen = 0.0                      # seconds a step when the number was chosen; 0: not chosen yet
        self.before = None                     # while another number is tried: (threads, seconds a step) of before
        self.retry, self.since_trial = RETRY, 0.0
        self.steps, self.seconds = 0, 0.0      # of this measurement
        self.ticked = time.perf_counter()

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
                more = self.threads > threads
                self.retry = min(2 * self.retry, MAX_RETRY) if more else RETRY
                self._choose(threads, step_seconds_before)
            elif self.steps == WINDOW:
                onward = self.threads // 2 if self.threads < threads else 2 * self.threads
                self._choose(self.threads, step_seconds)
                self._try(onward, step_seconds)
        elif self.steps == WINDOW or 0 < WINDOW * SLOWER * self.chosen < self.seconds:
            if step_seconds > SLOWER * self.chosen:
                self._choose(self.threads, step_seconds)
                self._try(self.threads // 2, step_seconds)
            elif self.since_trial > self.retry:
                self._try(2 * self.threads, step_seconds)
            else:
                self._choose(self.threads, step_seconds if step_seconds < self.chosen / SLOWER else self.chosen)

    def _choose(self, threads, step_seconds):
        self.before, self.chosen = None, step_seconds
        self._set(threads)

    def _try(self, threads, step_seconds):
        """Begin a trial, where there are so many threads."""
        if 1 <= threads <= MOST:
            self.before = self.threads, step_seconds
            self._set(threads)
        self.since_trial = 0.0

    def _set(self, threads):
        """Begin a measurement with so many threads."""
        if threads != self.threads:
            torch.set_num_threads(threads)
        self.threads, self.steps, self.seconds = threads, 0, 0.0
