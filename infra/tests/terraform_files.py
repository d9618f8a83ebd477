"""Reads the Terraform files into plain dictionaries, and changes copies of them for tests."""
import functools
import shutil
from pathlib import Path

import hcl2

DIRECTORY = Path(__file__).resolve().parents[1] / "database" / "terraform"


def plain(value):
    """Returns what hcl2 has read without the quotes, block marks and comments that it keeps."""
    if isinstance(value, dict):
        return {plain(key): plain(item) for key, item in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value


@functools.cache
def parsed(text):
    """Returns the blocks of a file. Parsing takes a while, and a changed copy shares all files but one."""
    return plain(hcl2.loads(text))


class Files:
    """All blocks of the `.tf` files of a directory."""

    def __init__(self, directory=DIRECTORY):
        self.directory = Path(directory)
        self.blocks = {}
        for file in sorted(self.directory.glob("*.tf")):
            for kind, found in parsed(file.read_text(encoding="utf-8")).items():
                self.blocks.setdefault(kind, []).extend(found)

    def resources(self, kind, block="resource"):
        """Returns the resources of one type by name."""
        return {name: body for entry in self.blocks.get(block, []) if kind in entry
                for name, body in entry[kind].items()}

    def resource(self, kind, name, block="resource"):
        found = self.resources(kind, block)
        assert name in found, f"there is no {kind}.{name}"
        return found[name]

    def kinds(self):
        return {kind for entry in self.blocks["resource"] for kind in entry}

    def named(self, block):
        """Returns blocks that have one label, such as variables and outputs."""
        return {name: body for entry in self.blocks[block] for name, body in entry.items()}

    def local(self, name):
        for entry in self.blocks["locals"]:
            if name in entry:
                return entry[name]
        raise AssertionError(f"there is no local.{name}")

    def text(self, name):
        return (self.directory / name).read_text(encoding="utf-8")


def changed(directory, file, old, new):
    """Copies the Terraform files into `directory`, replaces `old` in one of them, and returns the copy."""
    copy = Path(directory) / "terraform"
    shutil.copytree(DIRECTORY, copy, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text, f"{file} does not contain {old!r}: the test must follow the file"
    (copy / file).write_text(text.replace(old, new), encoding="utf-8")
    return Files(copy)
