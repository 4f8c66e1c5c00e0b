"""What can be closed closes itself at the end of a ``with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NoReturn, Self

from jrnl._core import Closing
from jrnl.errors import InvalidType


class NotCopied:
    """What belongs to an open store, and cannot be pickled or copied."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise InvalidType(
            f"a {type(self).__name__} cannot be pickled or copied: it is a part of an open store; "
            "jrnl.open(path) in the other place, or pass what it reads, or a seq or a Mark"
        )


class ClosesItself(Closing, NotCopied, ABC):
    """A context manager whose block ends with `close`."""

    @abstractmethod
    def close(self) -> None:
        """Give up what it holds."""

    def __enter__(self) -> Self:
        return self
