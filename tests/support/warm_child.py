"""The contained process (see robust_zoo/weights/contained.py), forked from one that has imported torch and timm.

It is the same start, isolation, limits and work, without the seconds that the imports take. For tests in which a
conversion is a means; those of the process itself start it as users do.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

from robust_zoo.weights import contained
from robust_zoo.weights.convert import TIME_LIMIT

_START = contained._START.replace(
    "serve(worker)",
    """
import json, os
import robust_zoo.architectures.build, robust_zoo.weights.layouts, robust_zoo.weights.state_dict
from robust_zoo.weights import batch_worker, convert_worker
for line in sys.stdin:
    worker, folder = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in enumerate(("in", "out", "err")):
            os.dup2(os.open(f"{folder}/{name}", os.O_RDWR | os.O_CREAT), number)
        sys.stdin, sys.stdout, sys.stderr = (open(number, mode) for number, mode in enumerate("rww"))
        code = 1
        try:
            serve(worker)
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        sys.stderr.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""",
)


class WarmChild:
    """Takes the place of `subprocess` in robust_zoo.weights.contained; starts with the first request."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self):
        self._process, self._lock = None, threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.kill()
            self._process.communicate()

    def run(self, command, *, cwd, input, capture_output, timeout):
        """As subprocess.run, of a command of contained.command; with a time of its own, by subprocess.run itself."""
        if timeout != TIME_LIMIT:
            return subprocess.run(command, cwd=cwd, input=input, capture_output=capture_output, timeout=timeout)
        worker = command[5]
        assert command == contained.command(worker)
        with self._lock, TemporaryDirectory() as folder:
            if not self._process:
                start = [*command[:3], _START, *command[4:]]
                self._process = subprocess.Popen(
                    start, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            (Path(folder) / "in").write_bytes(input)
            self._process.stdin.write(json.dumps([worker, folder]) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            out, err = ((Path(folder) / name).read_bytes() for name in ("out", "err"))
        return subprocess.CompletedProcess(command, code, out, err)
