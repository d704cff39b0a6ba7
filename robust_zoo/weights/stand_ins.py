"""What names in a pickle become in the child: objects that remember what they were made of, and do nothing.

No class or function that a pickle names is ever looked up, numpy's neither: a forged state can tell its dtypes to count
references at any address.
"""

from __future__ import annotations

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from typing import Any

_NUMBERS = re.compile(r"[<>|=]?([iu][1248]|f[248]|b1)")  # dtypes that an array may have


class Inert:
    """Stands for an object of a class that holds data alone.

    Attributes:
        arguments: What it was made with.
        state: What it was told to become.
    """

    __slots__ = ("arguments", "state")
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any, **named: Any) -> Inert:
        self = object.__new__(cls)
        self.arguments, self.state = (*arguments, *named.values()), None
        return self

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Nothing: `__new__` alone is called by some opcodes."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Dict:
    """Stands for subclasses of dict: an ordinary one, so that what it holds can be filled in."""

    def __new__(cls, *arguments: Any, **named: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class Items:
    """Stands for sequences that are no list: an ordinary one."""

    def __new__(cls, *arguments: Any, **named: Any) -> list[Any]:  # type: ignore[misc]
        return []


class DType(Inert):
    """numpy.dtype(name, ...), with (version, byte order, ...) as its state."""

    __slots__ = ()

    @property
    def text(self) -> str:
        """As numpy spells it, "<f4". Raises ValueError when it is not of plain numbers."""
        name, order = next(iter(self.arguments), None), self.state[1] if _is_tuple(self.state, 2) else "|"
        text = f"{order}{name}"
        if not isinstance(name, str) or not isinstance(order, str) or not _NUMBERS.fullmatch(text):
            raise ValueError(f"an array of dtype {text[:40]}")
        return text


class Array(Inert):
    """numpy's `_reconstruct(ndarray, ...)`, with (version, shape, dtype, in Fortran's order, bytes) as its state."""

    __slots__ = ()

    def numpy(self) -> Any:
        """The array, made of bytes that it has.

        Returns:
            A numpy array of its own memory.

        Raises:
            ValueError: It is not one of plain numbers, or has more or fewer bytes than its shape needs.
        """
        if not _is_tuple(self.state, 5):
            raise ValueError("an array without its content")
        _, shape, dtype, fortran, content = self.state
        return _array(shape, dtype, content, "F" if fortran is True else "C")


class Buffered(Inert):
    """numpy's `_frombuffer(bytes, dtype, shape, order)`, of newer pickles."""

    __slots__ = ()

    def numpy(self) -> Any:
        """As Array.numpy."""
        if not _is_tuple(self.arguments, 4):
            raise ValueError("an array without its content")
        content, dtype, shape, order = self.arguments
        return _array(shape, dtype, content, "F" if order == "F" else "C")


class Scalar(Inert):
    """numpy's `scalar(dtype, bytes)`."""

    __slots__ = ()

    def numpy(self) -> Any:
        """As Array.numpy, of no dimensions."""
        if not _is_tuple(self.arguments, 2):
            raise ValueError("a number without its content")
        dtype, content = self.arguments[:2]
        return _array((), dtype, content, "C")


def _array(shape: Any, dtype: Any, content: Any, order: str) -> Any:
    import numpy as np

    if isinstance(content, str):  # bytes, as Python 2 wrote them
        content = content.encode("latin-1")
    sizes = type(shape) is tuple and len(shape) <= 8 and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    if not (isinstance(dtype, DType) and isinstance(content, (bytes, bytearray)) and sizes):
        raise ValueError("an array that is not one of plain numbers")
    flat = np.frombuffer(content, dtype=np.dtype(dtype.text))
    return flat.reshape(shape, order=order).copy()  # type: ignore[call-overload]


def _is_tuple(value: Any, length: int) -> bool:
    return type(value) is tuple and len(value) >= length


def encoded(text: Any, encoding: Any = None) -> bytes:
    """Stands for `_codecs.encode`, by which Python 3 writes bytes for Python 2.

    Args:
        text: The bytes, a character each.
        encoding: "latin1", the one that is written.

    Returns:
        The bytes.

    Raises:
        ValueError: It is anything else.
    """
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError("bytes that are written in an unusual way")
    return text.encode("latin-1")


_NUMPY = r"numpy\._?core\.(multiarray|numeric)\."
_KINDS = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (rf"{_NUMPY}_reconstruct", Array),
        (rf"{_NUMPY}_frombuffer", Buffered),
        (rf"{_NUMPY}scalar", Scalar),
        (r"numpy\.dtype", DType),
        # data beside weights: schedules, settings, generators' states
        (r"numpy\.(ndarray|dtypes\.\w+DType|bool_?|(u?int|float|complex)\d+|random(\.\w+)+)", Inert),
        (r"argparse\.Namespace|types\.SimpleNamespace|datetime\.\w+|pathlib(\._local)?\.\w*Path", Inert),
        (r"builtins\.(list|dict|tuple|int|float|str|bool|object)|omegaconf\.\w+(\.\w+)*", Inert),
        (r"collections\.defaultdict|easydict\.EasyDict|yacs\.config\.CfgNode|addict(\.addict)?\.Dict", Dict),
        (r"(pytorch_lightning|lightning\.pytorch|lightning\.fabric|lightning_fabric)(\.\w+)*\.AttributeDict", Dict),
    )
)


