// A run as drawn: columns of numbers decoded, rows laid out, spans found under a point.

const GUTTER = 104, STRIP = 40, RIGHT = 10;

function bytes(view) {
  return view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);
}

function columns(array, count, width) {
  return Array.from({ length: width }, (_, i) => array.subarray(i * count, (i + 1) * count));
}

function decode(panel) {
  const count = panel.count;
  const [start, end, nbytes, flops] = columns(new Float32Array(bytes(panel.floats)), count, 4);
  const [row, kind, layer, step, peer] = columns(new Int16Array(bytes(panel.labels)), count, 5);
  const [loadTime, load] = columns(new Float32Array(bytes(panel.load)), panel.load_points, 2);
  const first = new Int32Array(panel.rows.length + 1);
  for (let i = 0; i < count; i++) first[row[i] + 1]++;
  for (let r = 0; r < panel.rows.length; r++) first[r + 1] += first[r];
  return { ...panel, start, end, nbytes, flops, row, kind, layer, step, peer, loadTime, load, first };
}

// Tops and heights of rows in pixels: all runs together should fit a laptop's screen.
function layOut(run, allRows) {
  const full = Math.max(7, Math.min(17, Math.floor(310 / Math.max(1, allRows))));
  run.tops = [];
  run.heights = [];
  let y = 4, rank = -1;
  for (const row of run.rows) {
    if (rank >= 0 && row.rank !== rank) y += full > 9 ? 5 : 3;
    rank = row.rank;
    const height = row.lane === "copy" ? Math.max(5, Math.round(full * 0.66)) : full;
    run.tops.push(y);
    run.heights.push(height);
    y += height + 1.5;
  }
  run.rowsHeight = y + 4;
  run.height = run.rowsHeight + STRIP + 8;
}

function rowAt(run, y) {
  for (let r = 0; r < run.rows.length; r++) {
    if (y >= run.tops[r] - 1 && y < run.tops[r] + run.heights[r] + 1) return r;
  }
  return -1;
}

// The span of a row at a time; of those that touch the time within `slack`, the last one begun.
function spanAt(run, r, time, slack) {
  let low = run.first[r], high = run.first[r + 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (run.start[middle] <= time + slack) low = middle + 1;
    else high = middle;
  }
  for (let i = low - 1; i >= run.first[r] && i > low - 12; i--) {
    if (run.end[i] >= time - slack) return i;
  }
  return -1;
}

// A pull and the experts that consume it, whichever of the two is given; [] for other spans.
function pair(run, index, styles) {
  const wanted = { [styles.pull]: styles.experts, [styles.experts]: styles.pull }[run.kind[index]];
  if (wanted === undefined) return [];
  const rank = run.rows[run.row[index]].rank;
  for (let i = 0; i < run.count; i++) {
    if (run.kind[i] === wanted && run.layer[i] === run.layer[index] && run.step[i] === run.step[index] &&
        run.rows[run.row[i]].rank === rank) {
      return wanted === styles.experts ? [index, i] : [i, index];
    }
  }
  return [];
}

function figures(value, digits = 3) {
  if (!value) return "0";
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return value.toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

// What a span is, line by line; the first line is its name.
function words(run, i, styles) {
  const row = run.rows[run.row[i]], ms = run.end[i] - run.start[i], kind = styles.kinds[run.kind[i]];
  const lines = [`${kind.label}, rank ${row.rank}, ${row.lane}`];
  if (run.layer[i] === -2) lines.push("several operations drawn together");
  else if (run.layer[i] >= 0) lines.push(`layer ${run.layer[i]}, step ${run.step[i]}`);
  lines.push(`${figures(ms, 4)} ms, from ${figures(run.start[i], 4)} to ${figures(run.end[i], 4)} ms`);
  if (run.peer[i] >= 0) lines.push(`waited for rank ${run.peer[i]}`);
  if (run.nbytes[i]) lines.push(`${figures(run.nbytes[i] / 1e6)} MB, ${figures(run.nbytes[i] / ms / 1e6)} GB/s`);
  if (run.flops[i]) lines.push(`${figures(run.flops[i] / 1e9)} GFLOP, ${figures(run.flops[i] / ms / 1e9)} TFLOP/s`);
  const both = pair(run, i, styles);
  if (both.length) {
    const [pulled, used] = both, spare = run.start[used] - run.end[pulled];
    const when = spare > 1e-4 * ms ? `${figures(spare)} ms after it ended` : "the moment it ended";
    lines.push(i === pulled
      ? `used by the experts of layer ${run.layer[i]} ${when}`
      : `read what a pull of ${figures(run.end[pulled] - run.start[pulled])} ms brought`);
  }
  return lines;
}
