"""A store served by NBD, the network block device protocol.

::

    with jrnl.nbd.serve(store, unix="disk.sock") as server:
        server.wait()
"""

from jrnl.nbd.listeners import inherited
from jrnl.nbd.server import Server, serve

__all__ = ["Server", "inherited", "serve"]
