"""Loading a ResNet-50 from the cache against timm, and `robust-zoo list` against `import click`: ratios in one run.

    python benchmarks/loading.py [--rounds 7]

Each load is a fresh process, imports excluded; rounds are interleaved, so that a busy machine disturbs both sides
alike, and the ratio of a round is what is summarised (median). Memory is the peak resident set over the start of the
load. The weights are random, served once by the stand-in hub of the tests; nothing leaves this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

NAME = "resnet50_l2_eps0_25"
_MEASURE = """
import json, time
import torch, timm, robust_zoo.factory
from robust_zoo import factory, files
from robust_zoo.weights.safetensors_file import tensors_of
from robust_zoo.registry.lookup import get
torch.set_num_threads(1)
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
with torch.device("meta"):  # torch sets its meta device up on first use: an import by another name
    torch.nn.Linear(1, 1)
before = status("VmRSS")
started = time.perf_counter()
{load}
total = sum(float(p.detach().sum()) for p in model.parameters())  # every weight is read, so no cost stays hidden
seconds = time.perf_counter() - started
print(json.dumps([seconds, status("VmHWM") - before, total]))
"""
_WAYS = {
    "robust_zoo (hash checked)": "model = factory.create_model({name!r})",
    "robust_zoo (load alone)": (
        "from pathlib import Path\n"
        "cfg = factory._pretrained_cfg(get({name!r}).network, get({name!r}), None)\n"
        "content = files.buffer(Path({file!r}).stat().st_size)\n"
        "Path({file!r}).open('rb', buffering=0).readinto(content)\n"
        "state = tensors_of(content, Path({file!r}))\n"
        "model = factory._build_exact(get({name!r}).network, {name!r}, lambda: state, {{'pretrained_cfg': cfg}})"
    ),
    "timm (checkpoint_path)": "model = timm.create_model('resnet50', checkpoint_path={file!r})",
}


def prepare(root: Path) -> Path:
    """Puts a converted ResNet-50 into a cache under `root`, by the ordinary way; returns its file."""
    import checkpoints
    from hub import Hub

    from robust_zoo.registry.lookup import get
    from robust_zoo.weights.ensure import ensure

    row = get(NAME)
    checkpoints.save(root / "source.ckpt", "resnet50")
    with Hub(files={row.file: (root / "source.ckpt").read_bytes()}) as hub:
        os.environ |= {"HF_ENDPOINT": hub.endpoint, "NO_PROXY": "127.0.0.1"}
        return ensure(row, progress=False).path


def measure(way: str, file: Path) -> tuple[float, int, float, float]:
    """One fresh process: (seconds, bytes of peak memory over the start, sum of the weights, seconds with imports)."""
    code = _MEASURE.format(load=_WAYS[way].format(name=NAME, file=str(file)))
    started = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    return (*json.loads(out.splitlines()[-1]), time.perf_counter() - started)


def loading(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        os.environ |= {"ROBUST_ZOO_CACHE": str(root / "cache"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        file = prepare(root)
        os.environ["ROBUST_ZOO_OFFLINE"] = "1"
        size = file.stat().st_size
        results: dict[str, list[tuple[float, int, float, float]]] = {way: [] for way in _WAYS}
        for _ in range(rounds):
            for way in _WAYS:
                results[way].append(measure(way, file))
    peer = results["timm (checkpoint_path)"]
    assert len({round(run[2], 2) for runs in results.values() for run in runs}) == 1, "the weights differ"
    print(f"ResNet-50, {size / 1e6:.0f} MB, {rounds} rounds, every weight read once")
    print(f"{'way':<28}{'seconds':>9}{'ratio to timm':>15}{'memory / file':>15}")
    for way, runs in results.items():
        ratio = statistics.median(a[0] / b[0] for a, b in zip(runs, peer, strict=True))
        seconds, memory = statistics.median(r[0] for r in runs), statistics.median(r[1] for r in runs)
        print(f"{way:<28}{seconds:>9.2f}{ratio:>15.2f}{memory / size:>15.2f}")
    checked, alone, _ = results.values()
    cost = statistics.median(a[0] - b[0] for a, b in zip(checked, alone, strict=True))
    call, process = (statistics.median(run[i] for run in checked) for i in (0, 3))
    print(f"verification: {cost / size * 1e8:.3f} s for 100 MB, {cost / process:.0%} of the process with its imports")
    print(f"({process:.1f} s), {cost / call:.0%} of the call alone ({call:.2f} s)")


def listing(rounds: int) -> None:
    commands = {"import click": ["-c", "import click"], "robust-zoo list": ["-m", "robust_zoo", "list"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, arguments in commands.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=ROOT)
            times[name].append(time.perf_counter() - started)
    ratio = statistics.median(b / a for a, b in zip(times["import click"], times["robust-zoo list"], strict=True))
    for name, values in times.items():
        print(f"{name:<28}{statistics.median(values):>9.3f} s")
    print(f"{'ratio':<28}{ratio:>9.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    loading(arguments.rounds)
    listing(max(arguments.rounds, 11))
