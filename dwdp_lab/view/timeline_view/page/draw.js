// One run on one canvas: rows of spans, and below them how busy the links are.

const MUTED = "#52606D", GRID = "#D9DEE4", BAND = "#F1F4F7";
const FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif";
const patterns = new Map();

function stripes(colour) {
  if (!patterns.has(colour)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 5;
    const pen = tile.getContext("2d");
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, 5, 5);
    pen.strokeStyle = colour;
    pen.lineWidth = 1.3;
    for (const shift of [-5, 0, 5]) {
      pen.beginPath();
      pen.moveTo(shift, 5);
      pen.lineTo(shift + 5, 0);
      pen.stroke();
    }
    patterns.set(colour, tile);
  }
  return patterns.get(colour);
}

function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

function ticks(view) {
  const length = view.to - view.from, power = 10 ** Math.floor(Math.log10(length / 8));
  const step = power * [1, 2, 2.5, 5, 10, 20].find((factor) => length / (power * factor) <= 8);
  const found = [];
  for (let i = Math.ceil(view.from / step - 1e-9); i * step <= view.to + 1e-9 * step; i++) {
    found.push(i * step + 0); // not -0
  }
  return { found, step };
}

function drawRun(canvas, run, view, width, styles, marked) {
  const pen = sized(canvas, width, run.height), scale = (width - GUTTER - RIGHT) / (view.to - view.from);
  const place = (time) => GUTTER + (time - view.from) * scale;
  pen.save();
  pen.beginPath();
  pen.rect(GUTTER, 0, width - GUTTER - RIGHT + 1, run.height);
  pen.clip();
  pen.fillStyle = BAND;
  run.rows.forEach((row, r) => pen.fillRect(GUTTER, run.tops[r], place(row.end_ms) - GUTTER, run.heights[r]));
  pen.fillStyle = GRID;
  for (const tick of ticks(view).found) pen.fillRect(place(tick) - 0.5, 0, 1, run.height - 4);
  drawSpans(pen, run, view, place, styles, marked);
  drawEnds(pen, run, place, styles);
  drawLoad(pen, run, place, width);
  pen.restore();
  drawLabels(pen, run);
}

function drawSpans(pen, run, view, place, styles, marked) {
  const fills = styles.kinds.map((kind) =>
    kind.hatched ? pen.createPattern(stripes(kind.colour), "repeat") : kind.colour);
  const named = [];
  for (let r = 0; r < run.rows.length; r++) {
    const top = run.tops[r], height = run.heights[r];
    let last = -1, lastRight = -1;
    for (let i = run.first[r]; i < run.first[r + 1] && run.start[i] <= view.to; i++) {
      if (run.end[i] < view.from) continue;
      let left = place(run.start[i]);
      const right = place(run.end[i]);
      if (run.kind[i] === last && left < lastRight + 0.8 && right - left > 3) left = lastRight + 0.8;
      pen.globalAlpha = !marked.length || marked.includes(i) ? 1 : 0.2;
      pen.fillStyle = fills[run.kind[i]];
      pen.fillRect(left, top, Math.max(right - left, 0.4), height);
      if (styles.kinds[run.kind[i]].hatched && right - left > 4) {
        pen.strokeStyle = styles.ink;
        pen.lineWidth = 0.6;
        pen.strokeRect(left + 0.3, top + 0.3, right - left - 0.6, height - 0.6);
      }
      if (right - left > 64 && height >= 13 && run.layer[i] >= 0) named.push([i, left, right, top + height / 2]);
      last = run.kind[i];
      lastRight = right;
    }
  }
  pen.font = `10px ${FONT}`;
  pen.textBaseline = "middle";
  for (const [i, left, right, middle] of named) {
    const kind = styles.kinds[run.kind[i]], text = `${kind.label} ${run.layer[i]}`;
    const from = Math.max(left, GUTTER) + 5;
    if (pen.measureText(text).width > right - from - 4) continue;
    pen.globalAlpha = !marked.length || marked.includes(i) ? 1 : 0.2;
    if (kind.hatched) {
      pen.fillStyle = "#fff";
      pen.fillRect(from - 2, middle - 6, pen.measureText(text).width + 4, 12);
    }
    pen.fillStyle = dark(kind) ? "#fff" : styles.ink;
    pen.fillText(text, from, middle + 0.5);
  }
  pen.globalAlpha = 1;
  if (marked.length === 2) drawArrow(pen, run, place, marked, styles);
}

function dark(kind) {
  if (kind.hatched) return false;
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(kind.colour.slice(at, at + 2), 16));
  return 0.299 * r + 0.587 * g + 0.114 * b < 130;
}

