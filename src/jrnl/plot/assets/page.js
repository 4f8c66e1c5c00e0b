"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const steps = data.steps, last = steps.seq.length; // step 0 is the state before the first entry
  const low = data.edges[0], high = data.edges[data.edges.length - 1];
  const columns = data.edges.length - 1;
  const KINDS = ["flags", "write", "discard", "zeroes", "mark", "flush", "rewind"];
  const SIZES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  const names = data.names;
  const onLine = names.filter((n) => n.step >= 0).sort((a, b) => a.step - b.step);
  let step = last;

  // How things read.

  function size(bytes) {
    let value = Number(bytes), unit = 0;
    while (value >= 1024 && unit < SIZES.length - 1) { value /= 1024; unit += 1; }
    const digits = value >= 100 || Number.isInteger(value) ? 0 : value >= 10 ? 1 : 2;
    return `${value.toFixed(digits)} ${SIZES[unit]}`;
  }

  function count(number, what) {
    return `${Number(number).toLocaleString("en")} ${what}${Number(number) === 1 ? "" : "s"}`;
  }

  const SPANS = [[86400e6, "d"], [3600e6, "h"], [60e6, "min"], [1e6, "s"], [1e3, "ms"], [0, "µs"]];

  function time(micro) {
    const [by, unit] = SPANS.find(([least]) => Math.abs(micro) >= least);
    const value = micro / (by || 1);
    return `${Number(value.toFixed(3))} ${unit}`;
  }

  const place = (value) => (data.axis === "time" ? `+${time(value)}` : String(value));
  const seqOf = (k) => (k === 0 ? data.since : steps.seq[k - 1]);
  const atOf = (k) => (k === 0 ? low : steps.at[k - 1]);

  // Colours: dark is much on light ground, light is much on dark ground.

  const STOPS = [[254, 196, 140], [250, 136, 96], [222, 73, 104], [161, 48, 126], [87, 21, 126], [24, 15, 62]];
  const DARK_STOPS = [[68, 18, 110], [129, 37, 129], [190, 55, 118], [241, 96, 93], [254, 168, 115], [252, 253, 191]];
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function shade(part) {
    const stops = dark.matches ? DARK_STOPS : STOPS;
    const x = part * (stops.length - 1), k = Math.min(Math.floor(x), stops.length - 2);
    return stops[k].map((c, i) => Math.round(c + (stops[k + 1][i] - c) * (x - k)));
  }

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function hex(text) {
    const n = parseInt(text.slice(1), 16);
    return [n >> 16, (n >> 8) & 255, n & 255];
  }

  // Heat maps.

  const rowsOf = (volume) => volume.rows[volume.rows.length - 1];

  function rowAt(volume, offset) { // where an offset stands; what is left out, where that would be
    let part = volume.starts.findLastIndex((start) => Number(start) <= offset);
    if (part < 0) part = 0;
    const within = (offset - Number(volume.starts[part])) / Number(volume.block);
    return Math.min(volume.rows[part] + Math.max(within, 0), volume.rows[part + 1]);
  }

  function mapOf(volume) {
    const row = document.createElement("div");
    row.className = "row";
    const height = Math.max(96, Math.round(330 / data.volumes.length));
    const title = document.createElement("p");
    title.className = "volume-name";
    const name = document.createElement("b");
    name.textContent = volume.name;
    const all = Number(volume.shown) >= Number(volume.size);
    title.append(name, all ? `, ${size(volume.size)}`
      : `: the ${size(volume.shown)} of ${size(volume.size)} that were written`);
    const label = document.createElement("div");
    label.className = "label";
    label.setAttribute("aria-hidden", "true");
    let free = Infinity;
    for (const [first, text] of volume.ticks) {
      const y = height * (1 - first / rowsOf(volume));
      if (y > free || y < 5) continue;
      const tick = document.createElement("span");
      tick.textContent = text;
      tick.style.top = `${y}px`;
      label.append(tick);
      free = y - 14;
    }
    const canvas = document.createElement("canvas");
    canvas.className = "map";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label",
      `Heat map of the volume ${volume.name}: bytes written by offset, from below, and moment`);
    canvas.style.height = `${height}px`;
    row.append(label, canvas);
    at("maps").append(title, row);
    const text = atob(volume.cells);
    const shades = Uint8Array.from(text, (c) => c.charCodeAt(0));
    canvas.addEventListener("pointerdown", (event) => { drag(canvas, event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons) drag(canvas, event); });
    return { volume, canvas, shades, picture: null };
  }

  function drag(canvas, event) {
    const box = canvas.getBoundingClientRect();
    const part = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    go(stepAt(low + part * (high - low)));
  }

  function stepAt(value) { // the last step at or before a place
    let a = 0, b = last;
    while (a < b) {
      const middle = (a + b + 1) >> 1;
      if (atOf(middle) <= value) a = middle; else b = middle - 1;
    }
    return a;
  }

  function paint(map) {
    const rows = rowsOf(map.volume);
    const picture = document.createElement("canvas");
    picture.width = columns;
    picture.height = rows;
    const context = picture.getContext("2d");
    const image = context.createImageData(columns, rows);
    const cleared = hex(colour("--cleared"));
    map.shades.forEach((value, k) => {
      if (!value) return;
      const y = rows - 1 - Math.floor(k / columns), x = k % columns;
      const [r, g, b] = value === 1 ? cleared : shade((value - 2) / 253);
      image.data.set([r, g, b, 255], 4 * (y * columns + x));
    });
    context.putImageData(image, 0, 0);
    map.picture = picture;
  }

  function sized(canvas) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    return [context, width, height, ratio];
  }

  const across = (value, width) => ((value - low) / (high - low || 1)) * width;

  function hatch(context, from, to, height, ratio) {
    context.save();
    context.beginPath();
    context.rect(from, 0, Math.max(to - from, 2 * ratio), height);
    context.clip();
    context.strokeStyle = colour("--dropped");
    context.lineWidth = ratio;
    context.beginPath();
    for (let x = from - height; x < to + 6 * ratio; x += 6 * ratio) { context.moveTo(x, height); context.lineTo(x + height, 0); }
    context.stroke();
    context.restore();
  }

  function cursor(context, width, height, ratio) {
    const x = across(step === 0 ? low : Math.min(atOf(step) + (data.axis === "seq" ? 1 : 0), high), width);
    context.fillStyle = colour("--cursor");
    context.fillRect(Math.min(Math.max(x - ratio, 0), width - 2 * ratio), 0, 2 * ratio, height);
    return x;
  }

  function drawMap(map) {
    const [context, width, height, ratio] = sized(map.canvas);
    context.imageSmoothingEnabled = false;
    context.drawImage(map.picture, 0, 0, width, height);
    context.fillStyle = colour("--rule");
    for (const row of map.volume.rows.slice(1, -1)) { // something is left out here
      context.fillRect(0, Math.round(height * (1 - row / rowsOf(map.volume))), width, 1);
    }
    const x = cursor(context, width, height, ratio);
    context.globalAlpha = 0.55; // what is still to come
    context.fillStyle = colour("--back");
    context.fillRect(x + ratio, 0, width - x, height);
    context.globalAlpha = 1;
    if (step > 0 && steps.volume[step - 1] === map.volume.index) { // what changed just now
      const rows = rowsOf(map.volume);
      const top = height * (1 - rowAt(map.volume, Number(steps.high[step - 1])) / rows);
      const bottom = height * (1 - rowAt(map.volume, Number(steps.low[step - 1])) / rows);
      context.strokeStyle = colour("--cursor");
      context.lineWidth = 2 * ratio;
      const tall = Math.max(bottom - top, 6 * ratio);
      context.strokeRect(Math.min(Math.max(x - 8 * ratio, ratio), width - 17 * ratio), Math.min(Math.max((top + bottom - tall) / 2, ratio), height - tall - ratio), 16 * ratio, tall);
    }
  }

  function drawLane() {
    const [context, width, height, ratio] = sized(at("lane"));
    for (const [from, to] of data.dropped) hatch(context, across(from, width), across(to, width), height, ratio);
    for (const name of onLine) {
      const x = Math.min(Math.max(across(name.at, width), 5 * ratio), width - 5 * ratio), r = 5 * ratio;
      context.fillStyle = colour(name.kind === "mark" ? "--mark" : "--snapshot");
      context.beginPath();
      if (name.kind === "mark") { context.moveTo(x - r, 2 * ratio); context.lineTo(x + r, 2 * ratio); context.lineTo(x, height - 2 * ratio); }
      else { context.moveTo(x, 2 * ratio); context.lineTo(x + r, height / 2); context.lineTo(x, height - 2 * ratio); context.lineTo(x - r, height / 2); }
      context.fill();
    }
    cursor(context, width, height, ratio);
  }

  function drawScale() {
    const [context, width, height] = sized(at("scale"));
    for (let x = 0; x < width; x += 1) {
      context.fillStyle = `rgb(${shade(x / width).join()})`;
      context.fillRect(x, 0, 1, height);
    }
  }

  // The moment.

  let elsewhere = null; // a snapshot that is chosen and stands on no step

  function pointNow() {
    if (elsewhere) return elsewhere.name;
    const here = onLine.filter((n) => n.step === step);
    const named = here.find((n) => n.kind === "mark") || here[0];
    return named ? named.name : String(seqOf(step));
  }

  function recoverable() {
    return elsewhere !== null || onLine.some((n) => n.step === step && n.kind === "snapshot")
      || BigInt(seqOf(step)) >= BigInt(data.window[0]);
  }

  function describe(k) { // what step k is
    if (k === 0) return "the state before the first entry";
    const kind = steps.kind[k - 1], many = steps.count[k - 1];
    const flushed = steps.flushes[k - 1] && kind !== 5 ? (many > 1 ? `, ${count(steps.flushes[k - 1], "flush").replace("flushs", "flushes")}` : ", flush") : "";
    if (many > 1) return `${count(many, "entry").replace("entrys", "entries")}${flushed}`;
    return `${KINDS[kind] === "flags" && flushed ? "flush" : KINDS[kind]}${KINDS[kind] === "flags" ? "" : flushed}`;
  }

  function about() {
    if (elsewhere) return `The snapshot holds state ${elsewhere.seq}, which is not on this line.`;
    const here = onLine.filter((n) => n.step === step).map((n) => `${n.kind} “${n.name}”`);
    const moment = data.axis === "time" ? `, ${place(atOf(step))} after ${data.origin}` : "";
    const can = recoverable() ? "" : ` It can't be recovered any more: the window begins at ${data.window[0]}.`;
    return `State ${seqOf(step)}${moment}: ${describe(step)}${here.length ? "; " + here.join(", ") : ""}.${can}`;
  }

  const short = (text) => ([...text].length > 40 ? `${[...text].slice(0, 39).join("")}…` : text);
  const quoted = (text) => (/^[\w.:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

  function show() {
    const point = pointNow();
    at("point").textContent = point;
    at("about").textContent = about();
    at("copy").disabled = !recoverable();
    at("copied").textContent = "";
    at("command-line").hidden = !data.command || !recoverable();
    if (data.command) at("command").textContent = data.command + quoted(point);
    at("slider").value = step;
    at("slider").setAttribute("aria-valuetext", `${point}: ${about()}`);
    const chosen = elsewhere || onLine.find((n) => n.step === step);
    at("names").value = chosen ? String(names.indexOf(chosen)) : "";
    maps.forEach(drawMap);
    drawLane();
    list();
  }

  function list() {
    const most = 15, from = Math.max(0, Math.min(step - 10, last - most + 1));
    const made = [];
    for (let k = from; k <= Math.min(from + most - 1, last); k += 1) made.push(line(k));
    at("rows").replaceChildren(...made);
  }

  function line(k) {
    const row = document.createElement("tr");
    if (k === step) row.setAttribute("aria-current", "true");
    if (k > step) row.className = "later";
    const touched = k > 0 && Number(steps.high[k - 1]) > 0;
    const volume = touched && data.volumes.find((v) => v.index === steps.volume[k - 1]);
    const here = onLine.filter((n) => n.step === k).map((n) => n.name);
    const cells = [
      String(seqOf(k)),
      data.axis === "time" ? place(atOf(k)) : "",
      k === 0 ? "(before)" : describe(k) + (here.length ? ` ${short(`“${here.join("”, “")}”`)}` : ""),
      volume ? volume.name : touched ? "several" : "",
      touched ? (steps.count[k - 1] > 1 ? `${size(steps.low[k - 1])} …` : BigInt(steps.low[k - 1]).toLocaleString("en")) : "",
      touched ? size(steps.bytes[k - 1]) : "",
    ];
    cells.forEach((text, column) => {
      if (!touched && column > 2) return; // what has no range may be told at length
      const cell = document.createElement("td");
      cell.textContent = text;
      if (column === 1) cell.className = "time";
      if (column === 2 && !touched) cell.colSpan = data.volumes.length === 1 ? 3 : 4;
      if (column === 3) { cell.className = "volume"; cell.title = text; }
      if (column === 4 && touched) cell.title = `byte ${steps.low[k - 1]} to ${steps.high[k - 1]}`;
      row.append(cell);
    });
    row.addEventListener("click", () => go(k));
    return row;
  }

  function go(to) {
    elsewhere = null;
    step = Math.min(Math.max(Math.round(to), 0), last);
    show();
  }

  function goToName(direction) {
    const found = direction > 0 ? onLine.find((n) => n.step > step)
      : [...onLine].reverse().find((n) => n.step < step);
    if (found) go(found.step);
  }

  // Copying: the clipboard may be refused, to a file above all.

  async function copy() {
    const text = pointNow();
    let done = false;
    try {
      await navigator.clipboard.writeText(text);
      done = true;
    } catch {
      done = copyTheOldWay(text);
    }
    if (!done) getSelection().selectAllChildren(at("point"));
    at("copied").textContent = done ? `Copied: ${text}` : "Selected: copy it with Ctrl+C or ⌘C.";
  }

  function copyTheOldWay(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    let done = false;
    try { done = document.execCommand("copy"); } catch { done = false; }
    area.remove();
    at("copy").focus();
    return done;
  }

  // Setting up.

  const KEYS = {
    ArrowLeft: () => go(step - 1), ArrowRight: () => go(step + 1),
    ArrowDown: () => go(step - 1), ArrowUp: () => go(step + 1),
    PageDown: () => go(step - Math.max(1, last / 20)), PageUp: () => go(step + Math.max(1, last / 20)),
    Home: () => go(0), End: () => go(last),
    "[": () => goToName(-1), "]": () => goToName(1), c: copy,
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
    const onSlider = event.target === at("slider");
    if (!onSlider && ["ArrowUp", "ArrowDown"].includes(event.key)) return; // they scroll
    const act = KEYS[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  at("slider").max = last;
  at("slider").addEventListener("input", (event) => go(Number(event.target.value)));
  at("previous").addEventListener("click", () => go(step - 1));
  at("next").addEventListener("click", () => go(step + 1));
  at("previous-name").addEventListener("click", () => goToName(-1));
  at("next-name").addEventListener("click", () => goToName(1));
  at("copy").addEventListener("click", copy);
  at("names").append(new Option(names.length ? "a mark or a snapshot …" : "there are no marks or snapshots", ""));
  names.forEach((name, k) => at("names").append(new Option(`${name.name} (${name.kind}, ${name.seq})`, k)));
  at("names").addEventListener("change", (event) => {
    const name = names[event.target.value];
    if (!name) return;
    if (name.step >= 0) go(name.step);
    else { elsewhere = name; show(); }
  });
  at("title").textContent = data.title;
  const left = data.more_names ? ` (${count(data.more_names, "older name")} left out)` : "";
  const others = data.volumes.length < data.all_volumes
    ? `; ${data.volumes.length} of ${data.all_volumes} volumes are shown` : "";
  const grouped = last < data.entries ? ` in ${count(last, "step")}` : "";
  at("summary").textContent = `${count(data.entries, "entry").replace("entrys", "entries")}${grouped}; states ${data.window[0]} to ${data.window[1]} can be recovered; ${names.length === 1 ? "1 mark or snapshot" : `${names.length} marks and snapshots`}${left}${others}.`;
  document.body.classList.toggle("one-volume", data.volumes.length === 1);
  document.body.classList.toggle("no-times", data.axis !== "time");
  at("axis-low").textContent = place(low);
  at("axis-high").textContent = place(data.axis === "seq" ? high - 1 : high);
  at("axis-label").textContent = data.axis === "seq" ? "seq" : `time since ${data.origin}`;
  at("least").textContent = data.heat ? `written in a cell: ${size(data.heat.least)}` : "";
  at("most").textContent = data.heat ? size(data.heat.most) : "";
  at("scale").hidden = !data.heat;
  const maps = data.volumes.map(mapOf);
  const redraw = () => { maps.forEach(paint); drawScale(); show(); };
  dark.addEventListener("change", redraw);
  window.addEventListener("resize", redraw);
  redraw();
})();
