"""Looks at a task of the package after each of its own opcodes."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import jrnl

SOURCE = os.path.dirname(jrnl.__file__)


class Opcodes:
    """Calls `step` before each opcode of the package's Python code, while tracing is on."""

    def during(self, task: Callable[[], object]) -> object:
        """Run a task."""
        gc.collect()  # what others have left would be counted
        gc.disable()
        sys.settrace(self._enter)
        try:
            return task()
        finally:
            sys.settrace(None)
            gc.enable()

    def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCE):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._look

    def _look(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode":
            self.step(frame)
        return self._look
