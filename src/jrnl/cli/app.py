"""The application: all commands, by what they are for, and how their errors are told."""

from __future__ import annotations

from typing import Any

import rich_click as click

from jrnl import __version__
from jrnl.cli.archiving import archive
from jrnl.cli.bringing_back import archive_verify, drill, follow, restore_from
from jrnl.cli.common import ASKED
from jrnl.cli.going_back import again, export, recover, restore, rewind
from jrnl.cli.looking import diff, history, info, log, plan, verify
from jrnl.cli.making import create, mark, replay, snapshot
from jrnl.cli.serving import serve
from jrnl.cli.taking_out import export_log, files, fork, plot
from jrnl.cli.tell import complain
from jrnl.cli.testing import bench, crash, demo
from jrnl.errors import JrnlError

TASKS = {
    "Make, and name states": [create, mark, snapshot, replay],
    "Look": [info, log, diff, history, files, plan, verify],
    "Go back": [recover, restore, again, rewind],
    "Serve": [serve],
    "Keep elsewhere": [archive, restore_from, follow, drill, archive_verify],
    "Take out": [fork, export, export_log, plot],
    "Test": [crash, bench, demo],
}
_NAME = "jrnlctl"


class _App(click.RichGroup):
    """All commands; what they cannot make anything of in an answer is an error, told as one."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is asked for."""
        try:
            return super().invoke(ctx)
        except (JrnlError, OSError):
            raise
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            if ASKED not in ctx.meta:
                raise
            raise JrnlError(
                "the serving process gave an answer that cannot be read "
                f"({type(error).__name__}: {error}); is it of the same version of jrnl?"
            ) from error


@click.group(
    cls=_App, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name=_NAME)
def app() -> None:
    """Give block volumes a memory: every earlier state rebuilt, restored, rewound to.

    A store is a folder with volumes and a journal of all that was written to them. A POINT names
    a state: the number of an entry, the name of a mark or a snapshot, or a time like
    2026-03-01T12:00, which without a zone is local time.
    """


for _commands in TASKS.values():
    for _command in _commands:
        app.add_command(_command)

click.rich_click.COMMAND_GROUPS = {
    _NAME: [
        {"name": task, "commands": [str(command.name) for command in commands]}
        for task, commands in TASKS.items()
    ]
}


def run(arguments: list[str]) -> int:
    """Run the command; return its exit code. Raises what is no mistake in the arguments."""
    try:
        code = app.main(args=arguments, prog_name=_NAME, standalone_mode=False)
    except click.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # which older versions of click lack
            error.show()
            return int(error.exit_code)
        where = error.ctx.command_path if error.ctx is not None else _NAME
        complain(f"{error.format_message()} (see {where} --help)")
        return int(error.exit_code)
    except click.ClickException as error:
        complain(error.format_message())
        return int(error.exit_code)
    except click.Abort as error:
        raise KeyboardInterrupt from error
    return code if isinstance(code, int) else 0
