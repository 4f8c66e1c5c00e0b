"""The suite's tables: their names, and how rows from the JSON become Markdown."""

from . import workload
from .workload import GIB, MIB


def size(count):
    """A size as a title has it."""
    return f"{count // GIB} GiB" if count % GIB == 0 else f"{count // MIB} MiB"


_COUNT, _SIZE = ("3,000", "4 MiB") if workload.SMALL else ("300,000", "256 MiB")
_EVICTING = f"{size(workload.VOLUME)} volume, {size(workload.JOURNAL)} journal, evicting"

WRITES = f"One 4 KiB write: {_EVICTING}"
FIXED = f"{WRITES}, by the best of fixed kernels with the same look-ahead"
FORCED = "The write rows with each kernel forced"
KERNELS = "Which kernel is the best on this processor: 4 KiB writes"
ODD = "Odd offsets and odd buffers: 4 KiB, by even ones in the same store"
FILES = "Writes of 100 bytes through `as_file()`"
SPARSE = f"A sparse 8 TiB volume, by one of {size(workload.VOLUME)}: as many blocks in use in both"
OPEN = "One 4 KiB write beside open recoveries and views of states all over the window"
THREADS = "Writes from several threads, each to a volume of its own, one store"
SIZES = f"Writes of other sizes: {_EVICTING}"
LATENCY = f"Latency of a 4 KiB write: {_EVICTING}"
RECOVERY = f"Recovery of {_COUNT} skewed 4 KiB writes on {_SIZE} back to the middle"
REWIND = f"Rewind of a {'64 MiB' if workload.SMALL else '4 GiB'} volume"
SNAPSHOT = f"Snapshot of {size(workload.VOLUME)}"
STALL = "What a writing thread waits for while a snapshot is taken, by the volume's size"
SNAPSHOTS = "One 4 KiB write beside many snapshots"
VIEW = "Views: making one, in memory"
FORK = "Forks in memory"
VIEW_READ = f"Views: reading at random offsets, aligned, {size(workload.VOLUME)} volume"
RESTORE = "Restoring 64 bytes, a snapshot in the store, by the volume's size"
SEEK = f"Seeking in an undoable recovery: {size(workload.VOLUME)} volume, 4 KiB an entry"
HISTORY = f"What happened: {'10,000' if workload.SMALL else '1,000,000'} entries"
CRASH_STATES = "Crash states of the same history, 64 MiB volume, from when SQLite writes"
REPLAY = "Replay of a recorded ext4 history"
FOLD = f"Folding: {size(workload.VOLUME // 4)} volume, a full journal, random 4 KiB writes"
NBD = f"NBD, by fio over a Unix socket: {size(workload.VOLUME)} volume"
ARCHIVE = "Archives: SeaweedFS on the same machine"
MEMORY = "Peak RAM of a process, less what it had after its imports"

_ON_DISK = f"{size(workload.VOLUME)} volume on disk, {size(workload.DISK_JOURNAL)} journal"
DISK_WRITES = f"One random 4 KiB write: {_ON_DISK}, both images"
DISK_FLUSHES = f"Durable 4 KiB writes: {_ON_DISK}, both images"
DISK_OPENING = "Opening a store on disk"
DISK_STEADY = f"Steady state: {_ON_DISK}, wrapping, a flush every 64 random 4 KiB writes"

ORDER = (
    WRITES,
    FIXED,
    KERNELS,
    SIZES,
    ODD,
    FILES,
    SPARSE,
    OPEN,
    THREADS,
    LATENCY,
    RECOVERY,
    REWIND,
    RESTORE,
    SNAPSHOT,
    STALL,
    SNAPSHOTS,
    VIEW,
    FORK,
    VIEW_READ,
    SEEK,
    HISTORY,
    FOLD,
)
ORDER += (REPLAY, CRASH_STATES, NBD, ARCHIVE, MEMORY)
ORDER += (DISK_WRITES, DISK_FLUSHES, DISK_OPENING, DISK_STEADY)

