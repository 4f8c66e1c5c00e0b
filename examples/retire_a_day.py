"""Every state of today, one of each day before. Run it:

python examples/retire_a_day.py

The journal remembers each write, but only as many as it holds. A snapshot at the end of each day
keeps that day's last state for as long as it is wanted, whatever the journal forgets.
"""

import jrnl

KEPT_DAYS = 3
WRITES_A_DAY = 600


def work(store: jrnl.Store, day: int) -> None:
    for number in range(WRITES_A_DAY):
        store.volume.write(number * 64, f"day {day}, write {number}".encode().ljust(64))


def retire(store: jrnl.Store, day: int) -> None:
    """The day's end: keep its last state, and let go of the oldest day that is kept."""
    store.snapshot(f"day-{day}")
    for name in list(store.snapshots)[:-KEPT_DAYS]:
        store.snapshots[name].delete()


def main() -> None:
    store = jrnl.create(size="64KiB", journal="96KiB")
    for day in range(1, 7):
        work(store, day)
        retire(store, day)
        print(f"day {day}      snapshots {', '.join(store.snapshots)}; journal {store.window}")
    assert list(store.snapshots) == ["day-4", "day-5", "day-6"]

    # Any write of the last hours, by its number; the end of any day that is kept, by its name.
    with store.view(store.seq - 10) as view:
        print(f"today      {view.read(599 * 64, 64).decode().strip()!r} ten writes ago")
        assert view.read(599 * 64, 64).startswith(b"day 5, write 599")
    old = store.snapshots["day-4"]
    assert old.seq < store.window.oldest, "only the snapshot has it"
    print(f"day 4      {old.read(0, 64).decode().strip()!r}")

    # What has changed since? And back to it, which the journal can undo.
    changed = store.diff("day-4", store.seq)
    print(f"diff       {int(changed['length'].sum())} bytes in {len(changed)} extents since day 4")
    recovery = store.recover("day-4")
    done = recovery.restore()
    assert store.volume.read(0, 64).startswith(b"day 4")
    store.rewind(done.first_seq - 1)
    assert store.volume.read(0, 64).startswith(b"day 6")
    print("restored   day 4, and rewound to today")
    try:
        store.recover("day-1")
    except jrnl.UnknownPoint as error:
        print(f"day 1      {error}")
    assert store.verify().ok
    store.close()


if __name__ == "__main__":
    main()