// From the end of a pull to the start of the experts that read what it brought.
function drawArrow(pen, run, place, [pull, experts], styles) {
  pen.strokeStyle = pen.fillStyle = styles.ink;
  pen.lineWidth = 1.6;
  for (const i of [pull, experts]) {
    const left = place(run.start[i]);
    pen.strokeRect(left, run.tops[run.row[i]], place(run.end[i]) - left, run.heights[run.row[i]]);
  }
  const upwards = run.row[experts] < run.row[pull];
  const edge = (i, low) => run.tops[run.row[i]] + (low ? run.heights[run.row[i]] : 0);
  const [x1, y1, x2] = [place(run.end[pull]) - 2, edge(pull, !upwards), place(run.start[experts]) + 5];
  const tip = edge(experts, upwards), back = upwards ? tip + 1 : tip - 1, into = upwards ? -7 : 7;
  pen.beginPath();
  pen.moveTo(x1, y1);
  pen.lineTo(x2, back);
  pen.stroke();
  pen.beginPath();
  pen.moveTo(x2, tip + into);
  pen.lineTo(x2 - 4.5, tip);
  pen.lineTo(x2 + 4.5, tip);
  pen.fill();
}

function drawEnds(pen, run, place, styles) {
  run.rows.forEach((row, r) => {
    pen.fillStyle = styles.ink;
    pen.fillRect(place(row.end_ms) - 0.7, run.tops[r] - 1, 1.4, run.heights[r] + 2);
  });
}

function drawLoad(pen, run, place, width) {
  const top = run.rowsHeight + 4, bottom = top + STRIP - 4, most = loadScale(run);
  pen.fillStyle = "rgba(255,255,255,.8)";
  pen.fillRect(GUTTER, top, width, STRIP - 4);
  pen.beginPath();
  pen.moveTo(GUTTER, bottom);
  let y = bottom;
  for (let i = 0; i < run.load_points; i++) {
    const x = Math.max(-5, Math.min(width + 5, place(run.loadTime[i])));
    pen.lineTo(x, y);
    y = bottom - (run.load[i] / most) * (STRIP - 8);
    pen.lineTo(x, y);
  }
  pen.lineTo(width + 5, bottom);
  pen.fillStyle = "#9FB3C8";
  pen.fill();
  pen.fillStyle = MUTED;
  pen.fillRect(GUTTER, bottom - 0.5, width, 1);
  if (run.link_gbps && run.link_gbps <= most) {
    const line = bottom - (run.link_gbps / most) * (STRIP - 8);
    pen.strokeStyle = MUTED;
    pen.lineWidth = 1;
    pen.setLineDash([4, 3]);
    pen.beginPath();
    pen.moveTo(GUTTER, line);
    pen.lineTo(width, line);
    pen.stroke();
    pen.setLineDash([]);
  }
}

function loadScale(run) {
  let most = 0;
  for (let i = 0; i < run.load_points; i++) most = Math.max(most, run.load[i]);
  return run.link_gbps ? Math.max(most, run.link_gbps) : most || 1;
}

function drawLabels(pen, run) {
  pen.textBaseline = "middle";
  pen.textAlign = "left";
  let rank = -1;
  run.rows.forEach((row, r) => {
    const middle = run.tops[r] + run.heights[r] / 2;
    if (row.rank !== rank) {
      pen.fillStyle = "#1F2933";
      pen.font = `600 ${Math.min(11.5, run.heights[r] + 3)}px ${FONT}`;
      if (run.heights[r] >= 9 || row.rank % 4 === 0) pen.fillText(`rank ${row.rank}`, 2, middle);
    }
    rank = row.rank;
    if (run.heights[r] >= 7) {
      pen.fillStyle = MUTED;
      pen.font = `${Math.min(10.5, run.heights[r] + 2.5)}px ${FONT}`;
      pen.textAlign = "right";
      pen.fillText(row.lane, GUTTER - 6, middle);
      pen.textAlign = "left";
    }
  });
  const top = run.rowsHeight + 4;
  pen.fillStyle = "#1F2933";
  pen.font = `600 10.5px ${FONT}`;
  pen.fillText("link load", 2, top + 10);
  pen.fillStyle = MUTED;
  pen.font = `10px ${FONT}`;
  pen.fillText("GB/s per rank", 2, top + 24);
  pen.textAlign = "right";
  pen.fillText(figures(loadScale(run)), GUTTER - 6, top + 8);
  pen.textAlign = "left";
}

function drawAxis(canvas, view, width) {
  const pen = sized(canvas, width, 30), scale = (width - GUTTER - RIGHT) / (view.to - view.from);
  const { found, step } = ticks(view);
  let digits = 0; // as many as the step between two ticks needs: 2.5 has one
  while (digits < 6 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits++;
  pen.fillStyle = MUTED;
  pen.font = `11px ${FONT}`;
  pen.textBaseline = "top";
  pen.textAlign = "center";
  for (const tick of found) {
    pen.fillRect(GUTTER + (tick - view.from) * scale - 0.5, 0, 1, 4);
    const text = tick.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    pen.fillText(text, GUTTER + (tick - view.from) * scale, 7);
  }
  pen.textAlign = "left";
  pen.fillText("time (ms)", 2, 7);
}
