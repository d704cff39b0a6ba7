import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_zoo.errors import UsageError
from robust_zoo.threat import ThreatModel, eps_from_tag, parse_eps, written_eps


@pytest.mark.parametrize(
    ("norm", "eps", "tag", "text"),
    [
        ("l2", 0.5, "l2_eps0_5", "l2 eps 0.5"),
        ("l2", 3.0, "l2_eps3", "l2 eps 3"),
        ("l2", 0.0, "l2_eps0", "l2 eps 0"),
        ("l2", 0.01, "l2_eps0_01", "l2 eps 0.01"),
        ("linf", 4 / 255, "linf_eps4", "linf eps 4/255"),
        ("linf", 0.5 / 255, "linf_eps0_5", "linf eps 0.5/255"),
        ("linf", 0.0, "linf_eps0", "linf eps 0"),
    ],
)
def test_tag_and_text(norm, eps, tag, text):
    threat = ThreatModel(norm, eps)
    assert threat.tag == tag
    assert str(threat) == text
    assert eps_from_tag(norm, tag.split("eps")[1]) == pytest.approx(eps)


@given(st.sampled_from(["l2", "linf"]), st.integers(0, 25_000))
def test_every_written_eps_reads_back(norm, thousandths):
    eps = thousandths / 1000 / (1 if norm == "l2" else 255)
    assert eps_from_tag(norm, written_eps(norm, eps)) == pytest.approx(eps, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "norm", "eps"),
    [
        ("4/255", "linf", 4 / 255),
        ("0.5/255", "linf", 0.5 / 255),
        (0.03, "linf", 0.03),
        ("0", "linf", 0),
        (3, "l2", 3),
        ("0.5", "l2", 0.5),
        ("0.5/1", "linf", 0.5),
        (4, None, 4),
        (" 4 / 255 ", "linf", 4 / 255),
    ],
)
def test_parse(value, norm, eps):
    assert parse_eps(value, norm) == pytest.approx(eps)


@pytest.mark.parametrize("value", [4, "4", 0.5, "8.0", 1.0])
def test_bare_linf_count_is_refused_with_both_readings(value):
    with pytest.raises(UsageError) as error:
        parse_eps(value, "linf")
    assert f'"{float(value):g}/255"' in error.value.expected
    assert f'"{float(value):g}/1"' in error.value.expected
    assert error.value.exit_code == 2


@pytest.mark.parametrize("value", ["", "four", "1/0", "-1", -0.5, "nan", float("inf"), "1/2/3", None])
def test_not_a_radius(value):
    with pytest.raises(UsageError):
        parse_eps(value, "l2")


@pytest.mark.parametrize(("norm", "eps"), [("l1", 1.0), ("L2", 1.0), ("l2", -1.0), ("linf", 4.0), ("l2", float("nan"))])
def test_impossible_threat_models(norm, eps):
    with pytest.raises(UsageError):
        ThreatModel(norm, eps)