# The README's few lines: a row each, and what it is called where its table's title is not there.
HEADLINES = (
    (WRITES, "`write`, by the call", "4 KiB `write`"),
    (WRITES, f"`write_many`, {workload.BATCH} a batch", "4 KiB in `write_many`"),
    (WRITES, "memoryview slices, by the call", "4 KiB by memoryview slices, by hand"),
    (WRITES, "NumPy slices, by the call", "4 KiB by NumPy slices, by hand"),
    (RECOVERY, "`recover`, image shares its base", f"`recover` over {_COUNT} writes"),
    (REWIND, "`rewind`, 1,000 dirty blocks", "`rewind` of 1,000 blocks of 4 GiB"),
    (DISK_WRITES, "`write`, between flushes; beside a file", "4 KiB `write` on disk"),
    (DISK_FLUSHES, "`write`, `flush`", "4 KiB `write` and `flush` on disk"),
)

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def quantity(value, unit):
    """A number with the prefix that a person would give it."""
    if unit == "ns":
        for step, name in ((1e4, "ns"), (1e7, "µs"), (1e10, "ms")):
            if value < step:
                scaled = value * 1e4 / step
                return f"{scaled:,.0f} {name}" if scaled >= 100 else f"{scaled:.1f} {name}"
        return f"{value / 1e9:,.1f} s"
    if unit == "bytes":
        return f"{value / MIB:,.0f} MiB"
    return f"{value:,.0f} {unit}"


def _ratio(row):
    if "ratio" not in row:
        return ""
    low, high = f"{row['ratio_low']:.2f}", f"{row['ratio_high']:.2f}"
    return f"{row['ratio']:.2f}" + (f" ({low} to {high})" if low != high else "")


def _target(row):
    if row.get("target") is None:
        return ""
    if "ratio" not in row:
        return f"{row['target']:.2f}"
    return f"{row['target']:.2f} {'met' if row['ratio'] <= row['target'] else 'MISSED'}"


def _cells(row, earlier):
    survives = [row.get("killed", ""), row.get("power", "")]
    if "value" not in row:
        return [row["name"], row["note"], "", "", "", "", *survives]
    yardstick = ""
    if "yardstick_value" in row:
        yardstick = f"{row['yardstick']} {quantity(row['yardstick_value'], row['unit'])}"
    before = earlier.get((row["table"], row["name"]))
    then = ""
    if before:
        then = _ratio(before).split(" ")[0] or quantity(before["value"], before["unit"])
    name = f"{row['name']}; {row['note']}" if row["note"] else row["name"]
    measured = quantity(row["value"], row["unit"])
    return [name, measured, yardstick, _ratio(row), _target(row), then, *survives]


def _markdown(title, rows, earlier):
    head = [title, "measured", "yardstick", "ratio", "target", "earlier"]
    head += ["survives SIGKILL", "survives power loss"]
    return _grid([head] + [_cells(row, earlier) for row in rows])


def _grid(lines):
    """Lines of cells as a table; a column without content is left out."""
    head = lines[0]
    used = [i for i in range(len(head)) if i < 2 or any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in used}
    lines = [[line[i].ljust(widths[i]) for i in used] for line in lines]
    lines.insert(1, ["-" * widths[i] for i in used])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rows_of(results):
    """All rows of a JSON file's content, skipped ones included."""
    rows = [row for case in results["benchmarks"] for row in case["extra_info"].get("rows", ())]
    return rows + results.get("skipped", [])


def render(results, earlier=None, forced=()):
    """The tables of one run; `earlier` is another run's content, for the last column, and `forced`
    are the contents of the runs with each kernel forced, for a table of their own."""
    known = {
        (row["table"], row["name"]): row
        for row in (rows_of(earlier) if earlier else ())
        if "value" in row
    }
    rows = sorted(rows_of(results), key=lambda row: row["instead"])
    tables = []
    for title in ORDER:
        chosen = [row for row in rows if row["table"] == title]
        if chosen:
            tables.append(_markdown(title, chosen, known))
        if title == FIXED and forced:
            tables.append(render_forced(forced))
    return "\n\n".join([*tables, _footer(results)])


