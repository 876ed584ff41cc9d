"use strict";
(() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const shade = () => document.documentElement.classList.toggle("dark", dark.matches);
  dark.addEventListener("change", shade);
  shade();

  // The content is compressed; all of it is decompressed on load, so that it is ready for printing.
  const unpack = (script) => {
    const packed = Uint8Array.from(atob(script.textContent), (character) => character.charCodeAt(0));
    script.remove();
    return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  if (!("DecompressionStream" in window)) {
    document.getElementById("old").hidden = false;
    return;
  }
  const source = async (id) => {
    const text = await unpack(document.getElementById(id));
    return URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  };
  const plotly = source("plotly").then((url) => new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject }));
  }));
  const datatables = source("datatables");
  const ready = new Map();
  const waiting = new Map(all(".plot, .table").map((place) => {
    const text = unpack(place.querySelector("script"));
    text.then((content) => ready.set(place, content));
    return [place, text];
  }));

  // Figures: each is drawn when it is about to become visible.
  const draw = async (place) => {
    if (place.dataset.drawn) return;
    place.dataset.drawn = "yes";
    const text = ready.get(place) ?? await waiting.get(place);
    if (!window.Plotly) await plotly;
    const plot = place.appendChild(document.createElement("div"));
    const { data, layout, frames } = JSON.parse(text);
    Plotly.newPlot(plot, { data, layout, frames, config: { displaylogo: false, responsive: true } });
    if ("pairs" in place.dataset) {
      plot.on("plotly_click", ({ points: [{ x, y }] }) => { if (x !== y) choose(y, x, place); });
    }
  };

  // Tables: numbers are sorted numerically, text is escaped.
  let library, DataTable;
  const loaded = () => (library ??= datatables.then((url) => import(url)).then((module) => (DataTable = module.default)));
  const escaped = (text) => text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
  const natural = (text) => text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(8, "0"));
  const number = (value, decimals) => {
    if (value === null) return "";
    if (typeof value === "string") return value.replace("Infinity", "∞");
    return decimals === -2 ? String(Number(value.toPrecision(2))) : value.toFixed(decimals);
  };
  const shown = (cell, { decimals }) => {
    if (!Array.isArray(cell)) return number(cell, decimals);
    const [value, low, high] = cell.map((value) => number(value, decimals));
    return low || high ? `${value} [${low}, ${high}]` : value;
  };
  const numeric = (column, place) => ({
    title: escaped(column.title), type: "num", className: "dt-right",
    data: place,
    render: (cell, type) => {
      if (type !== "sort" && type !== "type") return shown(cell, column);
      const value = Array.isArray(cell) ? cell[0] : cell;
      return value === null ? "" : Number(value);
    },
  });
  const textual = (column, place) => ({
    title: escaped(column.title), type: "string", className: column.text.some((text) => text.length > 30) ? "long" : "",
    data: place,
    render: (cell, type) => {
      const text = Array.isArray(cell) ? cell.join(", ") : cell;
      if (type !== "display") return type === "sort" ? natural(text) : text;
      const link = column.links?.[text];
      return link ? `<a href="${escaped(link)}">${escaped(text)}</a>` : escaped(text);
    },
  });
  const cells = (column) => {
    if (column.codes) return column.codes.map((code) => column.text[code]);
    return column.low ? column.values.map((value, row) => [value, column.low[row], column.high[row]]) : column.values;
  };
  const build = async (place) => {
    await Promise.all([loaded(), waiting.get(place)]);
    return (place.built ??= make(place));
  };
  const make = (place) => {
    const columns = JSON.parse(ready.get(place));
    const drawn = columns.map(cells), rows = drawn[0].map((_, row) => drawn.map((column) => column[row]));
    const table = document.createElement("table");
    table.className = "display compact";
    place.append(table);
    const built = new DataTable(table, {
      data: rows,
      columns: columns.map((column, place) => (column.codes ? textual : numeric)(column, place)),
      order: [],
      autoWidth: false,
      paging: rows.length > 10,
      lengthMenu: [10, 25, 100, { label: "all", value: -1 }],
      layout: { topStart: "search", topEnd: "pageLength" },
      language: { search: "Search ", lengthMenu: "Show _MENU_ rows", info: "_START_ to _END_ of _TOTAL_ rows", infoEmpty: "no rows",
        infoFiltered: "(of _MAX_)", zeroRecords: "no matching rows", emptyTable: "no data" },
    });
    place.style.minHeight = "";
    place.ranks = columns.map((column) => column.rank);
    place.hint = Object.assign(document.createElement("p"), { className: "note hint" });
    place.before(place.hint);
    fit(built, place);
    let width = place.clientWidth;
    new ResizeObserver(() => {
      if (width !== (width = place.clientWidth)) fit(built, place);
    }).observe(place);
    return built;
  };

  // A table wider than its place hides columns, those of least rank first, and says which; a button shows them all.
  const fit = (table, place, most = place.clientWidth) => {
    if (!most) return; // in a closed part of the page
    const visible = (column, shown) => table.column(column).visible(shown, false);
    place.ranks.forEach((_, column) => visible(column, true));
    const order = [...place.ranks.keys()].sort((one, other) => place.ranks[other] - place.ranks[one]);
    const hidden = [];
    const wide = () => table.table().node().scrollWidth > most + 1;
    while (!place.whole && wide() && hidden.length < order.length - 2) visible(order[hidden.length], !hidden.push(order[hidden.length]));
    const names = hidden.sort((one, other) => one - other).map((column) => table.column(column).title());
    place.hint.hidden = !names.length && !place.whole;
    place.hint.textContent = place.whole ? "" : `Not shown for want of width: ${names.join(", ")}. `;
    const text = place.whole ? "fit to the page" : "show all columns";
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.addEventListener("click", () => { place.whole = !place.whole; fit(table, place); });
    place.hint.append(button);
  };

  // A click on a cell of the overlap matrix filters the neurons that both relations share; column 0 is the pair.
  const neurons = document.querySelector(".table[data-pairs]");
  const banner = document.querySelector(".chosen");
  const choose = async (first, second, figure) => {
    neurons.closest("details").open = true;
    const pairs = [`${first}, ${second}`, `${second}, ${first}`];
    const table = await build(neurons);
    table.search("").search.fixed("pair", (_, row) => pairs.includes(row[0])).draw();
    const count = table.rows({ search: "applied" }).count();
    banner.hidden = false;
    banner.querySelector("span").textContent =
      `${count.toLocaleString("en")} ${count === 1 ? "neuron" : "neurons"} of ${first} and ${second}: both have them, told from all other relations.`;
    banner.figure = figure;
    banner.scrollIntoView({ block: "center" });
  };
  banner?.addEventListener("click", async ({ target }) => {
    const action = target.dataset.do;
    if (!action) return;
    const table = await build(neurons);
    table.search.fixed("pair", null).draw();
    banner.hidden = true;
    if (action === "back") banner.figure.scrollIntoView({ block: "center" });
  });

  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      (target.matches(".plot") ? draw : build)(target);
    }
  }, { rootMargin: "600px 0px" });
  all(".plot, .table").forEach((place) => seen.observe(place));

  const links = Object.fromEntries(all("nav a").map((link) => [link.hash.slice(1), link]));
  const reading = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      const link = links[target.id];
      link.classList.toggle("here", isIntersecting);
      if (isIntersecting) link.parentElement.scrollLeft = link.offsetLeft - 80;
    }
  }, { rootMargin: "-20% 0px -79% 0px" });
  all("main > section").forEach((section) => reading.observe(section));

  // For printing, all figures and tables are drawn, at once and narrower than on the screen; what they need is there by then.
  const PAPER = 680;
  const plots = () => all(".plot > div"), tables = () => all(".table").filter((place) => place.built);
  loaded();
  addEventListener("beforeprint", () => {
    all(".plot").filter((place) => ready.has(place)).forEach(draw);
    plots().forEach((plot) => window.Plotly?.relayout(plot, { width: PAPER }));
    all("details[open] > .table").filter((place) => DataTable && ready.has(place)).forEach((place) => (place.built ??= make(place)));
    tables().forEach((place) => {
      place.style.width = `${PAPER}px`;
      fit(place.built, place, PAPER);
    });
  });
  addEventListener("afterprint", () => {
    plots().forEach((plot) => window.Plotly?.relayout(plot, { width: null, autosize: true }));
    tables().forEach((place) => {
      place.style.width = "";
      fit(place.built, place);
    });
  });
})();
