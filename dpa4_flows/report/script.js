"use strict";
(() => {
  const histories = JSON.parse(document.getElementById("histories").textContent);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  // ---- history of one candidate ----------------------------------------------------------------------------------
  function historyRow(id, columns) {
    const history = histories[id];
    const box = make("div", "history-box");
    if (history.source) box.append(make("div", "lead", "Source: " + history.source));
    for (const flag of history.flags) box.append(make("div", "lead", "⚑ " + flag));
    if (!history.stages.length) box.append(make("div", "lead", "No stage has looked at this candidate yet."));
    for (const [title, status, numbers, reasons, keys] of history.stages) {
      const stage = make("div", "stage " + status);
      const head = make("header", "", title);
      head.append(make("span", "", status));
      stage.append(head);
      if (numbers.length) {
        const table = make("table");
        for (const [label, value, unit, limit] of numbers) {
          const row = table.insertRow();
          row.insertCell().textContent = label;
          const cell = row.insertCell();
          cell.textContent = (value ? value + (unit ? " " + unit : "") : "");
          if (limit) cell.append(make("small", "", (value ? " " : "") + limit + (value || !unit ? "" : " " + unit)));
        }
        stage.append(table);
      }
      for (const reason of reasons) stage.append(make("p", "", reason));
      if (keys.length) stage.append(make("p", "keys", "calculation " + keys.join(", ")));
      box.append(stage);
    }
    const row = make("tr", "history");
    const cell = row.insertCell();
    cell.colSpan = columns;
    cell.append(box);
    return row;
  }

  function fold(row, button) {
    const open = button.getAttribute("aria-expanded") === "true";
    if (open) row.nextElementSibling.remove();
    else row.after(historyRow(row.dataset.id, row.cells.length));
    button.setAttribute("aria-expanded", String(!open));
  }

  // ---- sorting and filtering -------------------------------------------------------------------------------------
  const mainRows = (table) => [...table.tBodies[0].rows].filter((row) => !row.classList.contains("history"));
  const historyOf = (row) => (row.nextElementSibling && row.nextElementSibling.classList.contains("history") ? row.nextElementSibling : null);

  function sortBy(table, index, kind) {
    const header = table.tHead.rows[0].cells[index];
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => {
      const cell = row.cells[index];
      if (kind === "text") return cell.textContent.trim().toLowerCase();
      return cell.dataset.v === undefined || cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    };
    const keyed = mainRows(table).map((row) => [value(row), row, historyOf(row)]);
    keyed.sort(([a], [b]) => {
      if (kind === "text") return up ? a.localeCompare(b, "en", { numeric: true }) : b.localeCompare(a, "en", { numeric: true });
      if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b); // what has no value comes last
      return up ? a - b : b - a;
    });
    const body = table.tBodies[0];
    for (const [, row, history] of keyed) {
      body.append(row);
      if (history) body.append(history);
    }
  }

  // ">3.5", "<=0.05", "3..4", "3.5" (at least) for numbers, any text for words
  function matcher(text, kind) {
    text = text.trim().toLowerCase().replace(/−/g, "-");
    if (!text) return null;
    if (kind === "text") return (cell) => cell.textContent.toLowerCase().includes(text);
    const range = text.match(/^(-?[\d.]+)\s*(?:\.\.|–|to)\s*(-?[\d.]+)$/);
    const bound = text.match(/^(>=|<=|≥|≤|>|<|=)?\s*(-?[\d.]+(?:e-?\d+)?)$/);
    const number = (cell) => (cell.dataset.v === undefined || cell.dataset.v === "" ? NaN : Number(cell.dataset.v));
    if (range) return (cell) => number(cell) >= Number(range[1]) && number(cell) <= Number(range[2]);
    if (!bound) return null;
    const limit = Number(bound[2]);
    return {
      ">": (cell) => number(cell) > limit, "<": (cell) => number(cell) < limit, "=": (cell) => number(cell) === limit,
      "<=": (cell) => number(cell) <= limit, "≤": (cell) => number(cell) <= limit,
    }[bound[1]] || ((cell) => number(cell) >= limit);
  }

  function prepare(table) {
    const tools = document.querySelector(`[data-for="${table.id}"]`);
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, index) => {
      const button = header.querySelector("button");
      if (button) button.addEventListener("click", () => sortBy(table, index, header.dataset.kind));
    });
    table.tBodies[0].addEventListener("click", (event) => {
      const button = event.target.closest(".unfold");
      if (button) fold(button.closest("tr"), button);
    });
    if (!tools) return;
    const search = tools.querySelector(".search");
    const pareto = tools.querySelector(".only-pareto");
    const clean = tools.querySelector(".no-flags");
    const filters = table.tHead.querySelector(".filters");
    const inputs = [];
    const rows = mainRows(table);
    const flagText = (row) => [...row.querySelectorAll(".badge")].map((badge) => badge.dataset.tip || "").join(" ");
    const words = new Map(rows.map((row) => [row, (row.textContent + " " + flagText(row)).toLowerCase()]));
    function apply() {
      const text = search.value.trim().toLowerCase();
      const tests = inputs.map((input, i) => matcher(input.value, headers[i].dataset.kind));
      let number = 0;
      for (const row of rows) {
        const show = (!text || words.get(row).includes(text))
          && (!pareto || !pareto.checked || row.dataset.pareto !== undefined)
          && (!clean || !clean.checked || row.dataset.flagged === undefined)
          && tests.every((test, i) => !test || test(row.cells[i]));
        row.hidden = !show;
        const history = historyOf(row);
        if (history) history.hidden = !show;
        number += show;
      }
      tools.querySelector(".shown").textContent = number === rows.length ? "" : `${number} of ${rows.length} shown`;
    }
    for (const input of [search, pareto, clean]) if (input) input.addEventListener("input", apply);
    const toggle = tools.querySelector(".toggle-filters");
    if (toggle && filters) {
      for (const header of headers) {
        const cell = document.createElement("th");
        const input = make("input");
        input.placeholder = header.dataset.kind === "number" ? "> 0" : "text";
        input.setAttribute("aria-label", "filter " + header.querySelector("button").textContent);
        input.title = header.dataset.kind === "number" ? "> 3, < 0.05, 3..4" : "contains";
        input.addEventListener("input", apply);
        inputs.push(input);
        cell.append(input);
        filters.append(cell);
      }
      toggle.addEventListener("click", () => {
        filters.hidden = !filters.hidden;
        toggle.setAttribute("aria-expanded", String(!filters.hidden));
        for (const cell of filters.cells) cell.style.top = table.tHead.rows[0].offsetHeight + "px";
      });
    }
  }
  for (const table of document.querySelectorAll("#ranking-table, #left-table")) prepare(table);

  // ---- tooltips: by mouse, keyboard and touch --------------------------------------------------------------------
  const tip = make("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  function show(event) {
    const owner = event.target.closest && event.target.closest("[data-tip]");
    tip.hidden = !owner;
    if (!owner) return;
    tip.textContent = owner.dataset.tip;
    const box = owner.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8));
    const below = box.bottom + tip.offsetHeight + 12 < window.innerHeight;
    tip.style.left = left + window.scrollX + "px";
    tip.style.top = (below ? box.bottom + 6 : box.top - tip.offsetHeight - 6) + window.scrollY + "px";
  }
  for (const name of ["mouseover", "focusin", "click"]) document.addEventListener(name, show);
  document.addEventListener("focusout", () => { tip.hidden = true; });

  // ---- figures ---------------------------------------------------------------------------------------------------
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const light = { "--ink": "#1d2733", "--muted": "#5c6976", "--grid": "#e4e9ee", "--card": "#ffffff" };
  function themed(figure, width, printing) {
    const styles = getComputedStyle(document.documentElement);
    const colour = (name) => (printing ? light[name] : styles.getPropertyValue(name).trim());
    const layout = structuredClone(figure.layout);
    layout.font = { ...layout.font, color: colour("--ink") };
    layout.hoverlabel = { ...layout.hoverlabel, bgcolor: colour("--card"), bordercolor: colour("--muted"), font: { color: colour("--ink"), size: 12 } };
    layout.modebar = { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--ink") };
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--muted"), zerolinecolor: colour("--grid"), tickcolor: colour("--muted"), automargin: true };
    for (const name of ["xaxis", "yaxis"]) layout[name] = { ...axis, ...layout[name] };
    if (layout.ternary) {
      for (const name of ["aaxis", "baxis", "caxis"]) layout.ternary[name] = { ...axis, ...layout.ternary[name] };
    }
    const data = structuredClone(figure.data);
    const narrow = width < 520;
    for (const trace of data) {
      if (trace.marker && trace.marker.line) trace.marker.line = { color: colour("--ink"), ...trace.marker.line };
      if (trace.marker && trace.marker.symbol && Array.isArray(trace.marker.symbol) && trace.marker.line) {
        trace.marker.line.color = trace.marker.symbol.map((s) => (String(s).startsWith("x-") ? "#bd5f55" : colour("--card")));
      }
      if (trace.marker && trace.marker.pattern && trace.marker.pattern.shape) trace.marker.pattern.fgcolor = colour("--card");
      if (trace.type === "sankey") trace.textfont = { ...trace.textfont, color: colour("--ink"), shadow: "none" };
      if (narrow && trace.marker && trace.marker.colorbar) {
        trace.marker.colorbar = { ...trace.marker.colorbar, orientation: "h", x: 0.5, y: layout.ternary ? 1.14 : 1.02, xanchor: "center", yanchor: "bottom", len: 0.9, title: { text: "E above hull (eV/atom)", side: "top", font: { size: 10 } } };
      }
    }
    if (narrow) {
      layout.font.size = 10.5;
      layout.margin = { ...layout.margin, r: 8, l: Math.min(layout.margin.l, 52) };
      if (data.some((trace) => trace.marker && trace.marker.colorbar)) layout.margin.t = 16;
      if (layout.ternary) Object.assign(layout.margin, { l: 26, r: 26 });
      for (const trace of data) if (trace.meta && trace.meta.narrow) Object.assign(trace, trace.meta.narrow);
      layout.dragmode = false; // a finger scrolls the page
    }
    return { data, layout };
  }
  const PAGE = 660; // pixels that fit on a sheet of A4 or letter paper
  function draw(holder, printing) {
    const source = document.querySelector(`[data-figure-of="${CSS.escape(holder.dataset.figure)}"]`);
    if (!window.Plotly || !holder.clientWidth || !source) return;
    const { data, layout } = themed(JSON.parse(source.textContent), printing ? PAGE : holder.clientWidth, printing);
    if (printing) layout.width = PAGE;
    Plotly.react(holder, data, layout, {
      responsive: true, displaylogo: false, displayModeBar: window.matchMedia("(hover: hover)").matches ? "hover" : false,
      showSendToCloud: false, plotlyServerURL: "", modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
    });
  }
  const holders = [...document.querySelectorAll(".plot")];
  const drawn = new Set();
  const first = (holder) => { if (!drawn.has(holder) && holder.clientWidth) { drawn.add(holder); draw(holder, false); } };
  if ("IntersectionObserver" in window) {
    const watch = new IntersectionObserver((seen) => seen.forEach((s) => s.isIntersecting && first(s.target)), { rootMargin: "1200px" });
    holders.forEach((holder) => watch.observe(holder));
  } else holders.forEach(first);
  dark.addEventListener("change", () => drawn.forEach((holder) => draw(holder, false)));
  window.addEventListener("beforeprint", () => holders.forEach((holder) => { drawn.add(holder); draw(holder, true); }));
  window.addEventListener("afterprint", () => drawn.forEach((holder) => draw(holder, false)));
})();
