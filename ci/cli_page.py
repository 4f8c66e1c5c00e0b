"""Write docs/cli.md, the page of the command, from the commands themselves."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import rich_click as click

from jrnl.cli.app import TASKS, app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """\
# The command

`jrnlctl`, the same as `python -m jrnl`, comes with `pip install 'jrnl-engine[cli]'`. This page is
made from the commands by `python ci/cli_page.py`; `jrnlctl COMMAND --help` says the same.

- **A store** is a folder that `jrnlctl create` makes. Commands that only look open it for reading,
  so that several can look at once.
- **While a store is served** the commands work on it all the same, through the serving process: it
  listens at `control.sock` in the store's folder, which only the same user and root can ask. One
  that a killed process has left is noticed. Paths that are given are those of the asking process;
  what `crash --check` names is run by the serving one.
- **A POINT** names a state: the number of an entry, the name of a mark or a snapshot, or a time in
  ISO 8601, such as `2026-03-01T12:00` or `2026-03-01T12:00:00.25Z`. A time means the last state at
  or before it, and without a zone it is local time: of the machine and the user that type it. All
  digits are always a number. Times are shown in local time, and exact, in UTC, with `--json`.
- **A SIZE** is a number of bytes, or like `512B`, `64KiB`, `64MiB`, `1GiB`, `1TiB`.
- **Exit code:** 0; 2 where the arguments make no command; 1 for anything else that has not been
  done, and for what is found wrong by `verify` and `crash`; 130 after Ctrl-C. What is wrong is one
  line on standard error; so is what a command says when its file is `/dev/stdout`.
- **`--json`** gives exact figures, bytes and UTC, as one JSON object on one line, `log --json` one
  for each entry.
- **What destroys asks first**, on a terminal; elsewhere it takes `--yes`. `--dry-run` says what it
  would do, and changes nothing, whatever else is given.
- **Nothing is written into the store's folder**, nor to a file of it by another name.
- **Shell completion**, also of marks, snapshots and volumes:

  ```sh
  eval "$(_JRNLCTL_COMPLETE=bash_source jrnlctl)"       # in ~/.bashrc; zsh_source for zsh
  _JRNLCTL_COMPLETE=fish_source jrnlctl | source        # in ~/.config/fish/completions/jrnlctl.fish
  ```
"""


def page() -> str:
    """Return the page's text."""
    parts = [HEAD]
    for task, commands in TASKS.items():
        parts.append(f"## {task}\n")
        parts += [_section(command) for command in commands]
    return "\n".join(parts)


def _section(command: click.RichCommand) -> str:
    context = click.RichContext(command, parent=click.RichContext(app, info_name="jrnlctl"),
                                info_name=command.name)  # fmt: skip
    text, _, examples = inspect.cleandoc(command.help or "").partition("\n\n\b\n")
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [f"### {command.name}\n", f"    jrnlctl {command.name} {usage}\n", text, ""]
    rows = list(_options(command, context))
    if rows:
        lines += ["| option | |", "|---|---|", *rows, ""]
    shown = "\n".join(line.strip() for line in examples.splitlines()[1:])
    lines += ["```sh", shown, "```", ""]
    return "\n".join(lines)


def _options(command: click.RichCommand, context: click.RichContext) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None:
            names, told = (re.sub(r"\s+", " ", part).replace("|", "\\|") for part in record)
            yield f"| `{names}` | {told.strip()} |"


if __name__ == "__main__":
    PAGE.write_text(page())
