"use strict";
// Everything shown comes from the JSON in #data. Names from logs are hostile until proven otherwise: they become text
// nodes (`add` below) or go through `literal` on their way into Plotly, and never anything else.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs;
  const get = (id) => document.getElementById(id);

  function add(parent, tag, text, properties) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [key, value] of Object.entries(properties || {})) {
      if (key in element) element[key] = value; else element.setAttribute(key, value);
    }
    return parent.appendChild(element);
  }

  // Plotly reads names as a little HTML and as templates (%{...}): each letter that could mean something is spelt out.
  const literal = (text) => text.replace(/[&<>%{}$"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
  const whole = (number) => (number === null || number === undefined ? "–" : Math.round(number).toLocaleString("en-US"));
  const short = (number, digits = 4) => (number === null || number === undefined ? "–" : String(Number(number.toPrecision(digits))));
  function clock(seconds) {
    if (seconds === null || seconds === undefined) return "–";
    const all = Math.round(seconds), two = (number) => String(number).padStart(2, "0");
    return `${Math.floor(all / 3600)}:${two(Math.floor(all / 60) % 60)}:${two(all % 60)}`;
  }
  const words = (status) => (status === "not_converged" ? "not converged" : status);

  // ---- what is chosen; kept in the address, so that a reload or a copied link shows the same view -----------------
  const asked = new URLSearchParams(location.hash.slice(1));
  const titles = data.metrics.map((metric) => metric.title);
  const state = {
    metric: Math.max(0, titles.indexOf(asked.get("curve"))),
    x: ["iteration", "epoch", "seconds"].includes(asked.get("x")) ? asked.get("x") : data.x,
    logx: asked.get("logx") === "1", logy: asked.get("logy") === "1", resumes: asked.get("resumes") === "1",
    // Percent of a curve that a mean is taken over; null for each curve's own share.
    smooth: asked.has("smooth") && Number.isFinite(Number(asked.get("smooth"))) ? Number(asked.get("smooth")) : null,
    dark: asked.has("dark") ? asked.get("dark") === "1" : matchMedia("(prefers-color-scheme: dark)").matches,
    setting: asked.get("setting") || "", value: asked.get("value"),
    seeds: asked.has("seeds") ? asked.get("seeds") === "1" : data.seeds,
    off: new Set(runs.map((run, place) => place).filter((place) => asked.getAll("off").includes(runs[place].name))),
    open: new Set(asked.getAll("open")), closed: new Set(asked.getAll("closed")),
    sort: asked.has("sort") ? Number(asked.get("sort")) : null, down: asked.get("down") === "1",
    zoom: asked.has("zoom") ? asked.get("zoom").split(",").map(Number) : null,
  };
  if (state.zoom && !(state.zoom.length === 4 && state.zoom.every(Number.isFinite))) state.zoom = null;
  function remember() {
    const now = new URLSearchParams();
    if (titles.length) now.set("curve", titles[state.metric]);
    now.set("x", state.x);
    for (const key of ["logx", "logy", "resumes"]) if (state[key]) now.set(key, "1");
    if (state.smooth !== null) now.set("smooth", String(state.smooth));
    if (state.dark !== matchMedia("(prefers-color-scheme: dark)").matches) now.set("dark", state.dark ? "1" : "0");
    if (state.setting) { now.set("setting", state.setting); now.set("value", state.value); }
    if (state.seeds !== data.seeds) now.set("seeds", state.seeds ? "1" : "0");
    for (const place of state.off) now.append("off", runs[place].name);
    for (const key of ["open", "closed"]) for (const name of state[key]) now.append(key, name);
    if (state.sort !== null) now.set("sort", String(state.sort));
    if (state.down) now.set("down", "1");
    if (state.zoom) now.set("zoom", state.zoom.join(","));
    history.replaceState(null, "", `#${now}`);
  }

  // ---- curves -----------------------------------------------------------------------------------------------------
  const dashes = { solid: "solid", dash: "8px,4px", dot: "2px,3px" };
  const patterns = { solid: "", dash: "8 4", dot: "2 3" };

  function unit() {
    if (state.x !== "seconds") return { factor: 1, title: state.x === "iteration" ? "iterations" : "epochs" };
    let last = 0;
    for (const curve of shown()) for (const value of (curve.seconds || []).slice(-1)) last = Math.max(last, value);
    if (last > 7200) return { factor: 3600, title: "training time, hours" };
    return last > 300 ? { factor: 60, title: "training time, minutes" } : { factor: 1, title: "training time, seconds" };
  }
  const curveOf = (place) => (data.metrics.length ? data.metrics[state.metric].curves[place] : undefined);
  // Runs that are not to be seen: switched off, or of another value of the setting that one looks at.
  const filters = new Map(data.differences.filter((row) => new Set(row.values).size <= 30).map((row) => [row.name, row.values]));
  if (!filters.has(state.setting)) state.setting = "";
  const worded = (value) => (value === null || value === undefined ? "–" : String(value));
  const passes = (place) => !state.setting || worded(filters.get(state.setting)[place]) === state.value;
  const hidden = (place) => state.off.has(place) || !passes(place);
  const shown = () => runs.map((run, place) => (hidden(place) ? undefined : curveOf(place))).filter(Boolean);

  // The mean of the values around each, of fewer at both ends; what is no number is left out.
  function means(values, around) {
    const half = Math.floor(around / 2);
    return values.map((_, i) => {
      const near = values.slice(Math.max(0, i - half), i + half + 1).filter((value) => value !== null);
      return near.length ? near.reduce((sum, value) => sum + value, 0) / near.length : null;
    });
  }
  const shareOf = (curve) => (state.smooth === null ? curve.share : state.smooth / 100);
  const smooths = (curve) => Boolean(curve.means && shareOf(curve) > 0 && curve.means[state.x]);
  const smoothed = (curve) => (smooths(curve)
    ? { ...curve.means, value: means(curve.means.value, Math.max(1, Math.round(shareOf(curve) * curve.means.value.length))) } : curve);

  // Dark colours are made lighter where the page is dark.
  function seen(color) {
    if (!state.dark) return color;
    const parts = [1, 3, 5].map((from) => parseInt(color.slice(from, from + 2), 16));
    const light = (0.3 * parts[0] + 0.59 * parts[1] + 0.11 * parts[2]) / 255;
    const mixed = parts.map((part) => Math.round(part + (255 - part) * Math.max(0, 0.55 - light)));
    return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  }
  function finalOf(place) {
    const curve = curveOf(place);
    if (!curve) return null;
    const { value: values } = smoothed(curve);
    return values.length ? values[values.length - 1] : null;
  }

  function line(run, curve, scale, faint, hover) {
    const x = curve[state.x];
    const trace = {
      type: "scatter", mode: "lines", name: literal(run.label), x: x.map((value) => (value === null ? null : value / scale)), y: curve.value,
      line: { color: seen(run.color), width: faint ? 1 : 1.8, dash: dashes[run.dash] }, opacity: faint ? 0.22 : 1, showlegend: false,
    };
    if (!hover) return Object.assign(trace, { hoverinfo: "skip" });
    trace.customdata = x.map((_, i) => [curve.iteration[i].toLocaleString("en-US"), curve.epoch ? short(curve.epoch[i]) : "–",
      curve.seconds ? clock(curve.seconds[i]) : "–"]);
    trace.hovertemplate = `<b>${literal(run.label)}</b><br>%{y}<br>iteration %{customdata[0]}<br>epoch %{customdata[1]}` +
      "<br>time %{customdata[2]}<extra></extra>";
    return trace;
  }

  function resumeMarks(run, curve, scale) {
    const points = { x: [], y: [], text: [] };
    for (const session of run.sessions) {
      if (session.resumed_from === null || session.first === null) continue;
      const i = curve.iteration.findIndex((iteration) => iteration >= session.resumed_from);
      if (i < 0) continue;
      points.x.push(curve[state.x][i] === null ? null : curve[state.x][i] / scale);
      points.y.push(curve.value[i]);
      const lost = run.sessions.filter((one) => one.number < session.number).slice(-1).map((one) => one.lost)[0];
      points.text.push(`at ${whole(session.resumed_from)} (session ${session.number})${lost ? `, ${whole(lost)} iterations were lost` : ""}`);
    }
    return {
      type: "scatter", mode: "markers", showlegend: false, hovertemplate: `<b>${literal(run.label)}</b><br>resumed %{text}<extra></extra>`,
      marker: { symbol: "circle-open", size: 9, color: seen(run.color), line: { width: 2 } }, ...points,
    };
  }

  // ---- runs that differ only in their seed: their mean, in a band of one standard deviation ------------------------
  const groupOf = new Map();
  for (const group of data.groups) for (const place of group.runs) groupOf.set(place, group);
  const together = (place) => state.seeds && groupOf.has(place);
  const styled = (place) => (state.seeds ? { ...runs[place], color: runs[place].seeds_color, dash: runs[place].seeds_dash } : runs[place]);

  // A column of a curve at an iteration, between two points on the straight line; null before the first and after the last.
  function at(curve, column, iteration) {
    const shown = curve.iteration, values = curve[column];
    let i = 0, end = shown.length;
    while (i < end) {
      const middle = (i + end) >> 1;
      if (shown[middle] < iteration) i = middle + 1; else end = middle;
    }
    if (shown[i] === iteration) return values[i];
    if (i === 0 || i === shown.length || values[i - 1] === null || values[i] === null) return null;
    return values[i - 1] + ((values[i] - values[i - 1]) * (iteration - shown[i - 1])) / (shown[i] - shown[i - 1]);
  }
  const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const numbers = (values) => values.filter((value) => value !== null);

  // The mean wherever half of the curves have a value, the band where two have: as `_mean` of drawing/lines.py, and null for none.
  function meanOf(curves) {
    const every = [...new Set(curves.flatMap((curve) => curve.iteration))].sort((one, other) => one - other);
    const of = (column, iterations) => iterations.map((iteration) => curves.map((curve) => at(curve, column, iteration)));
    const known = of("value", every).map(numbers).map((values) => (2 * values.length >= curves.length ? values : []));
    const enough = known.map((values) => values.length > 0), from = enough.indexOf(true), to = enough.lastIndexOf(true) + 1;
    if (from < 0) return null;
    const mean = { iteration: every.slice(from, to), value: [], low: [], high: [] };
    for (const values of known.slice(from, to)) {
      const middle = values.length ? average(values) : null, band = values.length > 1;
      const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
      mean.value.push(middle); mean.low.push(band ? middle - spread : null); mean.high.push(band ? middle + spread : null);
    }
    for (const axis of ["epoch", "seconds"]) {
      if (!curves.every((curve) => curve[axis])) continue;
      // From point to point as far as those go that have both: it does not fall back where a slow one ends.
      let last = null, before = [];
      mean[axis] = of(axis, mean.iteration).map((places) => {
        const steps = numbers(places.map((place, i) => (place === null || (before[i] ?? null) === null ? null : place - before[i])));
        before = places;
        if (!numbers(places).length) return null;
        const here = average(numbers(places));
        last = last === null ? here : last + (steps.length ? average(steps) : Math.max(0, here - last));
        return last;
      });
    }
    return mean;
  }

  // A pair of edges for each stretch that has a band: Plotly fills across a gap.
  function bandOf(run, mean, scale) {
    const [red, green, blue] = [1, 3, 5].map((from) => parseInt(seen(run.color).slice(from, from + 2), 16));
    const edge = { type: "scatter", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false };
    const upper = { fill: "tonexty", fillcolor: `rgba(${red},${green},${blue},0.18)`, name: "band" };
    const x = mean[state.x].map((value) => (value === null ? null : value / scale)), bands = [];
    for (let from = 0, to = 0; to <= x.length; to += 1) {
      if (to < x.length && mean.low[to] !== null) continue;
      const part = (values) => values.slice(from, to);
      if (to > from) bands.push({ ...edge, x: part(x), y: part(mean.low) }, { ...edge, ...upper, x: part(x), y: part(mean.high) });
      from = to + 1;
    }
    return bands;
  }

  let listening = false;
  function draw() {
    const metric = data.metrics[state.metric];
    if (!metric) return;
    const { factor, title } = unit();
    const faint = [], lines = [], marks = [], bands = [], grouped = [];
    let low = Infinity, high = -Infinity, stray = false;
    for (const group of state.seeds ? data.groups : []) {
      const places = group.mean.filter((place) => !hidden(place) && curveOf(place) && curveOf(place)[state.x]);
      if (!places.length) continue;
      const run = { ...styled(places[0]), label: `${group.label} (${places.length})` };
      const mean = places.length > 1 ? meanOf(places.map((place) => smoothed(curveOf(place)))) : smoothed(curveOf(places[0]));
      if (!mean) continue;
      if (mean.low) bands.push(...bandOf(run, mean, factor));
      lines.push(line(run, mean, factor, false, true));
      if (mean.low) grouped.push(run.label);
      if (!run.converged) { stray = true; continue; }
      for (const value of [...mean.value, ...(mean.low || []), ...(mean.high || [])]) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
    }
    runs.forEach((_, place) => {
      const curve = curveOf(place), run = styled(place);
      if (together(place) || hidden(place) || !curve || !curve[state.x]) return;
      if (smooths(curve)) faint.push(line(run, curve, factor, true, false));
      lines.push(line(run, smoothed(curve), factor, false, true));
      if (state.resumes) marks.push(resumeMarks(run, smoothed(curve), factor));
      if (!run.converged) { stray = true; return; }
      for (const value of curve.value) if (value !== null) { low = Math.min(low, value); high = Math.max(high, value); }
    });
    // A loss that ran away must not press the curves of the others flat: it leaves the picture at the top.
    const pad = (high - low) * 0.05 || 1;
    const range = !stray || high < low ? undefined
      : state.logy ? (low > 0 ? [Math.log10(low / 1.1), Math.log10(high * 1.1)] : undefined) : [low - pad, high + pad];
    const look = getComputedStyle(document.documentElement), tint = (name) => look.getPropertyValue(`--${name}`).trim();
    const axis = { showline: true, linecolor: tint("frame"), gridcolor: tint("grid"), zeroline: false, ticks: "outside", tickcolor: tint("frame") };
    Plotly.react("plot", [...faint, ...bands, ...lines, ...marks], {
      margin: { l: 66, r: 26, t: 10, b: 52 }, hovermode: "closest", font: { family: "system-ui, Arial, sans-serif", size: 13, color: tint("ink") },
      hoverlabel: { align: "left" }, plot_bgcolor: tint("page"), paper_bgcolor: tint("page"),
      xaxis: { ...axis, title: { text: title }, type: state.logx ? "log" : "linear", tickformat: state.x === "iteration" ? "~s" : "",
        ...(state.zoom ? { range: state.zoom.slice(0, 2) } : {}) },
      yaxis: { ...axis, title: { text: literal(metric.title) }, type: state.logy ? "log" : "linear",
        ...(state.zoom ? { range: state.zoom.slice(2) } : range ? { range } : {}) },
      uirevision: `${state.metric} ${state.x} ${state.logx} ${state.logy}`,
    }, { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["sendDataToCloud", "sendChartToCloud", "lasso2d", "select2d"], toImageButtonOptions: { format: "svg", filename: "curves" } });
    const notes = [];
    if (grouped.length) notes.push(`Mean over seeds, in a band of one standard deviation: ${grouped.join(", ")}.`);
    if (stray && range) notes.push("The axis fits the runs that converged.");
    const rough = Object.values(metric.curves).filter((curve) => curve.means);
    const widths = rough.filter(smooths).map((curve) => shareOf(curve) * (curve.iteration[curve.iteration.length - 1] - curve.iteration[0]));
    if (widths.length) {
      const [least, most] = [Math.min(...widths), Math.max(...widths)].map(whole);
      notes.push(`Smoothed: mean over ${least}${most === least ? "" : ` to ${most}`} iterations, over the faint raw line.`);
    }
    if (data.thinned) notes.push(`Long curves are thinned to ${whole(data.thinned)} steps along the iterations, first, last, least and greatest value of each: no spike is lost.`);
    const lacking = runs.filter((run, place) => curveOf(place) && !curveOf(place)[state.x]);
    if (lacking.length) notes.push(`Without a known ${state.x === "seconds" ? "time" : state.x}, so not drawn: ${lacking.map((run) => run.label).join(", ")}.`);
    get("note").textContent = notes.join(" ");
    get("smoothing").style.display = rough.length ? "" : "none";
    get("share").textContent = state.smooth === null ? "auto" : state.smooth ? `${state.smooth} %` : "none";
    if (!listening) get("plot").on("plotly_relayout", (change) => {
      const names = Object.keys(change);
      if (!names.some((name) => /axis\.(range|autorange)/.test(name))) return;
      const layout = get("plot")._fullLayout;
      state.zoom = names.some((name) => name.endsWith("autorange")) ? null : [...layout.xaxis.range, ...layout.yaxis.range];
      remember();
    });
    listening = true;
  }

  // A double click is two changes of one box: this run (or all seeds of it) alone; all runs, where it is alone already.
  let last = { place: null, time: 0 };
  function isolate(place) {
    const own = new Set(together(place) ? groupOf.get(place).runs : [place]);
    const others = runs.map((run, at) => at).filter((at) => !own.has(at));
    state.off = new Set(others.every((at) => state.off.has(at)) ? [] : others);
  }

  function legend() {
    const list = get("legend");
    const focused = document.activeElement && document.activeElement.dataset.run;
    list.replaceChildren();
    const up = data.metrics.length && /acc|top|score0|eval/i.test(titles[state.metric]) ? -1 : 1;
    const key = (place) => (runs[place].converged ? finalOf(place) : null);
    const order = runs.map((run, place) => place).sort((a, b) => {
      const [first, second] = [key(a), key(b)];
      if (first === null || second === null) return (first === null) - (second === null) || a - b;
      return up * (first - second) || a - b;
    });
    for (const place of order.filter(passes)) {
      const run = runs[place];
      const item = add(list, "li", null, { className: state.off.has(place) || !curveOf(place) ? "off" : "" });
      const label = add(item, "label", null, { title: `${run.name}: ${run.reason}` });
      const box = add(label, "input", null, { type: "checkbox", checked: !state.off.has(place) });
      box.dataset.run = run.name;
      box.addEventListener("change", () => {
        const twice = last.place === place && Date.now() - last.time < 500;
        last = { place: twice ? null : place, time: Date.now() };  // a third click begins anew
        if (twice) isolate(place); else state.off[box.checked ? "delete" : "add"](place);
        update();
      });
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("width", "30"); swatch.setAttribute("height", "10");
      const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
      for (const [name, value] of Object.entries({ x1: 0, x2: 30, y1: 5, y2: 5, stroke: seen(styled(place).color), "stroke-width": 2.4, "stroke-dasharray": patterns[styled(place).dash] })) stroke.setAttribute(name, value);
      swatch.appendChild(stroke);
      label.appendChild(swatch);
      add(label, "span", run.label, { className: "name" });
      add(label, "span", !curveOf(place) ? "–" : run.converged ? short(finalOf(place)) : "n/c", { className: "value" });
      if (focused === run.name) box.focus();
    }
  }

  // ---- tables -----------------------------------------------------------------------------------------------------
  const published = runs.some((run) => run.published.some(Boolean));
  const columns = [
    ["Name", (run) => run.label, null],
    ["Status", (run) => run.status, "badge"],
    ["Accuracy", (run) => run.accuracy, "best"],
    ["LogLoss", (run) => run.loss, "least"],
    ...(published ? [["Published acc.", (run) => run.published[0] || null, "given"], ["Published loss", (run) => run.published[1] || null, "given"]] : []),
    ["Best accuracy", (run) => (run.converged ? run.best : null), "number"],
    ["at iteration", (run) => (run.converged ? run.best_iteration : null), "whole"],
    ["Iteration", (run) => run.iteration, "whole"],
    ["of", (run) => run.max_iter, "whole"],
    ["Epochs", (run) => run.epochs, "epochs"],
    ["Time", (run) => run.seconds, "clock"],
    ["with lost", (run) => run.wall, "clock"],
    ["Sessions", (run) => run.sessions.length, "whole"],
    ["Crashes", (run) => run.crashes, "whole"],
    ["Lost iterations", (run) => run.lost, "whole"],
    ["Comment", (run) => [run.comment, run.status === "done" ? "" : run.reason].filter(Boolean).join("; "), "text"],
  ];
  function results() {
    const table = get("results");
    table.replaceChildren();
    const head = add(add(table, "thead"), "tr");
    columns.forEach(([title, , kind], index) => {
      const cell = add(head, "th", title, { tabIndex: 0, className: kind && kind !== "badge" && kind !== "text" ? "number" : "" });
      if (state.sort === index) cell.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      const sort = () => { state.down = state.sort === index ? !state.down : kind === "best"; state.sort = index; remember(); results(); };
      cell.addEventListener("click", sort);
      cell.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
    });
    const among = runs.filter((run) => run.converged);
    const best = Math.max(...among.map((run) => run.accuracy).filter((value) => value !== null));
    const least = Math.min(...among.map((run) => run.loss).filter((value) => value !== null));
    const order = runs.map((run, place) => place);
    if (state.sort !== null && columns[state.sort]) {
      const value = columns[state.sort][1];
      order.sort((a, b) => {
        const [first, second] = [value(runs[a]), value(runs[b])];
        if (first === null || second === null) return (first === null) - (second === null);
        return (state.down ? -1 : 1) * (typeof first === "number" ? first - second : String(first).localeCompare(String(second), "en", { numeric: true }));
      });
    }
    const body = add(table, "tbody");
    for (const place of order) {
      const run = runs[place];
      const row = add(body, "tr", null, { className: hidden(place) ? "off" : "" });
      for (const [, value, kind] of columns) {
        const one = value(run);
        if (kind === null) add(row, "td", one, { className: "text name", title: run.name });
        else if (kind === "text") add(row, "td", one, { className: "text" });
        else if (kind === "badge") add(add(row, "td"), "span", words(one), { className: `badge ${run.status}`, title: run.reason });
        else {
          const failed = !run.converged && (kind === "best" || kind === "least");
          const text = failed ? "n/c" : { whole, clock, given: (it) => it ?? "–", epochs: (it) => short(it, 3), number: (it) => short(it, 5), best: (it) => short(it, 5), least: (it) => short(it, 5) }[kind](one);
          add(row, "td", text, { className: `number${one !== null && ((kind === "best" && one === best) || (kind === "least" && one === least)) ? " best" : ""}` });
        }
      }
    }
  }

  function tableOf(parent, titles, rows) {
    const table = add(add(parent, "div", null, { className: "wide" }), "table");
    const head = add(add(table, "thead"), "tr");
    for (const title of titles) add(head, "th", title);
    const body = add(table, "tbody");
    for (const cells of rows) {
      const row = add(body, "tr");
      for (const cell of cells) add(row, "td", cell, { className: "text" });
    }
    return table;
  }

  // What is folded open or shut by hand stays so when the page is loaded again.
  function fold(parent, key, opened, title, aside, fill) {
    const details = add(parent, "details");
    details.open = state.open.has(key) || (opened && !state.closed.has(key));
    const summary = add(details, "summary", title);
    add(summary, "span", aside, { className: "quiet" });
    const show = () => { if (details.open && details.children.length === 1) fill(add(details, "div")); };
    details.addEventListener("toggle", () => {
      state.open[details.open && !opened ? "add" : "delete"](key);
      state.closed[!details.open && opened ? "add" : "delete"](key);
      remember();
      show();
    });
    show();
  }

  function stories() {
    for (const run of runs) {
      const count = `${whole(run.sessions.length)} session${run.sessions.length === 1 ? "" : "s"}`;
      const aside = `${count}, ${run.crashes ? `${whole(run.crashes)} crashed` : "no crash"}${run.lost ? `, ${whole(run.lost)} iterations lost` : ""}`;
      const several = run.sessions.length > 1 && runs.length <= 8;
      fold(get("sessions"), `story ${run.name}`, several, run.label, aside, (inside) => {
        tableOf(inside, ["#", "began", "ended", "iterations", "resumed from", "how it ended", "lost", "time", "file"], run.sessions.map((one) => [
          one.number, one.began ?? "–", one.finished ?? "–", one.first === null ? "none" : `${whole(one.first)} to ${whole(one.last)}`,
          one.resumed_from !== null ? whole(one.resumed_from) : one.weights ? `weights of ${one.weights}` : "–",
          `${{ cut: "without a word" }[one.ended] ?? words(one.ended)}${one.reason ? `: ${one.reason}` : ""}`, one.lost ? whole(one.lost) : "–", clock(one.seconds), one.source,
        ]));
        for (const one of run.sessions) {
          if (one.not_restored.length) add(inside, "p", `Session ${one.number} restored ${one.restored.join(", ") || "nothing"}; not ${one.not_restored.join(", ")}.`);
        }
        add(inside, "p", `${words(run.status)}${run.reason ? `: ${run.reason}` : ""}.${run.bad_lines ? ` ${whole(run.bad_lines)} cut or garbled lines were skipped.` : ""}`, { className: "quiet" });
        add(inside, "p", `Read from ${run.sources.join(", ")}`, { className: "quiet" });
      });
    }
    for (const run of runs) {
      fold(get("settings"), `settings ${run.name}`, false, run.label, `${whole(Object.keys(run.settings).length)} settings${data.nets[run.net] ? ", net" : ""}`, (inside) => {
        tableOf(inside, ["setting", "value"], Object.entries(run.settings));
        if (data.nets[run.net]) add(inside, "pre", data.nets[run.net]);
      });
    }
  }

  function differences() {
    const box = get("differences");
    box.replaceChildren();
    const places = runs.map((run, place) => place).filter((place) => !hidden(place));
    if (places.length < 2) { add(box, "p", "Fewer than two runs are shown.", { className: "quiet" }); return; }
    for (const [group, title] of [["solver", "Solver and data"], ["net", "Nets, layer by layer"]]) {
      const rows = data.differences.filter((row) => row.group === group && new Set(places.map((place) => row.values[place])).size > 1);
      const aside = rows.length ? `${whole(rows.length)} difference${rows.length === 1 ? "" : "s"}` : "no difference";
      fold(box, `differences ${group}`, group === "solver", title, aside, (inside) => {
        if (!rows.length) return;
        const table = tableOf(inside, ["", ...places.map((place) => runs[place].label)], rows.map((row) => [row.name, ...places.map((place) => row.values[place] ?? "–")]));
        rows.forEach((row, index) => {
          const counts = new Map();
          for (const place of places) counts.set(row.values[place], (counts.get(row.values[place]) || 0) + 1);
          const most = Math.max(...counts.values());
          // What most runs share is the rule; where there is one, the others stand out.
          if ([...counts.values()].filter((count) => count === most).length > 1) return;
          places.forEach((place, column) => { if (counts.get(row.values[place]) < most) table.tBodies[0].rows[index].cells[column + 1].classList.add("odd"); });
        });
      });
    }
  }

  function update() { remember(); legend(); draw(); results(); differences(); }

  // ---- controls ---------------------------------------------------------------------------------------------------
  data.metrics.forEach((metric, index) => add(get("metric"), "option", metric.title, { value: String(index) }));
  for (const [value, title] of [["iteration", "iterations"], ["epoch", "epochs"], ["seconds", "training time"]]) add(get("x"), "option", title, { value });
  get("metric").value = String(state.metric);
  get("x").value = state.x;
  get("metric").addEventListener("change", (event) => { state.metric = Number(event.target.value); state.zoom = null; update(); });
  get("x").addEventListener("change", (event) => { state.x = event.target.value; state.zoom = null; update(); });
  get("together").style.display = data.groups.length ? "" : "none";
  get("smooth").value = String(state.smooth === null ? 1 : state.smooth);
  get("smooth").addEventListener("input", (event) => { state.smooth = Number(event.target.value); update(); });
  function listValues() {
    get("value").replaceChildren();
    const values = state.setting ? [...new Set(filters.get(state.setting).map(worded))] : [];
    if (!values.includes(state.value)) state.value = values[0];
    for (const value of values) add(get("value"), "option", value, { value });
    get("value").value = state.value ?? "";
    get("value").style.display = state.setting ? "" : "none";
  }
  get("filtering").style.display = filters.size ? "" : "none";
  add(get("setting"), "option", "all runs", { value: "" });
  for (const name of filters.keys()) add(get("setting"), "option", name, { value: name });
  get("setting").value = state.setting;
  listValues();
  get("setting").addEventListener("change", (event) => { state.setting = event.target.value; listValues(); update(); });
  get("value").addEventListener("change", (event) => { state.value = event.target.value; update(); });
  const shade = () => document.documentElement.classList.toggle("dark", state.dark);
  get("dark").checked = state.dark;
  get("dark").addEventListener("change", (event) => { state.dark = event.target.checked; shade(); update(); });
  shade();
  for (const key of ["logx", "logy", "resumes", "seeds"]) {
    get(key).checked = state[key];
    get(key).addEventListener("change", (event) => { state[key] = event.target.checked; if (key.startsWith("log")) state.zoom = null; update(); });
  }
  get("all").addEventListener("click", () => { state.off.clear(); update(); });
  get("none").addEventListener("click", () => { runs.forEach((run, place) => state.off.add(place)); update(); });
  get("about").textContent = `${whole(runs.length)} run${runs.length === 1 ? "" : "s"}, merged by caffebench ${data.version} on ${data.made}.`;
  if (!data.metrics.length) { get("curves").hidden = true; }
  stories();
  update();
  if (data.reload) setInterval(() => { if (!document.hidden) location.reload(); }, data.reload * 1000);
})();
