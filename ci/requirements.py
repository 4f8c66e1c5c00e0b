"""Print the requirements that pyproject.toml lists: `build`, `run`, or the name of an extra."""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    pyproject = tomllib.load(file)

project = pyproject["project"]
lists = {
    "build": pyproject["build-system"]["requires"],
    "run": project["dependencies"],
    **project["optional-dependencies"],
}
for name in sys.argv[1:]:
    print("\n".join(lists[name]))
