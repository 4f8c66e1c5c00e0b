"""The suite's tables: their names, and how rows from the JSON become Markdown."""

from . import workload
from .workload import GIB, MIB


def size(count):
    """A size as a title has it."""
    return f"{count // GIB} GiB" if count % GIB == 0 else f"{count // MIB} MiB"


_COUNT, _SIZE = ("3,000", "4 MiB") if workload.SMALL else ("300,000", "256 MiB")
_EVICTING = f"{size(workload.VOLUME)} volume, {size(workload.JOURNAL)} journal, evicting"

WRITES = f"One 4 KiB write: {_EVICTING}"
SIZES = f"Writes of other sizes: {_EVICTING}"
LATENCY = f"Latency of a 4 KiB write: {_EVICTING}"
RECOVERY = f"Recovery of {_COUNT} skewed 4 KiB writes on {_SIZE} back to the middle"
REWIND = f"Rewind of a {'64 MiB' if workload.SMALL else '4 GiB'} volume"
SNAPSHOT = f"Snapshot of {size(workload.VOLUME)}"
STALL = "What a writing thread waits for while a snapshot is taken, by the volume's size"
SNAPSHOTS = "One 4 KiB write beside many snapshots"
VIEW = "Views: making one, in memory"
VIEW_READ = f"Views: reading at random offsets, aligned, {size(workload.VOLUME)} volume"
SEEK = f"Seeking in an undoable recovery: {size(workload.VOLUME)} volume, 4 KiB an entry"
HISTORY = f"What happened: {'10,000' if workload.SMALL else '1,000,000'} entries"
REPLAY = "Replay of a recorded ext4 history"
FOLD = f"Folding: {size(workload.VOLUME // 4)} volume, a full journal, random 4 KiB writes"
MEMORY = "Peak RAM of a process, less what it had after its imports"

_ON_DISK = f"{size(workload.VOLUME)} volume on disk, {size(workload.DISK_JOURNAL)} journal"
DISK_WRITES = f"One random 4 KiB write: {_ON_DISK}, both images"
DISK_FLUSHES = f"Durable 4 KiB writes: {_ON_DISK}, both images"
DISK_OPENING = "Opening a store on disk"
DISK_STEADY = f"Steady state: {_ON_DISK}, wrapping, a flush every 64 random 4 KiB writes"

ORDER = (
    WRITES,
    SIZES,
    LATENCY,
    RECOVERY,
    REWIND,
    SNAPSHOT,
    STALL,
    SNAPSHOTS,
    VIEW,
    VIEW_READ,
    SEEK,
    HISTORY,
    FOLD,
)
ORDER += (REPLAY, MEMORY)
ORDER += (DISK_WRITES, DISK_FLUSHES, DISK_OPENING, DISK_STEADY)

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
    lines = [head] + [_cells(row, earlier) for row in rows]
    used = [i for i in range(len(head)) if i < 2 or any(line[i] for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in used}
    lines = [[line[i].ljust(widths[i]) for i in used] for line in lines]
    lines.insert(1, ["-" * widths[i] for i in used])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rows_of(results):
    """All rows of a JSON file's content, skipped ones included."""
    rows = [row for case in results["benchmarks"] for row in case["extra_info"].get("rows", ())]
    return rows + results.get("skipped", [])


def render(results, earlier=None):
    """The tables of one run; `earlier` is another run's content, for the last column."""
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
    return "\n\n".join([*tables, _footer(results)])


def _footer(results):
    machine = results["machine_info"]
    disk = results.get("file_system")
    files = f" Files on {disk}." if disk else ""
    return (
        f"Measured on {machine['cpu']['brand_raw']}, {machine['cpu']['count']} cores, "
        f"{machine['system']} {machine['release']}, Python {machine['python_version']}. "
        "A ratio is the median over rounds run in turn with the yardstick, in brackets the middle "
        f"half of them.{files}"
    )


def put_between_markers(text, tables):
    """`text` with `tables` between the README's markers; ValueError where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"
