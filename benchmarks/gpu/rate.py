"""How fast the trainings of benchmarks/grid.py go, from their logs: python rate.py RUNS BATCH EPOCHS"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from robust_zoo.training.log import read_log

IMAGES = 50_000


def main(runs: Path, batch: int, epochs: int) -> None:
    total = longest = 0.0
    for run in sorted(path.parent for path in runs.glob("*/log.jsonl")):
        state, steps = json.loads((run / "status.json").read_text()), read_log(run, "step")[1:]
        words = f"{state['state']}, step {state.get('step')} of {state.get('steps')} in {state.get('seconds')} s"
        if len(steps) > 1:
            seconds = steps[-1]["seconds"] - steps[0]["seconds"]
            rate = batch * (steps[-1]["step"] - steps[0]["step"]) / max(seconds, 0.1)
            total, longest = total + rate, max(longest, IMAGES * epochs / rate)
            words += f"; {rate:,.0f} images/s"
        print(f"{run.name:<12} {words}")
    print(f"together {total:,.0f} images/s; {epochs} epochs of {IMAGES:,} images: {longest:.0f} s", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
