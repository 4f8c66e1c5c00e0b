"""A ledger, a script that ruins it, and every way back. Run it: python examples/undo_a_bad_day.py.

A thousand accounts of eight bytes lie in a volume. Whatever happens to them, their sum has to stay
what it was in the morning.
"""

import random

import numpy as np
from numpy.typing import NDArray

import jrnl

ACCOUNTS = 1000
STARTING_BALANCE = 100


def balances(content: bytes) -> NDArray[np.int64]:
    return np.frombuffer(content, "<i8")


def total_of(source: jrnl.Volume | jrnl.Snapshot | jrnl.View | jrnl.Recovery) -> int:
    """The sum of all accounts, as a volume has them, or any earlier state."""
    return int(balances(source.read(0, 8 * ACCOUNTS)).sum())


def transfer(ledger: jrnl.Volume, payer: int, payee: int, amount: int) -> None:
    for account, change in ((payer, -amount), (payee, +amount)):
        balance = int.from_bytes(ledger.read(8 * account, 8), "little", signed=True) + change
        if balance < 0:
            raise ValueError(f"account {account} cannot pay {amount}")
        ledger.write(8 * account, balance.to_bytes(8, "little", signed=True))


def work(ledger: jrnl.Volume, count: int) -> None:
    for _ in range(count):
        payer, payee = random.sample(range(ACCOUNTS), 2)
        transfer(ledger, payer, payee, 1)


def main() -> None:
    random.seed(1)
    store = jrnl.create(size="64KiB", journal="4MiB")
    ledger = store.volume
    ledger.write(0, np.full(ACCOUNTS, STARTING_BALANCE, "<i8"))
    store.snapshot("morning")
    print(f"morning    state {store.seq}, {total_of(ledger):,} in all accounts")

    work(ledger, 1000)
    store.mark("noon")
    print(f"noon       state {store.seq}, {total_of(ledger):,}")

    # The bad script: it pays out of nothing, and wipes what it no longer needs.
    for account in random.sample(range(ACCOUNTS), 300):
        ledger.write(8 * account, (10**6).to_bytes(8, "little"))
    ledger.discard(0, 2000)
    print(f"bad day    state {store.seq}, {total_of(ledger):,}")

    # Look first. A plan moves nothing, a view copies nothing, a recovery leaves production alone.
    plan = store.plan("noon")
    print(f"plan       {plan.route} from {plan.base}: {plan.bytes} bytes, {plan.entries} entries")
    with store.view("noon") as view:
        print(f"view       {total_of(view):,} at noon")
    recovery = store.recover("noon")
    print(f"recover    {total_of(recovery):,} at noon, {total_of(ledger):,} in production still")

    # Copy it back. The restore is journaled like any write, so it can be undone too.
    restored = recovery.restore()
    print(f"restore    {restored.bytes} bytes written, {total_of(ledger):,}")
    undo = store.recover(restored.first_seq - 1)
    print(f"undo       the state before the restore is still there: {total_of(undo):,}")
    undo.close()

    # The script runs again. So does the recovery, from the copy that it preserved.
    ledger.write_zeroes(0, 8 * ACCOUNTS)
    print(f"worse      {total_of(ledger):,}")
    recovery.again().restore()
    print(f"again      {total_of(ledger):,}")
    for open_recovery in store.recoveries.values():
        open_recovery.close()

    # An exception in a savepoint puts everything back that was written in it.
    try:
        with store.savepoint():
            transfer(ledger, 1, 2, 1)
            transfer(ledger, 1, 2, 10**9)
    except ValueError as error:
        print(f"savepoint  {error}: {total_of(ledger):,}")

    # Rewind puts production itself back, in place, and forgets what came after.
    rewound = store.rewind("noon")
    print(f"rewind     {rewound.entries} entries dropped, {rewound.bytes} bytes put back")
    print(f"evening    state {store.seq}, {total_of(ledger):,}, {store.window}")

    assert total_of(ledger) == ACCOUNTS * STARTING_BALANCE
    assert store.verify().ok
    store.close()


if __name__ == "__main__":
    main()
