"""Lineage: which state of which store a fork was made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Parent:
    """What a store is a fork of; ``store.parent``.

    Attributes
    ----------
    key : int
        The other store's key: on disk that of its superblocks, in memory a random one.
    seq : int
        The state of it that the fork's first state is.
    recorded : str or None
        The digest, where it has been recorded, or asked for already.
    """

    key: int
    seq: int
    recorded: str | None = field(repr=False, compare=False)
    _ask: Callable[[], str | None] = field(repr=False, compare=False)

    @property
    def digest(self) -> str | None:
        """That state's `Store.digest`, over the fork's volumes.

        Where it was not recorded as the fork was made it is found from the fork's own first state;
        None once that has left its window. Raises what reading that does.
        """
        return self._ask()


@dataclass
class Lineage:
    """The same as a session keeps it.

    Attributes
    ----------
    key, seq : int
    digest : str or None
        None where it has not been asked for yet.
    state : int
        The fork's own number for the state.
    """

    key: int
    seq: int
    digest: str | None = None
    state: int = 0
