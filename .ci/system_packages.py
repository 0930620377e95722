"""Install the system libraries that a Qt window needs, where that is allowed; else say which are missing.

`python .ci/system_packages.py tests` before the tests; `... window` before the demo, where there is a display.
Standard library only. Debian and Ubuntu; elsewhere it does nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

WINDOW = (
    "libegl1",
    "libgl1",
    "libglib2.0-0",
    "libdbus-1-3",
    "libfontconfig1",
    "libxkbcommon-x11-0",
    "libxcb-cursor0",
    "libxcb-icccm4",
    "libxcb-keysyms1",
    "libxcb-shape0",
)
TESTS = (*WINDOW, "libgl1-mesa-dri", "xvfb", "xauth")
RENAMED = {"libglib2.0-0": "libglib2.0-0t64"}
"""Newer releases have these under another name."""


def main(purpose: str) -> None:
    """Install what `purpose` ("tests" or "window") needs; never fail, the run itself shows what does not work."""
    if not shutil.which("dpkg-query") or not shutil.which("apt-get"):
        return
    if purpose == "window" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    missing = [name for name in (TESTS if purpose == "tests" else WINDOW) if not is_installed(name)]
    if not missing:
        return
    root = as_root()
    if root is None or not install(missing, root):
        print(f"Missing system packages; install them with: sudo apt-get install {' '.join(missing)}", flush=True)


def is_installed(name: str) -> bool:
    """Whether dpkg has `name`, or what it is called in newer releases."""
    names = [name, RENAMED.get(name, name)]
    query = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}\n", *names]
    return "installed" in subprocess.run(query, check=False, capture_output=True, text=True).stdout.splitlines()


def as_root() -> list[str] | None:
    """Return what to put before a command to run it as root without a question, or None where that is not allowed."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and not subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode:
        return ["sudo", "-n"]
    return None


def install(packages: list[str], root: list[str]) -> bool:
    """Install `packages` with apt-get and return whether that worked."""
    print("Installing system packages:", *packages, flush=True)
    apt_get = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet=2"]
    subprocess.run([*apt_get, "update"], check=False, stdout=subprocess.DEVNULL)
    command = [*apt_get, "install", "--yes", "--no-install-recommends", *packages]
    return not subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode


if __name__ == "__main__":
    main(sys.argv[1])
