"""What a full journal does: forget, fold, or keep what was promised. Run it:

python examples/keep_and_fold.py

A journal is a ring. When it is full the oldest entries leave, unless a pin keeps them. With
overflow="fold" they leave into the oldest snapshot, which goes on over them.
"""

from datetime import timedelta

import jrnl


def write(store: jrnl.Store, count: int) -> int:
    """Write until the journal says no; return how many writes were done."""
    for k in range(count):
        try:
            store.volume.write(k % 64 * 1024, b"%08d" % k * 64)
        except jrnl.JournalFull:
            return k
    return count


def main() -> None:
    store = jrnl.create(size="64KiB", journal="64KiB")
    store.mark("promised", pinned=True)
    done = write(store, 1000)
    print(f"pinned    {done} writes, then JournalFull; the window is {tuple(store.window)}")
    assert done < 1000
    assert store.window.oldest <= store.marks["promised"].seq
    store.unpin("promised")
    assert write(store, 1000) == 1000
    print(f"unpinned  1000 writes; the window is {tuple(store.window)}")
    assert "promised" not in store.marks

    store = jrnl.create(size="64KiB", journal="64KiB", overflow="fold")
    store.snapshot("first", pinned=True)
    store.snapshot("rolling")
    assert write(store, 1000) == 1000
    first, rolling = store.snapshots["first"], store.snapshots["rolling"]
    print(f"folded    'first' is at {first.seq}, 'rolling' at {rolling.seq}: the window's start")
    assert (first.seq, rolling.seq) == (0, store.window.oldest)
    with store.recover(store.seq - 1, base="rolling") as recovery:
        assert recovery.plan.base == "rolling"
        assert recovery.read(998 % 64 * 1024, 8) == b"00000998"

    now = [0]
    store = jrnl.create(size="64KiB", journal="64KiB", clock=lambda: now[0],
                        keep_at_most=timedelta(hours=1))  # fmt: skip
    for _ in range(90):
        now[0] += 60 * 10**9
        store.volume.write(0, b"a minute later")
    oldest, newest = store.window_time
    print(f"by time   states of {newest - oldest} are kept, {store.seq} were made")
    assert timedelta(minutes=59) <= newest - oldest <= timedelta(minutes=61)


if __name__ == "__main__":
    main()
