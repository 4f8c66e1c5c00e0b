"""Packages that only optional parts need: imported when one is used, and missed with a word."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from jrnl.errors import MissingPackage


def need(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Raises
    ------
    MissingPackage
        It is not installed; the message names the extra that has it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"{module} cannot be imported ({error}): pip install 'jrnl-engine[{extra}]'",
            name=module,
        ) from error
