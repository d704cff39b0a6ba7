"""Whatever a verb raises ends in five fields and an exit code; whatever it prints is printable."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile

import click
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from verbs import run

from robust_zoo.cli import list as list_verb
from robust_zoo.cli import main
from robust_zoo.cli.net import explained, shown
from robust_zoo.errors import UsageError
from robust_zoo.text import markdown, printable

NASTY = "cat\x1b[2J\x07\x9b1m\u202egpj.exe\u2028\udcff\0\r"
ESCAPED = "cat\\x1b[2J\\x07\\x9b1m\\u202egpj.exe\\u2028\\udcff\\x00\\r"
UNDECODABLE = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
UNFORESEEN = [
    (RecursionError("maximum recursion depth exceeded"), 70),
    (OverflowError("int too large"), 70),
    (UNDECODABLE, 70),
    (UnicodeEncodeError("ascii", "\xff", 0, 1, "ordinal not in range"), 70),
    (zipfile.BadZipFile("not a zip file"), 70),
    (EOFError("ended"), 70),
    (tarfile.ReadError("not a tar"), 70),
    (Image.DecompressionBombError("too many pixels"), 70),
    (KeyError("label"), 70),
    (AssertionError(), 70),
    (RuntimeError("shape '[2]' is invalid"), 70),
    (ZeroDivisionError("division by zero"), 70),
    (MemoryError(), 5),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), 5),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"), 5),
    (FileNotFoundError(2, "No such file or directory", "lost.txt"), 5),
    (OSError("cannot identify image file"), 5),
    (UsageError("a wrong call", expected="another", actual="this", next="help"), 2),
    (KeyboardInterrupt(), 130),
    (BrokenPipeError(32, "Broken pipe"), 0),
]


@pytest.fixture
def verb(monkeypatch):
    """Makes `robust-zoo list` do something else."""

    def replace(function):
        monkeypatch.setattr(list_verb, "command", click.Command("list", callback=function))

    return replace


@pytest.mark.parametrize(("error", "code"), UNFORESEEN, ids=lambda x: type(x).__name__)
def test_any_exception_is_five_fields_and_an_exit_code(verb, error, code):
    def fails():
        raise error

    verb(fails)
    result = run("list")
    assert result.exit_code == code
    assert "Traceback" not in result.output
    if code in (5, 70):
        assert all(f"  {field}:" in result.stderr for field in ("source", "expected", "actual", "next"))
        assert type(error).__name__ in result.stderr
    for arguments in (["--debug", "list"], ["list", "--debug"]):
        assert ("Traceback" in run(*arguments).stderr) == (code != 0)


def test_the_environment_shows_tracebacks_too(monkeypatch):
    for value, there in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv("ROBUST_ZOO_DEBUG", value)
        assert ("Traceback" in run("info", "nonsense").stderr) == there


def test_groups_take_debug_too():
    assert "Traceback" in run("data", "prepare", "nonsense", "--debug").stderr
    assert "Traceback" in run("data", "--debug", "prepare", "nonsense").stderr
    assert "--debug" in run("--help").stdout


def test_a_traceback_of_another_process_is_not_shown():
    text = "Caught KeyError in worker 0.\nOriginal Traceback (most recent call last):\n  File x\nKeyError: 'label'"
    assert explained(RuntimeError(text)).actual == "RuntimeError: KeyError: 'label'"


@pytest.mark.parametrize("module", ["robust_zoo", "robust_zoo.training"])
def test_modules_end_as_the_command_does(module):
    ended = subprocess.run(
        [sys.executable, "-m", module, *(["info"] if module == "robust_zoo" else []), "a\x1b[2J"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert ended.returncode in (2, 4) and "a\\x1b[2J" in ended.stderr
    assert "Traceback" not in ended.stderr and "\x1b" not in ended.stderr


# --- Text from outside -----------------------------------------------------------------------------------------


def test_printable_shows_what_a_terminal_would_act_on():
    assert printable(NASTY) == ESCAPED and ESCAPED.isprintable()
    assert printable("Füchse, 狐, \N{FOX FACE} a\nb", keep="\n") == "Füchse, 狐, \N{FOX FACE} a\nb"
    long = printable("x" * 10**6)
    assert len(long) < 4100 and "1,000,000 characters" in long


def test_an_error_cannot_be_given_other_fields():
    shown_lines = str(UsageError(f"of {NASTY}\n", actual="this\n  next:     rm -rf ~", next="help")).splitlines()
    assert [line for line in shown_lines if line.startswith("  next:")] == ["  next:     help"]
    assert shown_lines[0] == f"of {ESCAPED}\\n"


def test_what_a_verb_prints_is_printable(verb):
    def prints():
        print(f"{NASTY}\tname\nnext line")  # click.echo would take colours out where there is no terminal
        print(NASTY, file=sys.stderr)

    verb(prints)
    result = run("list")
    assert result.stdout == f"{ESCAPED}\tname\nnext line\n"
    assert result.stderr.rstrip("\r\n") == ESCAPED.removesuffix("\\r")


def test_bytes_and_progress_pass():
    out, err = io.TextIOWrapper(io.BytesIO(), "ascii"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        with shown():
            print("ä\x1b[A")
            sys.stderr.write("\r 50 %\n\x1b[A\x1b[31m")
        assert sys.stdout is out
    out.flush()
    assert out.buffer.getvalue() == b"\\xe4\\x1b[A\n"
    assert err.getvalue() == "\r 50 %\n\x1b[A\\x1b[31m"


def test_a_cell_of_markdown_stays_one_cell():
    assert markdown("a|b`c\n<img src=x> [x](y) \\") == "a\\|b\\`c\\\\n\\<img src=x\\> \\[x\\](y) \\\\"
    assert markdown("resnet50_l2_eps3, cifar10 test") == "resnet50_l2_eps3, cifar10 test"


def test_a_closed_stream_is_no_error():
    ended = subprocess.run(["sh", "-c", f"{sys.executable} -m robust_zoo list >&- 2>&-"])
    assert ended.returncode == 0


def test_click_has_its_own_ways():
    result = CliRunner().invoke(main, ["list", "--nonsense"])
    assert result.exit_code == 2 and "Usage:" in result.stderr
