"""The report opens in a browser: every picture is decoded, and the console stays silent."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--dump-dom",
    "--enable-logging=stderr",
    "--virtual-time-budget=10000",
)
CHECK = """<pre id="check"></pre>
<script>
addEventListener("load", () => {
  const images = [...document.images];
  const broken = images.filter((image) => image.naturalWidth === 0).length;
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.getElementById("check").textContent =
    `broken ${broken} of ${images.length}, overflow ${wide}`;
});
</script>
</body>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on the path")


def opened(page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_browser_shows_every_picture_and_reports_no_error(report_page, tmp_path):
    checked = tmp_path / "checked.html"
    text = report_page.read_text(encoding="utf-8").replace("</body>", CHECK)
    checked.write_text(text, encoding="utf-8")
    browser = opened(checked, tmp_path / "profile")
    told = re.search(r"broken (\d+) of (\d+), overflow (-?\d+)</pre>", browser.stdout)
    assert told, browser.stderr[-2000:]
    broken, total, overflow = map(int, told.groups())
    assert broken == 0
    assert total > 5
    assert overflow <= 0
    assert not [line for line in browser.stderr.splitlines() if "CONSOLE" in line]
