"""Pictures of the explorer for docs/how-to/explore.md: the neurons of a relation with the best one's card, and recall.

relation-neurons run --relations country_language country_currency country_capital person_occupation \
    --n-evaluation 10 --n-detection 40 --n-controls 2 --k 50 --n-cards 3 --out runs/pictures
python -m benchmarks.explorer_pictures runs/pictures --prompt "The language spoken in Brazil is"
"""

from __future__ import annotations

import argparse
import shutil
import threading
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from relation_neurons.explorer.run_data import RunData, open_run_data
from relation_neurons.explorer.server import make_explorer, reserve
from tests.fixtures import BROWSERS

WIDTH, PATIENCE = 1360, 300_000
"""Pixels, and milliseconds that a step may take."""


def main() -> None:
    """Open the explorer, fill the basket, ablate it, and take pictures on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run; cards that it does not have are made first")
    parser.add_argument("--prompt", required=True, help="what the model continues")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    options = parser.parse_args()
    data = open_run_data(options.run)
    with reserve(0) as reserved:
        server = make_explorer(data, reserved)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with sync_playwright() as started:
            path = next(filter(None, map(shutil.which, BROWSERS)), None)
            browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": 900})
            page.set_default_timeout(PATIENCE)
            page.goto(f"http://127.0.0.1:{server.port}/")
            take_pictures(page, data, options.prompt, options.out)
            browser.close()
        server.shutdown()


def take_pictures(page: Page, data: RunData, prompt: str, out: Path) -> None:
    """Write `explore.png` and `explore-ablation.png`, of the run's first relation."""
    best = data.neurons[data.relations[0]]
    page.locator("#axis label", has_text="average precision").click()
    page.locator("#scatter .xtitle", has_text="average precision").wait_for()
    page.locator("#pick").click()
    page.get_by_role("option", name=f"1. {best.neurons[0]}").click()
    page.locator("#card .prompts li").first.wait_for()
    page.locator("#n-best").fill(str(len(best)))
    page.locator("#add-best").click()
    page.locator(".chip").nth(len(best) - 1).wait_for()
    page.mouse.move(0, 0)
    page.locator(".columns").first.screenshot(path=out / "explore.png")
    page.locator("#prompt").fill(prompt)
    page.locator("#ablate").click()
    page.locator("#effects-figure svg.main-svg").first.wait_for()
    page.mouse.move(0, 0)
    page.locator(".pane", has=page.locator("#ablate")).screenshot(path=out / "explore-ablation.png")


if __name__ == "__main__":
    main()
