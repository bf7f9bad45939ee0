"""A real Chromium, driven over pages on disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--force-color-profile=srgb",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome")
SLOW = 5.0
"""How often slower than a quiet core a shared one may be."""


def why_not() -> str | None:
    """Say what is missing for a browser; None if nothing is."""
    if not any(map(shutil.which, NAMES)):
        return "no Chromium here: apt-get install chromium chromium-driver"
    if not shutil.which("chromedriver"):
        return "no chromedriver here: apt-get install chromium-driver"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install -e '.[dev]'"
    return None


class Browser:
    """One browser; every page is opened at a width, light or dark."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = next(p for name in NAMES if (p := shutil.which(name)))
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        os.environ["SE_OFFLINE"] = "true"
        service = Service(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.driver.set_script_timeout(60)

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Load a page, and wait until it is."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(page.resolve().as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page, and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def timed(self, script: str) -> float:
        """Return the milliseconds from a script's start to the frame that shows what it did."""
        whole = f"""
            const done = arguments[0], start = performance.now();
            {script}
            requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
        """
        return float(self.driver.execute_async_script(whole))

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def errors(self) -> list[str]:
        """Return what the console complained about since the page was opened."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] in ("SEVERE", "WARNING")]

    def set(self, element: str, value: str) -> None:
        """Choose an option, or type into a field, as the form's own events tell it."""
        self.run(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true}));",
            element, value,
        )  # fmt: skip

    def text(self, element: str) -> str:
        """Return an element's text."""
        return str(self.run("return document.getElementById(arguments[0]).innerText", element))

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(
            self.run("const d = document.scrollingElement; return d.scrollWidth - innerWidth")
        )

    def picture(self, path: Path) -> Path:
        """Save what the window shows."""
        self.driver.save_screenshot(str(path))
        return path

    def close(self) -> None:
        """End it."""
        self.driver.quit()
