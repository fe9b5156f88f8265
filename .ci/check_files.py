"""Refuse committed binaries and untidy Java: what ruff does not see.

Run as ``python .ci/check_files.py`` from the repository's root; prints one line per finding and
exits 1 when there is any.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MAX_BYTES = 300_000
MAX_LINE = 100
BUILT = {".jar", ".class", ".mar", ".pt", ".pth", ".ckpt", ".whl", ".so", ".npz", ".pkl"}


def findings(path: Path) -> list[str]:
    """Return what is wrong with one tracked file."""
    if path.suffix in BUILT:
        return [f"{path}: {path.suffix} files are built, never committed"]
    content = path.read_bytes()
    if len(content) > MAX_BYTES:
        return [f"{path}: {len(content)} bytes, more than {MAX_BYTES}"]
    if b"\0" in content:
        return [f"{path}: binary"]
    if path.suffix != ".java":
        return []
    found = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        if len(line) > MAX_LINE:
            found.append(f"{path}:{number}: {len(line)} characters, more than {MAX_LINE}")
        if "\t" in line or line != line.rstrip():
            found.append(f"{path}:{number}: tab or trailing space")
    return found


def main() -> int:
    """Check every tracked file that still exists."""
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=True)
    paths = [Path(name) for name in listed.stdout.split("\0") if name]
    found = [line for path in paths if path.is_file() for line in findings(path)]
    print("\n".join(found) if found else f"{len(paths)} tracked files are fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
