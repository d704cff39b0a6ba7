"""`robust-zoo site` of all rows and results against `import torch`, which it does not need: seconds, and bytes by kind.

    python benchmarks/site.py [--rounds 5]

Each is a fresh process; rounds are interleaved, the median of their ratios is what counts. Pictures are not counted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]


def seconds(*arguments: str) -> float:
    """Of a fresh process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder, "site")
        words = ("-m", "robust_zoo", "site", "-o", str(site), "--ledger", str(ROOT / "results"))
        pairs = [(seconds(*words), seconds("-c", "import torch")) for _ in range(rounds)]
        print(f"site: {statistics.median(a for a, _ in pairs):.2f} s, ", end="")
        print(f"{statistics.median(a / b for a, b in pairs):.2f} x import torch (median of {rounds})")
        sizes: Counter[str] = Counter()
        for path in site.rglob("*"):
            if path.is_file() and path.suffix not in (".png", ".svg"):
                sizes[path.relative_to(site).parts[0]] += path.stat().st_size
        print(f"{sum(sizes.values()) / 1e3:,.0f} kB:", ", ".join(f"{n} {s / 1e3:,.0f}" for n, s in sizes.most_common()))


if __name__ == "__main__":
    main()