def stand_in(name: str) -> type | None:
    """What stands in for a name of a pickle.

    Args:
        name: Module and name, "numpy.dtype".

    Returns:
        A class that does nothing, None for a name that has no place beside weights and arrays.
    """
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(name)), None)


# Of the roots that hold functions, what may stand beside a checkpoint's weights; of any other root, every name may.
_CODE = {"torch", "numpy", "dill", "cloudpickle", "joblib"}
_BESIDE = (
    (re.compile(r"collections\.deque"), Items),
    (re.compile(r"(functools\.partial|(decimal|fractions|uuid|enum|typing)\.\w+)"), Inert),
    (re.compile(r"builtins\.(frozenset|slice|range|bytes)|numpy\.str_"), Inert),
    (re.compile(r"torch\.(nn|optim|amp|cuda\.amp)\.(\w+\.)*[A-Z]\w*|torch\.nn\.functional\.\w+"), Dict),
)


def stand_in_beside_weights(name: str) -> type | None:
    """As `stand_in`, and for modules, optimizers and the classes of a user's own program, whose state is a dict.

    Args:
        name: Module and name, as the pickle has them.

    Returns:
        A class that does nothing, None for functions and for what only code has a use for.
    """
    module, _, last = name.rpartition(".")
    module, last = NAME_MAPPING.get((module, last), (IMPORT_MAPPING.get(module, module), last))
    full = f"{module}.{last}"  # pickles of protocol 2 write Python 2's names
    if kind := stand_in(full) or next((kind for pattern, kind in _BESIDE if pattern.fullmatch(full)), None):
        return kind
    return None if full.partition(".")[0] in {*sys.stdlib_module_names, *_CODE} else Dict


def module_parts(value: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The tensors and the parts of a stand-in for a pickled nn.Module.

    Args:
        value: Anything out of a checkpoint.

    Returns:
        Its parameters and persistent buffers, and its modules, by name; None for what is no module.
    """
    state = getattr(value, "__dict__", {}) if type(value) is OrderedDict else {}
    if not all(isinstance(state.get(part), dict) for part in ("_parameters", "_buffers", "_modules")):
        return None
    passing = state.get("_non_persistent_buffers_set") or ()
    buffers = {name: tensor for name, tensor in state["_buffers"].items() if name not in passing}
    return state["_parameters"] | buffers, state["_modules"]
