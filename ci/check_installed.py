"""Check that an installed jrnl carries what embedders need. Run it outside of the source tree."""

from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import jrnl

package = Path(jrnl.__file__).parent
assert "site-packages" in package.parts, f"jrnl comes from {package}, not from an installation"

carried = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
needed = {"_core.pyi", "api.pxd", "disk/open.py", "include/jrnl.h", "py.typed"}
needed |= {f"plot/assets/page.{kind}" for kind in ("html", "css", "js")}
assert needed <= carried, f"the wheel lacks {sorted(needed - carried)}"

unwanted = {name for name in carried if name.endswith((".c", ".pyx", ".pxi"))}
assert not unwanted, f"the wheel carries {sorted(unwanted)}"

header = Path(jrnl.get_include(), "jrnl.h")
assert header.is_file(), f"jrnl.get_include() has no jrnl.h: {header}"

assert find_spec("_jrnl_pytest"), "the wheel lacks what pytest loads"

metadata = distribution("jrnl-engine").metadata
assert metadata["License-Expression"] == "Apache-2.0", metadata["License-Expression"]

print(f"jrnl {metadata['Version']} installed in {len(carried)} files: all there")
