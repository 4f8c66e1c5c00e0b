"""A recorded disk history in pictures: mkfs, then 300 SQLite transactions on ext4.

Run it: python examples/plot_a_trace.py [FOLDER]. It writes timeline.png, timeline.svg and
timeline.html there, by default where it is run: pictures of the store that the history was replayed
into, with two marks, a snapshot, and a rewind at the end. Needs matplotlib: pip install
'jrnl-engine[plot]'.
"""

import sys
from pathlib import Path

import jrnl

TRACE = Path(__file__).parents[1] / "tests" / "data" / "ext4-sqlite.log.xz"


def replayed() -> jrnl.Store:
    """Return a store with the history in it, and some of the things that a user does."""
    store = jrnl.create(size="64MiB", journal="16MiB")

    def act(done: int, total: int) -> None:  # called every 256 entries of the log
        if done == 256:
            store.mark("mounted")
        elif done == 1024:
            store.snapshot("nightly")
        elif done == 2048:
            store.mark("upgrade")
        elif done == total:
            store.rewind("upgrade")

    jrnl.logwrites.replay(TRACE, store.volume, act)
    return store


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    with replayed() as store:
        title = "What was written where, and when: mkfs.ext4, then 300 SQLite transactions"
        figure = jrnl.plot.timeline(store, by="seq", title=title)
        figure.savefig(folder / "timeline.png", dpi=100)
        figure.savefig(folder / "timeline.svg")
        jrnl.plot.page(store, folder / "timeline.html", title="300 SQLite transactions on ext4")
        hottest = store.heat("64KiB", bins=1, kinds="write")[0].argmax()
    for kind in ("png", "svg", "html"):
        print(f"wrote     timeline.{kind}, {(folder / f'timeline.{kind}').stat().st_size} bytes")
    print(f"hottest   the 64 KiB from byte {hottest * (64 << 10)} on")


if __name__ == "__main__":
    main()
