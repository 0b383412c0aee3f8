// The widget: headings, one canvas per run, a common axis, the legend, what one points at.

function element(parent, tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  parent?.appendChild(made);
  return made;
}

function render({ model, el }) {
  const styles = model.get("styles");
  const root = element(el, "div", "dwdp-timeline");
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true";
  root.setAttribute("role", "group");
  root.setAttribute("aria-roledescription", "timeline");
  const body = element(root, "div", "dwdp-runs");
  const axis = element(root, "canvas", "dwdp-axis");
  const legend = element(root, "div", "dwdp-legend");
  const foot = element(root, "div", "dwdp-foot");
  const tip = element(root, "div", "dwdp-tip");
  tip.setAttribute("aria-live", "polite");
  tip.hidden = true;
  const band = element(root, "div", "dwdp-band");
  band.hidden = true;

  let runs = [], panels = [], view = null, at = null, pinned = false, drawn = 0;

  const width = () => Math.max(320, root.clientWidth - 2);
  const scale = () => (width() - GUTTER - RIGHT) / (view.to - view.from);

  function draw() {
    if (!view) return;
    const marked = at && runs[at.run] ? pair(runs[at.run], at.index, styles) : [];
    runs.forEach((run, n) =>
      drawRun(panels[n].canvas, run, view, width(), styles, at && at.run === n ? marked : []));
    drawAxis(axis, view, width());
    root.dataset.drawn = `${++drawn}`;
    root.dataset.from = view.from.toFixed(4);
    root.dataset.to = view.to.toFixed(4);
  }

  let waiting = 0;
  const soon = () => { waiting = waiting || requestAnimationFrame(() => { waiting = 0; draw(); }); };

  function changed() {
    const before = view;
    runs = model.get("picture").runs.map(decode);
    const rows = runs.reduce((sum, run) => sum + run.rows.length, 0);
    runs.forEach((run) => layOut(run, rows));
    view = runs.length ? wholeView(runs) : null;
    if (before && view && !before.whole) view = zoomed(view, before.from, before.to);
    at = null;
    pinned = false;
    tip.hidden = true;
    while (panels.length > runs.length) panels.pop().box.remove();
    while (panels.length < runs.length) panels.push(panel());
    runs.forEach((run, n) => describe(panels[n], run));
    showLegend();
    root.setAttribute("aria-label", runs.map((run) => `${run.heading}: ${run.summary}`).join(". ") || "no run");
    axis.hidden = !runs.length;
    draw();
  }

  function panel() {
    const box = element(body, "div", "dwdp-run"), head = element(box, "div", "dwdp-head");
    return {
      box,
      name: element(head, "b"),
      worth: element(head, "span", "dwdp-worth"),
      notes: element(head, "span", "dwdp-notes"),
      summary: element(box, "div", "dwdp-summary"),
      canvas: element(box, "canvas"),
    };
  }

  function describe(parts, run) {
    parts.name.textContent = run.heading.replace(`: ${run.provenance} `, " ");
    parts.worth.textContent = run.provenance;
    parts.worth.dataset.worth = run.provenance;
    parts.notes.textContent = parts.notes.title = run.notes.join(" · ");
    parts.summary.textContent = parts.summary.title = run.summary;
    parts.box.dataset.operations = run.operations;
  }

  function showLegend() {
    const used = new Set(runs.flatMap((run) => [...new Set(run.kind)]));
    const kinds = styles.kinds.filter((_, number) => used.has(number));
    const labels = kinds.map((kind) => kind.label).join();
    if (legend.dataset.labels === labels) return;
    legend.dataset.labels = labels;
    legend.replaceChildren();
    const entries = new Map(); // kinds of one colour play the same part: one entry
    for (const kind of kinds) {
      const look = kind.hatched ? `url(${stripes(kind.colour).toDataURL()})` : kind.colour;
      entries.set(look, [...(entries.get(look) || []), kind.label]);
    }
    for (const [look, names] of entries) {
      const entry = element(legend, "span", "dwdp-kind");
      element(entry, "i").style.background = look;
      element(entry, "span", "", names.join(", "));
    }
  }

  // --- what one points at
  function find(event) {
    for (let n = 0; n < runs.length; n++) {
      const place = panels[n].canvas.getBoundingClientRect(), y = event.clientY - place.top;
      if (y < 0 || y > place.height) continue;
      const r = rowAt(runs[n], y), time = view.from + (event.clientX - place.left - GUTTER) / scale();
      const index = r < 0 ? -1 : spanAt(runs[n], r, time, 2 / scale());
      return index < 0 ? null : { run: n, index };
    }
    return null;
  }

  function point(found, x, y) {
    at = found;
    if (!found) return forget();
    const lines = words(runs[found.run], found.index, styles);
    tip.replaceChildren(...lines.map((line, i) => element(null, i ? "div" : "b", "", line)));
    tip.hidden = false;
    const room = root.getBoundingClientRect();
    tip.style.left = `${Math.max(0, Math.min(x - room.left + 14, room.width - tip.offsetWidth - 4))}px`;
    const below = y - room.top + 16, above = below - 26 - tip.offsetHeight;
    tip.style.top = `${below + tip.offsetHeight > room.height ? Math.max(0, above) : below}px`;
    soon();
  }

  function forget() {
    at = null;
    pinned = false;
    tip.hidden = true;
    soon();
  }

  function pointAt(found) {
    const run = runs[found.run], place = panels[found.run].canvas.getBoundingClientRect();
    if (run.start[found.index] > view.to || run.end[found.index] < view.from) {
      const half = (view.to - view.from) / 2;
      view = zoomed(view, run.start[found.index] - half, run.start[found.index] + half);
    }
    const r = run.row[found.index], x = GUTTER + (run.start[found.index] - view.from) * scale();
    pinned = true;
    point(found, place.left + Math.max(GUTTER, x), place.top + run.tops[r] + run.heights[r]);
  }

  // --- pointer and keys
  let drag = null;
  body.addEventListener("pointerdown", (event) => {
    if (event.button || !view || event.target.tagName !== "CANVAS") return;
    root.focus({ preventScroll: true });
    drag = { x: event.clientX, view, pan: event.shiftKey };
    body.setPointerCapture(event.pointerId);
  });
  body.addEventListener("pointermove", (event) => {
    if (!view) return;
    if (!drag) {
      const found = find(event);
      if (!pinned && (found || at)) point(found, event.clientX, event.clientY);
      return;
    }
    const room = root.getBoundingClientRect();
    if (drag.pan) {
      view = moved(drag.view, (drag.x - event.clientX) / (width() - GUTTER - RIGHT));
      soon();
    } else {
      const left = Math.max(GUTTER, Math.min(drag.x, event.clientX) - room.left);
      band.hidden = Math.abs(event.clientX - drag.x) < 4;
      band.style.left = `${left}px`;
      band.style.width = `${Math.max(drag.x, event.clientX) - room.left - left}px`;
    }
  });
  body.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const from = drag, room = root.getBoundingClientRect();
    drag = null;
    band.hidden = true;
    if (from.pan) return;
    if (Math.abs(event.clientX - from.x) < 4) {
      const found = find(event), again = pinned && found && at && found.index === at.index && found.run === at.run;
      pinned = Boolean(found) && !again;
      if (!found || again) forget();
      else point(found, event.clientX, event.clientY);
      return;
    }
    const time = (x) => view.from + (x - room.left - GUTTER) / scale();
    const [a, b] = [time(Math.min(from.x, event.clientX)), time(Math.max(from.x, event.clientX))];
    view = zoomed(view, Math.max(view.from, a), Math.min(view.to, b));
    forget();
  });
  body.addEventListener("pointerleave", () => { if (!pinned && at) forget(); });
  body.addEventListener("dblclick", () => { view = zoomed(view, 0, view.end); soon(); });
  root.addEventListener("wheel", (event) => {
    if (!view || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    const time = view.from + (event.clientX - root.getBoundingClientRect().left - GUTTER) / scale();
    view = scaled(view, Math.exp(event.deltaY / 300), time);
    soon();
  }, { passive: false });
  root.addEventListener("keydown", (event) => {
    if (!view || event.target !== root) return;
    const next = afterKey(view, event.key);
    if (next) {
      view = next;
      soon();
    } else if ([".", ",", "ArrowUp", "ArrowDown"].includes(event.key)) {
      const found = stepped(runs, at, event.key, view);
      if (found) pointAt(found);
    } else if (event.key === "Escape") forget();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  const told = offerFiles(model, foot);
  model.on("change:picture", changed);
  model.on("msg:custom", told);
  const resized = new ResizeObserver(soon);
  resized.observe(root);
  changed();
  return () => {
    resized.disconnect();
    model.off("change:picture", changed);
    model.off("msg:custom", told);
  };
}

export default { render };
