"""What users are told to call can be read by editors and documentation tools: Google style, every parameter by name."""

import inspect

import docstring_parser
import pytest

import robust_zoo
import robust_zoo.training
import robust_zoo.visualization

PUBLIC = [
    (f"{package.__name__}.{name}", getattr(package, name))
    for package in (robust_zoo, robust_zoo.training, robust_zoo.visualization)
    for name in package.__all__
    if callable(getattr(package, name))
]


@pytest.mark.parametrize(("name", "thing"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_every_parameter_is_described(name, thing):
    parsed = docstring_parser.parse(thing.__doc__ or "", docstring_parser.DocstringStyle.GOOGLE)
    assert parsed.short_description
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = [p.name for p in inspect.signature(thing).parameters.values() if p.kind not in kinds]
    described = {word.strip("*` ") for p in parsed.params for word in p.arg_name.split(",")}
    assert not [p for p in parameters if p not in described]
    if inspect.isfunction(thing) and inspect.signature(thing).return_annotation not in (None, "None"):
        assert parsed.returns and parsed.returns.description


def test_exports_are_what_they_are_called():
    for package in (robust_zoo, robust_zoo.training, robust_zoo.visualization):
        assert set(package.__all__) <= set(dir(package))
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError):
            _ = package.no_such_name
