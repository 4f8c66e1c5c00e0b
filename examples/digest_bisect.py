"""Which write broke it? Halve the history until one is left. Run it:

python examples/digest_bisect.py

A program ran twice over the same input, and the results differ. Each run kept its states; a digest
names a whole state in 32 digits, so a few of them tell where the runs went different ways.
"""

import random

import jrnl

WRITES = 1000
GLITCH = 617  # what is looked for


def run(glitch_at: int | None) -> jrnl.Store:
    """The program: a thousand updates of a table. One of the runs gets a bit wrong."""
    numbers = random.Random(7)
    store = jrnl.create(size="64KiB", journal="1MiB")
    for count, offset in enumerate(numbers.sample(range(0, 65536, 16), WRITES), 1):
        value = numbers.getrandbits(64)
        if count == glitch_at:
            value ^= 1
        store.volume.write(offset, value.to_bytes(16, "little"))
    return store


def main() -> None:
    good, bad = run(None), run(GLITCH)
    print(f"end        {good.digest()[:12]}... is not {bad.digest()[:12]}...")
    asked = []

    def same(state: jrnl.State) -> bool:
        asked.append(state.seq)
        return state.digest() == good.digest(state.seq)

    # From the glitch on, the states differ: the first one that does is found by halves.
    # Not in range(seq + 1): old states leave the journal, and a rewind leaves out seqs.
    first, states = bad.bisect(same), bad.states()
    print(
        f"bisected   {len(asked)} of {len(states)} states looked at, the first to differ is {first}"
    )
    assert first == GLITCH

    # Entry `first` made it. Views of that state show what each run wrote.
    (entry,) = bad.journal.between(first, first)
    offset, length = int(entry["offset"]), int(entry["length"])
    with good.view(first) as wanted, bad.view(first) as got:
        print(f"good       entry {first} at {offset}: {wanted.read(offset, length).hex()}")
        print(f"bad        entry {first} at {offset}: {got.read(offset, length).hex()}")
        (extent,) = wanted.diff(got)  # of any two states, of different stores, too
        assert (extent["offset"], extent["length"]) == (offset, 1)
        assert wanted.read(offset, 1)[0] ^ got.read(offset, 1)[0] == 1
    good.close()
    bad.close()


if __name__ == "__main__":
    main()
