"""The pictures of a report in README.md: `python -m tests.make_pictures` as root scans the lab and draws them.

The host of the demo is scanned twice, and something changes in between: the page also shows what changed. Chromium
draws the page, so this needs it, too.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from scanner.lab.demo import DEMO, demo_box
from scanner.targets.ports import format_ports
from tests.browser import Browser

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "scanner" / "page" / "pictures"
HALFOPEN = (sys.executable, "-c", "from scanner.cli.entry import run; run()")
# Name → width and height of the window, how much smaller it is drawn, and the colours that the reader prefers.
VIEWS = {"report": (1280, 1330, 0.7, "light"), "report-phone": (390, 1330, 0.7, "dark")}


def halfopen(*arguments: str) -> None:
    """Run a verb, quietly."""
    command = [*HALFOPEN, *arguments, "-q"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})


def scan_twice() -> None:
    """Write monday.xml and tuesday.xml here; on Tuesday two more ports are open."""
    ports = format_ports([row.port for row in DEMO])
    with demo_box() as box, box.scanner.entered():
        halfopen("syn", box.target_ip, box.target_ip6, "-p", ports, "-o", "monday.xml")
        box.listen([25, 8080])
        halfopen("syn", box.target_ip, box.target_ip6, "-p", ports, "-o", "tuesday.xml")


def main() -> None:
    """Scan, make the page, and draw it."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        scan_twice()
        halfopen("report", "tuesday.xml", "--since", "monday.xml", "--title", "Lab network", "-o", "lab.html")
        browser = Browser()
        for name, (width, height, scale, scheme) in VIEWS.items():
            browser.prefer(prefers_color_scheme=scheme)
            browser.open(Path("lab.html").resolve(), width, height)
            browser.picture(PICTURES / f"{name}.png", {"width": width, "height": height, "scale": scale})
        browser.close()
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
