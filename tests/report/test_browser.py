"""The page in a real browser: figures, hover texts, sorting, searching, filtering and printing."""

import re

import pandas as pd
import pytest

from relation_neurons.cli.report import rebuild
from tests.report.test_page import KS, SHARED, made_sweep, write_study

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PATIENCE = 180_000
"""Milliseconds that a browser may take beside other programs."""
SLIDER = "#sweep-figure-slider_logprob"
PLACES = """
([place, trace]) => {
  const plot = document.querySelector(place + ' .js-plotly-plot'), axis = plot._fullLayout.xaxis;
  return [...plot.querySelectorAll('.scatterlayer .trace')[trace].querySelectorAll('.points path')]
    .map((mark) => axis.p2d(Number(mark.getAttribute('transform').match(/translate\\(([-\\d.]+)/)[1])));
}
"""
NEAR = f"""
([place, trace, expected]) => {{
  const found = ({PLACES})([place, trace]);
  return found.length === expected.length && found.every((value, at) => Math.abs(value - expected[at]) < 0.2);
}}
"""
CELL = """
([place, first, second]) => {
  const plot = document.querySelector(place + ' .js-plotly-plot'), { xaxis, yaxis } = plot._fullLayout;
  const corner = plot.getBoundingClientRect();
  return [corner.x + xaxis._offset + xaxis.d2p(second), corner.y + yaxis._offset + yaxis.d2p(first)];
}
"""
WIDER = """
() => [...document.querySelectorAll('.table')].filter((place) => {
  const table = place.querySelector('table');
  return table && place.clientWidth && table.getBoundingClientRect().width > place.clientWidth + 1;
}).map((place) => place.id)
"""
CLIPPED = """
() => [...document.querySelectorAll('.gtitle')].filter((title) => {
  const inner = title.getBoundingClientRect(), outer = title.closest('.plot').getBoundingClientRect();
  return inner.left < outer.left || inner.right > outer.right || inner.top < outer.top || inner.height === 0;
}).map((title) => title.textContent)
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    wide = write_study(folder / "wide")
    table = made_sweep().drop(columns="clean")
    more = {f"measured_number_{number}": table["effect"] + number for number in range(12)}
    table.assign(**more).to_parquet(wide / "sweep" / "effects.parquet")
    return {"study": rebuild(write_study(folder / "study")), "wide": rebuild(wide)}


@pytest.fixture
def visit(browser, pages):
    """Opens a page; any error, warning or network request fails the test."""
    complaints, contexts = [], []

    def route(intercepted):
        if intercepted.request.url.startswith("file:"):
            intercepted.continue_()
        else:
            complaints.append(intercepted.request.url)
            intercepted.abort()

    def opened(name, width=1400, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        context.route(lambda url: not url.startswith("blob:"), route)
        page = context.new_page()
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda sent: complaints.append(sent.url) if sent.url.startswith("http") else None)
        page.goto(pages[name].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def shown(page, place):
    """Scroll to a figure or a table and wait until it is drawn."""
    page.locator(place).scroll_into_view_if_needed()
    page.locator(f"{place} :is(svg.main-svg, table.dataTable tbody tr)").first.wait_for()
    return page.locator(place)


def cells(page, place):
    """All rows of a table, as displayed."""
    length = page.locator(f"{place} .dt-length select")
    if length.count():
        length.select_option("-1")
    heads = page.locator(f"{place} thead th").all_inner_texts()
    rows = page.locator(f"{place} tbody").evaluate(
        "body => [...body.rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )
    return pd.DataFrame(rows, columns=[head.strip() for head in heads])


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (700, "dark")])
def test_every_figure_and_table_is_drawn_without_clipping(visit, width, scheme):
    page = visit("study", width, scheme)
    assert not page.evaluate("[...document.querySelectorAll('.plot')].every((plot) => plot.dataset.drawn)")  # lazily
    closed = page.locator("details:not([open]) > summary")
    while closed.count():
        closed.first.click()
    for place in page.locator(".plot, .table").all():
        shown(page, f"#{place.get_attribute('id')}")
    plots = page.locator(".js-plotly-plot")
    assert plots.count() == page.locator(".plot").count() > 4
    for plot in plots.all():
        assert plot.locator("svg.main-svg").count()
        assert plot.locator(".trace, .hm").count()
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    paging = page.locator(".dt-paging nav")  # which the style of the page's own contents leaves alone
    assert paging.evaluate_all("all => all.map((one) => getComputedStyle(one).borderBottomWidth)").count("0px") > 0
    assert paging.evaluate_all("all => all.every((one) => one.scrollWidth <= one.clientWidth + 1)")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", dark))) < 150) == (scheme == "dark")


def test_the_table_of_contents_links_to_every_section(visit):
    page = visit("study", 700)
    for link in page.locator("nav a:not(.home)").all():
        link.click()
        top = page.locator(link.get_attribute("href")).evaluate("section => section.getBoundingClientRect().top")
        assert -1 <= top < 900


def test_hover_texts_show_the_values_of_the_table(visit):
    page = visit("study")
    shown(page, SLIDER)
    own = page.locator(f"{SLIDER} .scatterlayer .trace").last.locator(".points path")
    rows = made_sweep().query("measure == 'logprob'")
    for number, row in enumerate(rows[rows["k"] == KS[1]].to_dict("records")):
        own.nth(number).hover(force=True)
        text = f"{row['effect']:+.3f} [{row['effect_low']:+.3f}, {row['effect_high']:+.3f}], n = {row['n']}"
        page.locator(f"{SLIDER} .hoverlayer .hovertext", has_text=text).wait_for()


def test_the_slider_shows_the_values_at_its_k(visit):
    page = visit("study")
    shown(page, SLIDER)
    rail = page.locator(f"{SLIDER} .slider-rail-touch-rect")
    sweep = made_sweep().query("measure == 'logprob'")
    for k, share in ((KS[2], 0.99), (KS[0], 0.01), (KS[1], 0.5)):
        box = rail.bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        expected = sweep.loc[sweep["k"] == k, "effect"].tolist()
        last = page.locator(f"{SLIDER} .scatterlayer .trace").count() - 1
        page.wait_for_function(NEAR, arg=[SLIDER, last, expected])


def test_columns_are_sorted_numerically(visit):
    page, place = visit("study"), "#sweep-table-effects"
    shown(page, place)
    ordered = made_sweep().sort_values("effect", kind="stable")
    head = page.locator(f"{place} thead th", has_text="effect [low, high]")
    for ascending in (True, False):
        head.click()
        found = cells(page, place)["effect [low, high]"].str.extract(r"^(\S+) \[(\S+), (\S+)\]$").astype(float)
        expected = ordered["effect"].tolist()
        assert found[0].tolist() == pytest.approx(expected if ascending else expected[::-1], abs=0.005)
    page.locator(f"{place} thead th", has_text=re.compile("^k$")).click()
    assert cells(page, place)["k"].tolist() == [str(k) for k in sorted(made_sweep()["k"])]


def test_neurons_are_sorted_by_layer_numerically(visit):
    page, place = visit("study"), "#neurons-table-neurons"
    shown(page, place)
    page.locator(f"{place} thead th", has_text="neuron").click()
    layers = cells(page, place)["neuron"].str.extract(r"L(\d+)")[0].astype(int)
    assert layers.is_monotonic_increasing
    assert layers.max() > 9


def test_the_search_box_filters_rows(visit):
    page, place = visit("study"), "#sweep-table-effects"
    shown(page, place)
    page.locator(f"{place} input[type=search]").fill("gamma logprob")
    found, rows = cells(page, place), made_sweep()
    assert set(found["ablated"]) == {"gamma"}
    assert len(found) == len(rows.query("ablated == 'gamma' and measure == 'logprob'"))


def click(page, figure, pair):
    """Click on the cell of two relations."""
    shown(page, figure)
    x, y = page.evaluate(CELL, [figure, *pair])
    page.mouse.move(x - 3, y)
    page.mouse.click(x, y)
    page.locator(".chosen").wait_for()


def test_a_click_on_an_overlap_filters_shared_neurons_until_reset(visit):
    page, place = visit("study"), "#overlap-table-shared"
    for pair, n in SHARED.items():
        click(page, "#overlap-figure-pairs", pair)
        assert page.locator(".chosen span").text_content().startswith(f"{n} neuron")
        if n:
            assert cells(page, place)["relations"].tolist() == [", ".join(pair)] * n
        else:
            assert "no matching rows" in page.locator(place).text_content()
        page.locator(".chosen button", has_text="all pairs").click()
        assert len(cells(page, place)) == sum(SHARED.values())
        assert page.locator(".chosen").is_hidden()


def test_a_button_scrolls_back_to_the_figure(visit):
    page, figure = visit("study"), "#overlap-figure-pairs"
    click(page, figure, ("alpha", "gamma"))
    page.locator(".chosen button", has_text="back to the figure").click()
    top = page.locator(figure).evaluate("place => place.getBoundingClientRect().top")
    assert -500 < top < 900


def test_text_in_tables_is_escaped(visit):
    page = visit("study")
    place = shown(page, "#neurons-table-neurons")
    assert place.locator("tbody b").count() == 0
    assert "beta <b>" in set(cells(page, "#neurons-table-neurons")["relation"])


def test_every_figure_is_printed(visit):
    page = visit("study")
    page.wait_for_function("() => window.Plotly")  # all data is unpacked by then
    assert page.locator(".js-plotly-plot").count() < page.locator(".plot").count()
    page.emulate_media(media="print")
    page.pdf()
    assert page.locator(".js-plotly-plot svg.main-svg").count() >= page.locator(".plot").count()
    assert page.locator("details[open] table.dataTable").count() == page.locator("details[open] > .table").count() > 3


def test_a_printed_table_keeps_the_columns_that_fit_on_paper(visit):
    page = visit("study")
    heads = shown(page, "#sweep-table-effects").locator("thead th")
    before = heads.all_inner_texts()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    printed = {head.strip() for head in heads.all_inner_texts()}
    assert {"ablated", "measure", "effect [low, high]", "verdict"} <= printed
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert heads.all_inner_texts() == before


@pytest.mark.parametrize("width", [1400, 700])
def test_tables_fit_the_page_with_their_verdicts_and_show_all_columns_on_request(visit, width):
    page = visit("wide", width)
    place = shown(page, "#sweep-table-effects")
    heads = place.locator("thead th")
    assert {"ablated", "verdict", "effect [low, high]"} <= {head.strip() for head in heads.all_inner_texts()}
    for place_of in page.locator("details[open] > .table").all():
        shown(page, f"#{place_of.get_attribute('id')}")
    assert page.evaluate(WIDER) == []
    hidden = page.locator("#sweep .hint").first
    names = re.split(r", (?!max|high)", hidden.inner_text().split(": ")[1].split(".")[0])
    fitting = heads.count()
    hidden.locator("button").click()
    assert heads.count() == fitting + len(names) > 15
    page.locator("#sweep .hint button").first.click()
    assert heads.count() == fitting
