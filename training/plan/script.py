"""A plan as a Slurm script: a job array whose every task is one command of robust-zoo, to be read before it is sent."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robust_zoo.errors import UsageError
from robust_zoo.files import GO_ON, replace_file, storage
from robust_zoo.training.data.hf_rows import HF
from robust_zoo.training.plan.kinds import KINDS, Places
from robust_zoo.training.plan.plan import WorkPlan
from robust_zoo.training.signals import EXIT_STOPPED

NAME = "robust-zoo"
# submitit's parameters whose names are not sbatch's
_SBATCH = {"name": "job-name", "timeout_min": "time", "tasks_per_node": "ntasks-per-node", "mem_gb": "mem"}
_UNITS = {"mem_gb": "G"}
_SCRIPT = """#!/usr/bin/env bash
# {about}
# Submit it with  sbatch FILE ; SLURM_ARRAY_TASK_ID=0 bash FILE  runs its first task here.
# A task that its time limit stops is put in the queue again and goes on. Plan again for what is left of the others.
{directives}
set -u
for needed in {needed}; do
    [ -e "$needed" ] || {{ echo "nothing at $needed" >&2; exit 2; }}
done
command -v robust-zoo >/dev/null || {{ echo "no robust-zoo on PATH: activate its environment first" >&2; exit 2; }}
case ${{SLURM_ARRAY_TASK_ID:?which task? submit this with sbatch}} in
{cases}
*) echo "no task $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;
esac
export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK:-1}} # srun does not take it over from sbatch by itself
$(command -v srun) robust-zoo "$@" &
child=$! warned=
trap 'warned=yes; kill -USR1 "$child"' USR1 # Slurm's warning; a training saves and ends with {stopped}
wait "$child"
code=$?
[ -z "$warned" ] || {{ wait "$child"; code=$?; }} # the first wait ended with the warning
[ -z "$warned" ] || [ $code = 0 ] || scontrol requeue "$SLURM_JOB_ID"
exit $code
"""


def parameters(plan: WorkPlan, places: Places, given: Mapping[str, Any]) -> dict[str, Any]:
    """submitit's parameters of a plan's array.

    Args:
        plan: With the number of cards, which is how many tasks run at a time.
        places: With the processes that read images.
        given: The user's own, in place of these.

    Returns:
        Parameters by name.

    Raises:
        UsageError: More than one card a task: its hours were reckoned for one.
    """
    usual = {
        "name": NAME, "gpus_per_node": 1, "cpus_per_task": places.workers + 1, "timeout_min": 24 * 60,
        "slurm_array_parallelism": plan.cards,
    }  # fmt: skip
    found = usual | dict(given)
    if found["gpus_per_node"] != 1 or found.get("nodes", 1) != 1:
        raise UsageError(
            "a task of a plan has one card",
            expected="gpus_per_node=1, nodes=1",
            actual=f"gpus_per_node={found['gpus_per_node']}, nodes={found.get('nodes', 1)}",
            next="robust-zoo train NAME --launcher slurm --slurm gpus_per_node=8   spreads one training over many",
        )
    return found


def script(plan: WorkPlan, places: Places, given: Mapping[str, Any]) -> str:
    """The script.

    Args:
        plan: Of which everything that is ready is done, a task of the array each, the longest first.
        places: Where the commands read and write.
        given: submitit's parameters, as `parameters` takes them; they become lines of #SBATCH.

    Returns:
        bash.

    Raises:
        UsageError: As `parameters`; nothing is ready; or a path is needed that was not given.
    """
    commands = commands_of(plan, places)
    found = parameters(plan, places, given)
    at_once = found.pop("slurm_array_parallelism")
    lines = {
        _SBATCH.get(key, key.removeprefix("slurm_").replace("_", "-")): f"{value}{_UNITS.get(key, '')}"
        for key, value in found.items()
    }
    fixed = {
        "array": f"0-{len(commands) - 1}%{at_once}", "output": f"{NAME}-%A_%a.out", "signal": "B:USR1@300",
        "requeue": "", "open-mode": "append",
    }  # fmt: skip
    directives = [
        f"#SBATCH --{key}={shlex.quote(value) if value else value}".rstrip("=")
        for key, value in (fixed | lines).items()
    ]
    cases = [f"{number}) set -- {shlex.join(command)} ;;" for number, command in enumerate(commands)]
    about = f"{len(commands)} tasks, about {plan.hours:,.0f} hours of one {plan.card.title}, by robust-zoo plan."
    return _SCRIPT.format(
        about=about, directives="\n".join(directives), needed=shlex.join(needed(plan, places)),
        cases="\n".join(cases), stopped=EXIT_STOPPED,
    )  # fmt: skip


def commands_of(plan: WorkPlan, places: Places) -> list[list[str]]:
    """The arguments of robust-zoo, task by task.

    Args:
        plan: Of which everything that is ready is done, the longest first.
        places: Where the commands read and write.

    Returns:
        A command for each task of the array.

    Raises:
        UsageError: Nothing is ready; or a path is needed that was not given.
    """
    if not plan.ready:
        raise UsageError(
            "there is nothing to submit",
            expected="work that is left and can begin",
            actual="all of it is done, or waits for trainings",
            next="robust-zoo plan",
        )
    for option in sorted({KINDS[task.kind].needs for task in plan.ready}):
        if not getattr(places, option):
            raise UsageError(
                f"--{option} missing",
                expected={"data": "--data IMAGENET", "root": "--root FOLDER of the transfer datasets"}[option],
                actual=f"no --{option}",
                next=f"robust-zoo plan --{option} FOLDER ...   or choose other work with --work",
            )
    return [task.command(places) for task in plan.ready]


def needed(plan: WorkPlan, places: Places) -> list[str]:
    """The files and folders that must be there before a task begins.

    Args:
        plan: Whose tasks.
        places: Where they read.

    Returns:
        Paths; a dataset of the hub is none.
    """
    kinds = {task.kind: KINDS[task.kind] for task in plan.ready}
    found = [str(getattr(places, option)) for option in ("data", "root") if option in {k.needs for k in kinds.values()}]
    found += [task.weights for task in plan.ready if task.weights != task.checkpoint.name]
    found += [str(places.settings(name)) for name, row in kinds.items() if row.settings]
    return sorted({path for path in found if not path.startswith(HF)}, key=found.index)


def write_settings(plan: WorkPlan, places: Places) -> None:
    """Writes the files of settings that the commands name, to the folder of runs.

    Args:
        plan: Whose tasks.
        places: With the folder, which is made where it is not there.

    Raises:
        StorageError: The disk refuses.
    """
    with storage(places.runs, GO_ON):
        places.runs.mkdir(parents=True, exist_ok=True)
    for name in sorted({task.kind for task in plan.ready}):
        if told := KINDS[name].settings:
            text = "".join(f'{key} = "{value}"\n' for key, value in told.items())
            replace_file(places.settings(name), text.encode(), GO_ON)


def missing(plan: WorkPlan, places: Places) -> Sequence[Path]:
    """What of `needed` is not there."""
    return [Path(path) for path in needed(plan, places) if not Path(path).exists()]
