"""Going back by replaying over a newer image misleads; a history that is read in place does not.

Run it: python examples/going_back.py. It needs xfsprogs.

Who has a log of writes and a disk that is at its end often goes back by replaying the log's first
part over that disk. What only the later part wrote stays. XFS minds that more than others: its
metadata carries the number of the log record that changed it last (LSN). What has a number that the
log has not come to yet is taken for damage ("Metadata has LSN ahead of current LSN", says the
kernel, and refuses it), and where a record of the log is older than what it would change, it is not
replayed. So a state that was whole is reported broken.

The log was recorded below the kernel's XFS: a file system is made, mounted for one directory, and
once more for six. The replayer here has what was written since the file system was made.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

import jrnl
from jrnl.logwrites import LogHistory, LogView

LOG = Path(__file__).resolve().parent.parent / "tests" / "data" / "xfs-dirs.log.xz"
THEN = "one directory"


def tool(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is not there; it is in the package xfsprogs")
    return found


def faults(state: LogView) -> list[str]:
    """What xfs_repair would mend, and what it says of numbers."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "xfs.img"
        subprocess.run(["cp", state.path(), copy], check=True)
        said = ""
        for options in (["-n"], []):  # only looking, and mending it
            command = [tool("xfs_repair"), *options, str(copy)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            said += done.stdout + done.stderr
    signs = ("would ", "disconnected dir", "counted", "ahead of log")
    return [line.strip() for line in said.splitlines() if any(sign in line for sign in signs)]


def replayed_over_newer(log: LogHistory) -> LogView:
    """The disk at the log's end, and over it what was written up to then, as a replayer does."""
    disk = log.view(log.seq, writable=True)
    for entry in range(log.marks["made"] + 1, log.marks[THEN] + 1):
        offset, length, *_ = log.entries[entry - 1].tolist()
        content = bytearray(length)
        if length:
            log.content(entry, offset, content)
            disk.write(offset, content)
    return disk


def main() -> None:
    with jrnl.logwrites.attach(LOG, size="300MiB") as log:
        with log.view(log.seq) as newest:
            print(f"newest    {len(faults(newest))} faults")
        with log.view(THEN) as exact, replayed_over_newer(log) as misled:
            exact_faults, misled_faults = faults(exact), faults(misled)
            print(f"exact     {len(exact_faults)} faults: it was whole")
            print(f"misled    {len(misled_faults)} faults, such as")
            for line in (misled_faults[0], misled_faults[-1]):
                print(f"          {line}")
            stayed = misled.diff(exact)["length"].sum()
            print(f"stayed    {stayed:,} bytes of the future")
        assert not exact_faults
        assert misled_faults


if __name__ == "__main__":
    main()
