"""The contained process (see robust_zoo/weights/contained.py), forked from one that has imported torch and timm.

It has the same start, isolation, limits and work, without the seconds that the imports take. For tests in which a
conversion is a means; those of the process itself start it as users do.
"""

import json
import os
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory

from robust_zoo.weights import child, contained

_LONG = 100  # seconds, which no test waits for
_START = contained._START.replace(
    "serve(worker)", f"sys.path.append({str(Path(__file__).parent)!r})\nimport warm_child\nwarm_child.serve()"
)


def import_all():
    """What a conversion imports."""
    import robust_zoo.architectures.build
    from robust_zoo.weights import batch_worker, convert_worker, layouts, state_dict

    return robust_zoo, batch_worker, convert_worker, layouts, state_dict


def serve():
    """Does each [worker, folder] on stdin, and prints what `_fork` returns."""
    import_all()
    for line in sys.stdin:
        print(json.dumps(_fork(*json.loads(line))), flush=True)


def _fork(worker, folder):
    """(exit status, peak memory in bytes) of a fork that reads folder/in, and writes folder/out and folder/err."""
    pid = os.fork()
    if pid:
        _, status, usage = os.wait4(pid, 0)
        return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
    code = 1
    try:
        for number, name in enumerate(("in", "out", "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT), number)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
        os.chdir(Path(sys.executable).anchor)
        child.serve(worker)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)


class Forks:
    """Takes the place of `subprocess` in robust_zoo.weights.contained: for a process that did `import_all`.

    peak: memory in bytes that the last one took.
    """

    TimeoutExpired = subprocess.TimeoutExpired
    peak = 0
    fork = staticmethod(_fork)

    def run(self, command, *, cwd, input, capture_output, timeout):
        """As subprocess.run, of a command of contained.command; where time is the subject, by subprocess.run itself."""
        if timeout < _LONG:
            return subprocess.run(command, cwd=cwd, input=input, capture_output=capture_output, timeout=timeout)
        worker = command[5]
        assert command == contained.command(worker)
        with TemporaryDirectory() as folder:
            (Path(folder) / "in").write_bytes(input)
            code, self.peak = self.fork(worker, folder)
            out, err = ((Path(folder) / name).read_bytes() for name in ("out", "err"))
        return subprocess.CompletedProcess(command, code, out, err)


class WarmChild(Forks):
    """As Forks, of a process of its own, which starts with the first request."""

    def __init__(self):
        self._process, self._lock = None, threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.kill()
            self._process.communicate()

    def fork(self, worker, folder):
        with self._lock:
            if not self._process:
                command = contained.command(worker)
                start = [*command[:3], _START, *command[4:]]
                self._process = subprocess.Popen(
                    start, cwd=Path(sys.executable).anchor, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            self._process.stdin.write(json.dumps([worker, folder]) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
