"""Runs `robust-zoo` commands in forked processes, so that a test of many processes imports torch once.

`python zygote.py` reads one JSON request a line, {"arguments", "environment", "output", "die_at", "spawn"}, and answers
with the child's pid; {"wait": pid} answers with its exit status (negative: the signal that killed it).

die_at: [function, n] kills the child with SIGKILL at its n-th call of "write", "fsync", "replace" or "directory": the
steps of storing a file. A negative n kills just after the call.

spawn: whether processes of --jobs are started as a user's are; else they are forked too.
"""

import json
import os
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOO_LONG = 900  # seconds


def serve():
    import torch.utils.tensorboard  # noqa: F401  these imports are what is worth sharing, and the rows

    import robust_zoo.cli
    import robust_zoo.training.export
    import robust_zoo.training.run
    import robust_zoo.training.transfer.sweep
    import robust_zoo.training.transfer.tuning.run
    from robust_zoo.registry.load import load_registry

    load_registry()

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                child(robust_zoo.cli.main, request)
        print(answer, flush=True)


def child(main, request):
    signal.alarm(TOO_LONG)  # ends it: what hangs is a failure
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell takes from what runs in the background
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if not request["spawn"]:
        from robust_zoo.training.jobs import workers

        workers.get_context = lambda method: get_context("fork")
    if request["die_at"]:
        plant(*request["die_at"])
    code = 0
    try:
        main(request["arguments"])
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else bool(done.code)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 99
    sys.stdout.flush()
    os._exit(code or 0)


def plant(name, n):
    """Replaces one function by itself with a SIGKILL at its n-th call."""
    from robust_zoo import files

    owner, attribute = {
        "write": (files.os, "fdopen"),
        "fsync": (files.os, "fsync"),
        "replace": (files.Path, "replace"),
        "directory": (files, "sync_directory"),
    }[name]
    real, calls = getattr(owner, attribute), 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += not (name == "write" and args[1:] != ("wb",))
        if calls == n:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if name == "write" and calls == -n:
            result.write(b"half of it")
            result.flush()
        if calls == -n:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, counted)


class Zygote:
    """The tests' side: start(...) -> pid, wait(pid) -> exit status."""

    def __init__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TQDM_MININTERVAL": "60"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, arguments, output, environment=None, die_at=None, spawn=False):
        return self.ask(
            {
                "arguments": [str(a) for a in arguments],
                "output": str(output),
                "environment": environment or {},
                "die_at": die_at,
                "spawn": spawn,
            }
        )

    def wait(self, pid):
        return self.ask({"wait": pid})

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


if __name__ == "__main__":
    serve()
