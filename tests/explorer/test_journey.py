"""The explorer in a real browser: find a neuron, ablate it with two others, read the change, export the set."""

import threading

import pytest

import relation_neurons as rn
from relation_neurons.explorer.server import make_explorer, reserve

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PATIENCE = 90_000
"""Milliseconds that a browser may take beside other programs."""
POINTS = "#scatter .scatterlayer .trace:first-child .points path"
OUTSIDE = """
() => [...document.querySelectorAll('main *')].filter((one) => {
  const box = one.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !one.closest('.wide, svg, .modebar');
}).map((one) => one.outerHTML.slice(0, 80))
"""
"""What sticks out of the page on the right, apart from tables that scroll."""

COVERED = """
() => [...document.querySelectorAll('.dash-graph')].filter((one) => {
  const next = one.nextElementSibling, plot = one.querySelector('.main-svg');
  return next && plot.getBoundingClientRect().bottom > next.getBoundingClientRect().top + 1;
}).map((one) => one.id)
"""
"""Figures that lie on what follows them."""


@pytest.fixture(scope="module")
def address(data):
    with reserve(0) as reserved:
        server = make_explorer(data, reserved)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}/"
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def visit(browser, address):
    """Opens the explorer; any line on the console, error or request to elsewhere fails the test."""
    complaints, contexts = [], []

    def opened(width):
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((address, "blob:", "data:")) else complaints.append(sent.url),
        )
        page.on("response", lambda got: complaints.append(got.url) if got.status >= 400 else None)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


@pytest.mark.parametrize("width", [1400, 700])
def test_find_ablate_read_and_export(visit, data, width, tmp_path):
    page, relation = visit(width), data.relations[0]
    best = list(map(str, data.neurons[relation]))
    page.locator(POINTS).nth(2).click(force=True)
    page.locator("#card-title", has_text=best[2]).wait_for()
    page.locator("#card .prompts li").first.wait_for()
    assert page.locator("#card .prompts span[title]").count() > 5  # tokens, shaded
    assert page.locator("#card .token.promotes").count()
    assert page.locator("#card tbody tr").count() == 3  # relations
    assert "n = 4 facts" in page.locator("#card .effects").inner_text()
    page.locator("#add").click()
    page.locator(".chip", has_text=best[2]).wait_for()
    page.locator("#n-best").fill("2")
    page.locator("#add-best").click()
    page.locator(".chip").nth(2).wait_for()
    assert [chip.strip().rstrip("\u00d7").strip() for chip in page.locator(".chip").all_inner_texts()] == [
        best[2],
        *best[:2],
    ]
    page.locator("#ablate").click()
    page.locator("#effects tbody tr").nth(2).wait_for()
    assert page.locator("#continuations tr").count() == 3
    first = page.locator("#effects tbody tr").first.inner_text()
    assert first.startswith(relation)
    assert "random" in first
    assert "[" in first
    page.locator("#effects-figure svg.main-svg").first.wait_for()
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(OUTSIDE) == []
    page.set_viewport_size({"width": 2100 - width, "height": 900})  # figures keep their place when the window changes
    assert page.evaluate(COVERED) == []
    page.locator("#name").fill("three")
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "three.parquet")
    assert download.value.suggested_filename == "three.parquet"
    sets = rn.load_neurons(tmp_path / "three.parquet", data.study.model)
    assert list(map(str, sets["three"])) == [best[2], *best[:2]]


def test_another_relation_a_neuron_without_a_card_and_an_empty_basket(visit, data):
    page = visit(1000)
    page.locator("#relation").click()
    page.get_by_role("option", name="plays").click()
    page.locator("#axis label", has_text="layer").click()
    page.locator("#scatter .xtitle", has_text="layer").wait_for()
    page.locator("#pick").click()
    fifth = str(data.neurons["plays"].neurons[4])
    page.get_by_role("option", name=f"5. {fifth}").click()
    page.locator("#card-title", has_text=fifth).wait_for()
    page.locator("#make").click()
    page.locator("#card .prompts li").first.wait_for()
    page.locator("#add").click()
    page.locator(".chip button").click()
    page.locator("#chips", has_text="Empty").wait_for()
    assert page.locator("#ablate").is_disabled()
    assert page.locator("#export").is_disabled()
