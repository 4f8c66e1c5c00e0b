"""``python -m jrnl``: the command without its script."""

import sys

from jrnl.cli import main

sys.exit(main())
