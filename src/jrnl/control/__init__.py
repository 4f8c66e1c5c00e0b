"""What can be done to a store from outside its process, by name: one table, two ways to it.

    control.call("disk.jrnl", "rewind", {"to": "good"})

does it in this process, or where another one serves the store, in that one, through a socket in the
store's folder.

call            do it, wherever the store is
ControlServer   let others do it to a store of this process
is_served       whether another process serves it
OPERATIONS      what there is
"""

from jrnl.control.call import call, is_served
from jrnl.control.report import Report
from jrnl.control.server import ControlServer
from jrnl.control.table import OPERATIONS, Operation

__all__ = ["OPERATIONS", "ControlServer", "Operation", "Report", "call", "is_served"]
