"""Try repairs on copies that cost nothing, and keep the one that works. Run it:

python examples/try_and_throw_away.py

A writable view is a scratch disk over an earlier state: what is written to it stays in it. A view
of a view goes on from what the first one shows. Production goes on meanwhile, and sees none of it.
"""

import jrnl

SECTOR = 512


def is_sound(disk: jrnl.View) -> bool:
    """Every record says its own number."""
    return all(disk.read(k * SECTOR, 9) == b"record %02d" % k for k in range(64))


def main() -> None:
    store = jrnl.create(size="1GiB", journal="8MiB")
    for k in range(64):
        store.volume.write(k * SECTOR, b"record %02d" % k)
    store.volume.write(7 * SECTOR, b"rubbish")
    store.volume.write(9 * SECTOR, b"rubbish")
    broken = store.mark("broken")

    with store.view(broken, writable=True) as scratch:
        scratch.write(7 * SECTOR, b"record 07")  # the first half of a repair
        print(f"half way    sound: {is_sound(scratch)}, {scratch.own_bytes} bytes of its own")
        assert not is_sound(scratch)

        with scratch.view(writable=True) as wrong, scratch.view(writable=True) as right:
            wrong.discard(9 * SECTOR, SECTOR)
            right.write(9 * SECTOR, b"record 09")
            store.volume.write(0, b"the host goes on")
            print(f"two ends    sound: {is_sound(wrong)} and {is_sound(right)}")
            assert (is_sound(wrong), is_sound(right)) == (False, True)
            repaired = right.read(0, 64 * SECTOR)
        assert scratch.read(9 * SECTOR, 7) == b"rubbish"  # neither end came back here

    assert store.volume.read(7 * SECTOR, 7) == b"rubbish"  # production never saw any of it
    assert repaired[9 * SECTOR :].startswith(b"record 09")
    print("thrown away")
    store.close()


if __name__ == "__main__":
    main()
