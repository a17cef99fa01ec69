// Draws the spectrum that zooms from the numbers in the page; the picture stays where that fails.
(() => {
  const page = (id) => document.getElementById(id);
  const data = JSON.parse(page("spectrum-item").textContent);
  const box = page("interactive-spectrum");
  const [first, last] = [data.edges[0], data.edges.at(-1)];
  const LEFT = 72, RIGHT = 20, UPPER = [30, 300], LOWER = [345, 130]; // pixels; top and height
  let view = [first, last], dragged = null;

  const svg = box.querySelector("svg");
  const make = (name, attributes, parent, text) => {
    const made = document.createElementNS(svg.namespaceURI, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    if (text !== undefined) made.textContent = text;
    return parent.appendChild(made);
  };
  svg.setAttribute("height", 520);
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const back = Object.assign(document.createElement("button"), { textContent: "whole spectrum" });
  box.append(tip, back);

  // the energy at a place of the pointer, and the places of energies
  const width = () => Math.max(box.clientWidth, 300);
  const size = () => width() - LEFT - RIGHT;
  const x = (energy) => LEFT + (size() * (energy - view[0])) / (view[1] - view[0]);
  const place = (event) => event.clientX - svg.getBoundingClientRect().left;
  const energy = (at) =>
    view[0] + (Math.min(Math.max(at - LEFT, 0), size()) / size()) * (view[1] - view[0]);
  const bin = (e) => Math.max(data.edges.slice(0, -1).findLastIndex((edge) => edge <= e), 0);
  const inside = (e) => e >= view[0] && e <= view[1];
  const digits = (step) => Math.max(0, -Math.floor(Math.log10(step)));
  const ticks = (low, high, most) => {
    const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((n) => n * power >= rough);
    const numbers = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) numbers.push(i * step);
    return numbers.map((n) => [n, n.toFixed(digits(step))]);
  };

  function panel([top, height], low, high, title, unit) {
    const y = (value) => top + height * (1 - (value - low) / (high - low));
    const id = `panel-${top}`;
    const clip = make("clipPath", { id }, svg);
    make("rect", { x: LEFT, y: top, width: size(), height }, clip);
    const inner = make("g", { "clip-path": `url(#${id})` }, svg);
    for (const [from, to, color] of data.ranges) {
      const attributes = { x: x(from), y: top, width: Math.max(x(to) - x(from), 0), height };
      make("rect", { ...attributes, fill: color, "fill-opacity": 0.3 }, inner);
    }
    make("rect", { x: LEFT, y: top, width: size(), height, fill: "none", stroke: "#000" }, svg);
    for (const [value, text] of ticks(low, high, height / 40)) {
      make("path", { d: `M${LEFT - 4} ${y(value)}h4`, stroke: "#000" }, svg);
      make("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, svg, text);
    }
    for (const [value, text] of ticks(...view, size() / 80)) {
      make("path", { d: `M${x(value)} ${top + height}v4`, stroke: "#000" }, svg);
      if (unit) make("text", { x: x(value), y: top + height + 17, "text-anchor": "middle" }, svg, text);
    }
    const middle = top + height / 2, turned = `rotate(-90 13 ${middle})`;
    make("text", { x: 13, y: middle, transform: turned, "text-anchor": "middle" }, svg, title);
    if (unit) {
      const attributes = { x: LEFT + size() / 2, y: top + height + 34, "text-anchor": "middle" };
      make("text", attributes, svg, unit);
    }
    return [inner, y];
  }

  function draw() {
    svg.replaceChildren();
    svg.setAttribute("width", width());
    svg.dataset.view = view.map((e) => e.toFixed(2)).join(" ");
    back.hidden = view[0] === first && view[1] === last;
    const shown = data.counts.map((n, i) => i).filter(
      (i) => data.edges[i + 1] > view[0] && data.edges[i] < view[1]);
    const top = Math.max(...shown.map((i) => Math.max(data.counts[i], data.model[i])), 1e-9);
    const [upper, y] = panel(UPPER, 0, 1.15 * top, "counts / keV");
    const stairs = (values) => shown.map((i, n) =>
      `${n ? "L" : "M"}${x(data.edges[i])} ${y(values[i])}H${x(data.edges[i + 1])}`).join("");
    const counts = stairs(data.counts), foot = `V${y(0)}H${x(data.edges[shown[0]])}Z`;
    make("path", { d: counts + foot, fill: data.blue, "fill-opacity": 0.1 }, upper);
    const curves = [["data", counts, "#000", 0.8, ""], ["model", stairs(data.model), data.red, 1.6, ""],
      ["continuum", stairs(data.continuum), data.blue, 1.6, "6 4"]];
    curves.forEach(([name, d, stroke, wide, dashes], n) => {
      const line = { stroke, "stroke-width": wide, "stroke-dasharray": dashes, fill: "none" };
      make("path", { d, class: name, ...line }, upper);
      make("path", { d: `M${LEFT + 95 * n} 14h22`, ...line }, svg);
      make("text", { x: LEFT + 95 * n + 27, y: 18 }, svg, name);
    });
    for (const line of data.lines.filter((l) => inside(l.energy))) {
      const d = `M${x(line.energy)} ${y(1.04 * top)}l-5 -9h10z`;
      make("path", { d, class: "line", fill: data.grey }, upper);
    }
    const reach = data.reach, [lower, z] = panel(LOWER, -reach, reach, "residual [σ]", "energy [keV]");
    const band = { x: LEFT, y: z(1), width: size(), height: z(-1) - z(1) };
    make("rect", { ...band, fill: data.grey, "fill-opacity": 0.25 }, lower);
    for (const i of shown) {
      const at = { cx: x((data.edges[i] + data.edges[i + 1]) / 2), cy: z(data.residuals[i]) };
      make("circle", { ...at, r: 2.6, stroke: "#000", fill: data.masked[i] ? "#fff" : "#000" }, lower);
    }
  }

  function tell(event) {
    const at = place(event), e = energy(at);
    const y = event.clientY - svg.getBoundingClientRect().top;
    tip.hidden = at < LEFT || at > LEFT + size();
    const near = data.lines.filter((l) => inside(l.energy) && Math.abs(x(l.energy) - at) < 7)[0];
    const i = bin(e), b = data.text[i];
    tip.textContent = near && y > UPPER[0] && y < UPPER[0] + 55
      ? `line: ${near.name}\n${near.place} keV\n${near.counts} counts`
      : `${data.edges[i].toFixed(2)} to ${data.edges[i + 1].toFixed(2)} keV, ` +
        `${data.masked[i] ? "masked" : "fitted"}\ncounts ${b[0]}\nmodel ${b[1]}\n` +
        `continuum ${b[2]}\nresidual ${b[3]} σ`;
    tip.style.left = `${Math.min(at + 14, width() - 190)}px`;
    tip.style.top = `${y + 14}px`;
  }

  function zoom(low, high) {
    view = high > low ? [low, high] : [first, last];
    draw();
  }
  svg.addEventListener("pointerdown", (event) => (dragged = place(event)));
  svg.addEventListener("pointermove", (event) => {
    tell(event);
    if (dragged === null) return;
    svg.querySelector(".chosen")?.remove();
    const at = place(event), attributes = { x: Math.min(at, dragged), width: Math.abs(at - dragged) };
    const all = { y: UPPER[0], height: LOWER[0] + LOWER[1] - UPPER[0] };
    make("rect", { class: "chosen", ...attributes, ...all, "fill-opacity": 0.15 }, svg);
  });
  window.addEventListener("pointerup", (event) => {
    if (dragged === null) return;
    const ends = [energy(dragged), energy(place(event))].sort((a, b) => a - b);
    const far = Math.abs(place(event) - dragged) > 6;
    dragged = null;
    if (far) zoom(...ends);
  });
  svg.addEventListener("pointerleave", () => (tip.hidden = true));
  svg.addEventListener("dblclick", () => zoom(0, 0));
  back.addEventListener("click", () => zoom(0, 0));
  new ResizeObserver(draw).observe(box);
  draw();
  page("spectrum-figure").classList.add("zooms");
})();
