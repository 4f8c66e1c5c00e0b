"""The table of operations: what can be asked for by name, and whether it writes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_origin

from jrnl.control import archiving, changing, drawing, inside, looking, taking_out
from jrnl.errors import InvalidArgument, InvalidType

if TYPE_CHECKING:
    from jrnl.control.report import Report

_TYPES = {
    "str": str, "int": int, "bool": bool, "float": float,
    "str | None": str | None, "int | None": int | None, "list[str]": list[str],
    "float | None": float | None,
}  # fmt: skip


class Operation(NamedTuple):
    """Something that can be done to a store, by name.

    Attributes
    ----------
    run : callable
        ``run(store, report, **arguments)``. Arguments and result are what JSON can tell.
    writes : bool
        Whether it takes a store that can be written to, unless its argument `dry_run` is true.
    """

    run: Callable[..., Any]
    writes: bool

    def mode(self, arguments: Mapping[str, Any]) -> str:
        """Return how a store is opened for it: "r" or "r+"."""
        return "r+" if self.writes and arguments.get("dry_run") is not True else "r"

    def check(self, arguments: object) -> None:
        """Raise InvalidArgument or InvalidType where these are not arguments that it takes."""
        if not isinstance(arguments, dict):
            raise InvalidType("arguments are an object, names and values")
        signature = inspect.signature(self.run)
        try:
            signature.bind(None, None, **arguments)
        except TypeError as error:
            raise InvalidArgument(f"{self.run.__name__}: {error}") from error
        for name, value in arguments.items():
            wanted = _TYPES[signature.parameters[name].annotation]
            if not _fits(value, wanted):
                told = signature.parameters[name].annotation
                raise InvalidType(f"{name} must be {told}, not {type(value).__name__}")

    def __call__(self, store: Any, report: Report, arguments: Mapping[str, Any]) -> Any:
        """Do it; raises what it raises, and what `check` does."""
        self.check(arguments)
        return self.run(store, report, **arguments)


def _fits(value: object, wanted: Any) -> bool:
    if isinstance(wanted, UnionType):
        return any(_fits(value, each) for each in get_args(wanted))
    if get_origin(wanted) is list:
        [each] = get_args(wanted)
        return isinstance(value, list) and all(_fits(item, each) for item in value)
    return type(value) is (NoneType if wanted is None else wanted)


OPERATIONS: Mapping[str, Operation] = MappingProxyType({
    "info": Operation(looking.info, writes=False),
    "names": Operation(looking.names, writes=False),
    "log": Operation(looking.log, writes=False),
    "history": Operation(looking.history, writes=False),
    "diff": Operation(looking.diff, writes=False),
    "plan": Operation(looking.plan, writes=False),
    "verify": Operation(looking.verify, writes=False),
    "mark": Operation(changing.mark, writes=True),
    "unpin": Operation(changing.unpin, writes=True),
    "snapshot": Operation(changing.snapshot, writes=True),
    "delete-snapshot": Operation(changing.delete_snapshot, writes=True),
    "restore": Operation(changing.restore, writes=True),
    "rewind": Operation(changing.rewind, writes=True),
    "again": Operation(changing.again, writes=True),
    "delete-recovery": Operation(changing.delete_recovery, writes=True),
    "replay": Operation(changing.replay, writes=True),
    "recover": Operation(taking_out.recover, writes=False),
    "fork": Operation(taking_out.fork, writes=False),
    "export": Operation(taking_out.export, writes=False),
    "export-log": Operation(taking_out.export_log, writes=False),
    "parquet": Operation(taking_out.parquet, writes=False),
    "list-files": Operation(inside.list_files, writes=False),
    "read-file": Operation(inside.read_file, writes=False),
    "plot": Operation(drawing.plot, writes=False),
    "crash": Operation(taking_out.crash, writes=False),
    "crash-state": Operation(taking_out.crash_state, writes=False),
    "archive": Operation(archiving.archive, writes=True),
})  # fmt: skip
