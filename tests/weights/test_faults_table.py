"""The table of what can go wrong (fault_table.py) has a test for each row, and its docs name the cases there are."""

from collections import Counter
from pathlib import Path

import fault_table
import pytest


@pytest.fixture
def counts(request):
    """Of each row's cases, where all tests are collected."""
    if request.config.getoption("keyword") or [Path(a).resolve() for a in request.config.args] != [
        Path(__file__).parents[1]
    ]:
        pytest.skip("only some of the tests are collected")
    return Counter(key for item in request.session.items for key in fault_table.keys(item))


def test_every_row_has_its_tests(counts):
    assert counts.keys() == fault_table.ROWS.keys()


def test_the_docs_have_every_case(counts, request):
    if request.config.getoption("--write-docs"):
        pytest.skip("they are written at the end")
    assert fault_table.DOCS.read_text(encoding="utf-8") == fault_table.table(counts), "make faults"
