"""Try repairs on a scratch disk, throw away those that fail, and do the one that works. Run it:

python examples/try_and_throw_away.py

A writable view is a scratch disk over an earlier state: what is written to it stays in it, takes
memory in blocks of 4 KiB, and goes when it is closed. A view of a view goes on from what the first
one shows. Production goes on meanwhile, and sees none of it.
"""

from collections.abc import Callable

import jrnl

SECTOR = 512
COUNT = 64

Disk = jrnl.View | jrnl.Volume  # a repair does not care which of them it is given
Repair = Callable[[Disk], None]


def is_sound(disk: Disk) -> bool:
    """Every record says its own number."""
    return all(disk.read(k * SECTOR, 9) == b"record %02d" % k for k in range(COUNT))


def wipe(disk: Disk) -> None:
    disk.discard(9 * SECTOR, SECTOR)


def mend(disk: Disk) -> None:
    disk.write(9 * SECTOR, b"record 09")


def main() -> None:
    store = jrnl.create(size="1GiB", journal="8MiB")
    production = store.volume
    for k in range(COUNT):
        production.write(k * SECTOR, b"record %02d" % k)
    production.write(7 * SECTOR, b"rubbish")
    production.write(9 * SECTOR, b"rubbish")
    broken = store.mark("broken")

    works: Repair | None = None
    with store.view(broken, writable=True) as scratch:
        scratch.write(7 * SECTOR, b"record 07")  # what any repair begins with
        print(f"half way    sound: {is_sound(scratch)}, {scratch.own_bytes} bytes of its own")
        assert not is_sound(scratch)

        # Two ways to end it, each on a view of its own of what has been done so far.
        for repair in (wipe, mend):
            with scratch.view(writable=True) as trial:
                repair(trial)
                print(f"{repair.__name__:11} sound: {is_sound(trial)}")
                if is_sound(trial):
                    works = repair
            production.write(0, b"record 00, and the host goes on")
        assert scratch.read(9 * SECTOR, 7) == b"rubbish"  # neither trial came back here

    assert production.read(7 * SECTOR, 7) == b"rubbish"  # production never saw any of it
    print("thrown away what was written to the views")

    # What works is done to production: all of it, or on an exception nothing.
    assert works is mend
    with store.savepoint():
        production.write(7 * SECTOR, b"record 07")
        works(production)
        assert is_sound(production)
    assert production.read(0, 31) == b"record 00, and the host goes on"
    print(f"kept        {works.__name__}: production is sound: {is_sound(production)}")
    store.close()


if __name__ == "__main__":
    main()
