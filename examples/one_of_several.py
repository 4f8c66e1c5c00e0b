"""A database and its log on two volumes: only one of them goes back. Run it:

python examples/one_of_several.py

Volumes of one store share one sequence, so a mark names a moment of both. What is done at that
moment may still be done to one of them alone.
"""

import jrnl


def main() -> None:
    store = jrnl.create(volumes={"data": "1MiB", "log": "1MiB"}, journal="4MiB")
    data, log = store["data"], store["log"]
    for k in range(200):
        if k == 100:
            store.mark("half time")
        data.write(k % 10 * 512, b"row %04d" % k)
        log.write(k * 64, b"update of row %04d" % k)

    both = store.plan("half time")
    one = store.plan("half time", volumes=["data"])
    print(f"plan      {both.bytes} bytes for both volumes, {one.bytes} for the data alone")
    assert one.bytes < both.bytes

    with store.view("half time", volumes=["log"]) as view:
        print(f"log then  {view.read(99 * 64, 18).decode()}")
        assert view.read(100 * 64, 18) == bytes(18)  # not yet written

    with store.recover("half time", volumes=["data"]) as recovery:
        restored = recovery.restore()
    print(f"restored  {restored.bytes} bytes: row {data.read(9 * 512, 8).decode()[4:]} is the last")
    assert data.read(9 * 512, 8) == b"row 0099"
    assert log.read(199 * 64, 18) == b"update of row 0199"

    extents = store.diff("half time", store.seq, exact=True)
    print(f"differs   in volumes {sorted(set(extents['volume'].tolist()))}: the log alone")
    assert set(extents["volume"].tolist()) == {list(store).index("log")}
    store.close()


if __name__ == "__main__":
    main()