def render_headlines(results, forced=()):
    """The lines of HEADLINES for the README, and how they fare with the worst of the kernels."""
    found = {(row["table"], row["name"]): row for row in rows_of(results)}
    worst = {}
    for key, rows in _forced_ratios(forced).items():
        worst[key] = max(row["ratio"] for row in rows.values())
    lines = [["", "measured", "yardstick", "ratio", "target", "with the worst kernel"]]
    for table, name, label in HEADLINES:
        if (table, name) in found:
            _, *cells = _cells(found[table, name], {})[:5]
            slowest = worst.get((table, name))
            lines.append([label, *cells, f"{slowest:.2f}" if slowest else ""])
    return f"{_grid(lines)}\n\n{_footer(results)}"


def _forced_ratios(runs):
    """By table and name: the rows that have a target, by the run's name."""
    ratios = {}
    for run in runs:
        for row in rows_of(run):
            if row.get("target") is not None and "ratio" in row:
                by_run = ratios.setdefault((row["table"], row["name"]), {})
                by_run[_run_name(run["machine_info"]["jrnl"])] = row
    return ratios


def render_forced(runs):
    """A row for each figure that has a target, a column for each run; the worst of all counts."""
    columns = [_run_name(run["machine_info"]["jrnl"]) for run in runs]
    ratios = _forced_ratios(runs)
    lines = [[FORCED, *columns, "the worst", "target"]]
    for _, by_run in sorted(ratios.items(), key=lambda item: ORDER.index(item[0][0])):
        worst = max(by_run.values(), key=lambda row: row["ratio"])
        found = [by_run.get(column) for column in columns]
        cells = [f"{row['ratio']:.2f}{_noise(row)}" if row else "" for row in found]
        name = f"{worst['name']}; by {worst['yardstick']}"
        lines.append([name, *cells, f"{worst['ratio']:.2f}{_noise(worst)}", _target(worst)])
    return f"{_grid(lines)}\n\n{_forced_footer(runs)}"


def _run_name(jrnl):
    return f"{jrnl['kernel']}, tuned" if jrnl["tunables"] else jrnl["kernel"]


def _noise(row):
    return " noisy" if "noisy" in row["note"] else ""


def _forced_footer(runs):
    machines = [run["machine_info"] for run in runs]
    processors = {f"{each['cpu']['brand_raw']} ({each['jrnl']['processor']})" for each in machines}
    tuned = {each["jrnl"]["tunables"] for each in machines} - {""}
    with_what = "".join(f" Tuned: with GLIBC_TUNABLES={value}." for value in sorted(tuned))
    return f"On {', '.join(sorted(processors))}.{with_what}"


def _footer(results):
    machine = results["machine_info"]
    disk = results.get("file_system")
    files = f" Files on {disk}." if disk else ""
    return (
        f"Measured on {machine['cpu']['brand_raw']}{_kind_of(machine)}, "
        f"{machine['cpu']['count']} cores, "
        f"{machine['system']} {machine['release']}, Python {machine['python_version']}. "
        "A ratio is the median over rounds run in turn with the yardstick, in brackets the middle "
        f"half of them.{files}"
    )


def _kind_of(machine):
    """The processor's family and model, jrnl's kernel, and what steers the libc's memcpy."""
    jrnl = machine.get("jrnl")
    if not jrnl:
        return ""
    tunables = f", GLIBC_TUNABLES={jrnl['tunables']}" if jrnl["tunables"] else ""
    return f" ({jrnl['processor']}; kernel {jrnl['kernel']}; {jrnl['libc']}{tunables})"


def put_between_markers(text, tables):
    """`text` with `tables` between its markers; ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"
