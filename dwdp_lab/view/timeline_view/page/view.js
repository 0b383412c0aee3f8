// Which stretch of time is seen, and how pointer and keys change it.

function wholeView(runs) {
  const end = Math.max(0, ...runs.map((run) => run.end_ms)) || 1;
  return { from: 0, to: end * 1.01, end: end * 1.01, whole: true };
}

function zoomed(view, from, to) {
  const least = view.end / 20000, length = Math.min(view.end, Math.max(least, to - from));
  const start = Math.min(Math.max(0, from), view.end - length);
  return { ...view, from: start, to: start + length, whole: length >= view.end * 0.999 };
}

function scaled(view, factor, centre) {
  return zoomed(view, centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
}

function moved(view, share) {
  const shift = (view.to - view.from) * share;
  return zoomed(view, view.from + shift, view.to + shift);
}

// The view after a key, or null for a key that means nothing here.
function afterKey(view, key) {
  const middle = (view.from + view.to) / 2;
  switch (key) {
    case "+": case "=": return scaled(view, 0.6, middle);
    case "-": return scaled(view, 1 / 0.6, middle);
    case "ArrowLeft": return moved(view, -0.2);
    case "ArrowRight": return moved(view, 0.2);
    case "Home": return zoomed(view, 0, view.end);
    default: return null;
  }
}

// The span that the keys . and , and the arrows up and down go to from `at` ({run, index} or null).
function stepped(runs, at, key, view) {
  const inside = (run, r) => {
    for (let i = run.first[r]; i < run.first[r + 1]; i++) if (run.end[i] > view.from) return i;
    return -1;
  };
  const lanes = runs.flatMap((run, n) => run.rows.map((_, r) => [n, r])).filter(([n, r]) => inside(runs[n], r) >= 0);
  if (!lanes.length) return null;
  if (!at || !runs[at.run]) return { run: lanes[0][0], index: inside(runs[lanes[0][0]], lanes[0][1]) };
  const run = runs[at.run], r = run.row[at.index];
  if (key === "." || key === ",") {
    const index = at.index + (key === "." ? 1 : -1);
    return index >= run.first[r] && index < run.first[r + 1] ? { run: at.run, index } : at;
  }
  const now = lanes.findIndex(([n, lane]) => n === at.run && lane === r);
  const [n, lane] = lanes[Math.min(lanes.length - 1, Math.max(0, now + (key === "ArrowDown" ? 1 : -1)))];
  const near = spanAt(runs[n], lane, run.start[at.index], Infinity);
  for (let i = runs[n].first[lane]; i < runs[n].first[lane + 1]; i++) {
    if (runs[n].end[i] > run.start[at.index]) return { run: n, index: i };
  }
  return { run: n, index: near >= 0 ? near : inside(runs[n], lane) };
}
