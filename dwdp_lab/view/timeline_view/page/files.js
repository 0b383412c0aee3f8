// Files for the person: downloads, and traces handed to Perfetto.

const PERFETTO = "https://ui.perfetto.dev";

function download(name, data) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([data], { type: "application/json" }));
  link.download = name;
  document.body.appendChild(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// Perfetto asks for nothing until it answers a PING; then it takes the trace by message.
function handToPerfetto(page, data, title) {
  const ping = setInterval(() => (page.closed ? stop() : page.postMessage("PING", PERFETTO)), 100);
  const stop = () => {
    clearInterval(ping);
    window.removeEventListener("message", answered);
  };
  const answered = (event) => {
    if (event.origin !== PERFETTO || event.data !== "PONG") return;
    stop();
    page.postMessage({ perfetto: { buffer: bytes(data), title } }, PERFETTO);
  };
  window.addEventListener("message", answered);
  setTimeout(stop, 60000);
}

// Buttons below the timeline; what they give comes from the kernel. Returns what to do with the kernel's messages.
function offerFiles(model, foot) {
  const answers = new Map();
  let asked = 0;
  const ask = (what, then) => {
    answers.set(++asked, then);
    model.send({ ask: what, number: asked });
  };
  const button = (text, title, act) => {
    const made = element(foot, "button", "", text);
    made.title = title;
    made.addEventListener("click", act);
  };
  button("Open in Perfetto", "Opens ui.perfetto.dev with every operation shown; the trace stays in your browser", () => {
    const page = window.open(PERFETTO);
    if (page) ask("trace", (data) => handToPerfetto(page, data, "DWDP Lab"));
  });
  button("Download trace", "Chrome trace JSON of what is shown, for Perfetto", () =>
    ask("trace", (data) => download("dwdp-trace.json", data)));
  button("Download picture", "SVG of what is shown", () =>
    ask("picture", (data) => download("dwdp-timeline.svg", data)));
  element(foot, "span", "dwdp-hint",
    "drag: zoom · double click: all · shift-drag, ← →: move · + −, Ctrl-wheel: zoom · click or . , ↑ ↓: one operation");
  return (message, buffers) => {
    if (message.file) download(message.file, buffers[0]);
    const then = answers.get(message.number);
    answers.delete(message.number);
    if (then) then(buffers[0]);
  };
}
