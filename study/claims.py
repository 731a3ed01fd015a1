"""Who does which job, where processes of several machines share a folder and nothing else; stdlib only.

    with Claims(folder) as claims:
        if claims.take("ab12"):                  # False: another worker is at it
            ...
            claims.release("ab12")

A claim is a hard link to the worker's own file: a link is made at once or, where there is one already, not at all, also
in network folders. While the worker lives it touches that file, and with it all its claims, and keeps it locked. A
claim is stale when its worker's lock is gone, which the system sees to however a process of this machine ends, or when
a worker of another machine has been silent for a while: by the clock of the machine that keeps the folder. Two workers
that take a stale claim in the same instant may both do that job: it is done twice, to the same end.
"""
import contextlib
import os
import threading
from pathlib import Path

from utils.files import HOST, UserError, lock, remove_stale

BEAT = 10                  # seconds between two signs of life
SILENT = 120               # seconds without one after which a worker of another machine is taken for dead


class Claims:
    """The claims of one worker in a folder, which is created; those that are left go when the block ends."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / f"{HOST}{os.urandom(6).hex()}.worker"
        self.held, self.ended = set(), threading.Event()

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        os.write(self.descriptor, self.path.stem.encode())
        while lock(self.descriptor) is False:    # another worker is looking whether it is locked
            self.ended.wait(0.01)
        self.beating = threading.Thread(target=self._beat, daemon=True)
        self.beating.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.beating.join()
        for name in list(self.held):
            self.release(name)
        self.path.unlink(missing_ok=True)
        os.close(self.descriptor)

    def _beat(self):
        while not self.ended.wait(BEAT):
            with contextlib.suppress(OSError):   # the network is away: others may take this worker for dead
                os.utime(self.descriptor if os.utime in os.supports_fd else self.path)

    def take(self, name):
        """Claim a job by its name, letters and digits -> whether it is ours."""
        try:
            os.link(self.path, self._claim(name))
        except FileExistsError:
            if not os.path.samefile(self.path, self._claim(name)):       # it is: a network folder has answered twice
                return False
        except OSError as e:
            raise UserError(f"cannot claim a job in {self.folder} ({e.strerror}): --jobs needs a folder that knows hard "
                            "links; choose another --out") from e
        self.held.add(name)
        return True

    def release(self, name):
        """Give a claim back, the job done or not."""
        self.held.discard(name)
        self._claim(name).unlink(missing_ok=True)

    def others(self):
        """The names that living workers other than this one have claimed, a set; stale claims are removed."""
        names = {path.stem for path in self.folder.glob("*.claim")} - self.held
        stale = {name for name in names if not self._is_alive(self._claim(name))}
        for name in stale:
            self._claim(name).unlink(missing_ok=True)
        return names - stale

    def remove_dead(self):
        """Remove the files of workers that have died."""
        self.others()
        for path in self.folder.glob("*.worker"):
            if path != self.path and not self._is_alive(path):
                path.unlink(missing_ok=True)

    def _claim(self, name):
        return self.folder / f"{name}.claim"

    def _is_alive(self, path):
        """Whether the worker of a claim, or of a worker's file, still lives."""
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:                # given back in between
            return False
        try:
            locked = lock(descriptor) if os.read(descriptor, len(HOST)).decode("ascii", "replace") == HOST else None
            if locked is not None:
                return not locked
            os.utime(self.path)                  # what time is it where the files lie?
            return self.path.stat().st_mtime - os.fstat(descriptor).st_mtime < SILENT
        finally:
            os.close(descriptor)


def clear(folder):
    """Remove what dead workers have left in a folder, and the folder where nothing else is in it."""
    if Path(folder).is_dir():
        with Claims(folder) as claims:
            claims.remove_dead()
        remove_stale(folder)
        with contextlib.suppress(OSError):
            Path(folder).rmdir()
