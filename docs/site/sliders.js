// "See it move": one prompt with three responses, drawn as its sliders move. The laws come from sliders_laws.js.

(() => {
  const maths = globalThis.nondecoupling;
  const root = document.getElementById("sliders");
  if (!root) return;

  const SVG = "http://www.w3.org/2000/svg";
  const HIGHEST_REWARD = 3;
  const power = (value) => 10 ** value;
  const same = (value) => value;

  // id, label, what it names, least, most, step, start, value of the slider -> number
  const GROUPS = {
    "Data d (weights, logarithmic)": [1, 2, 3].map((y) => [
      `weight${y}`, `d(y${y})`, `weight of response ${y} in the data`,
      -6, 0, 0.01, [-0.3, -0.4, -1][y - 1], power,
    ]),
    "Rewards r": [1, 2, 3].map((y) => [
      `reward${y}`, `r(y${y})`, `reward of response ${y}`,
      0, HIGHEST_REWARD, 0.05, [0, 2, 3][y - 1], same,
    ]),
    "RL and cycles": [
      ["beta", "β", "strength of the leash beta", -1.3, 1.3, 0.01, -0.22, power],
      ["eta", "η", "share eta of SFT in a cycle", 0.01, 0.99, 0.01, 0.5, same],
    ],
  };

  // Shapes are told apart without their colours. Each stands around its middle (0, 0).
  const POLICIES = {
    data: ["d, where SFT ends", "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0"],
    tilt: ["RL from d: the tilt (S2)", "M0,-7L7,0L0,7L-7,0Z"],
    leash: ["k3 in the loss (T2)", "M-8,0a8,8 0 1,0 16,0a8,8 0 1,0 -16,0"],
    sft: ["cycles, after SFT (T6)", "M-5,-5H5V5H-5Z"],
    half: ["cycles, after half of RL (T6)", "M0,-6L5.5,4H-5.5Z"],
  };
  const COLUMNS = ["policy", "reward", "SFT loss above H(d)", "least for that reward (S5)", "paid / least"];

  const inputs = {};
  const shown = {};

  function add(parent, name, attributes = {}, text = "") {
    const svg = parent.namespaceURI === SVG || name === "svg";
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.textContent = text;
    return parent.appendChild(element);
  }

  const digits = (value) => (value >= 0.001 ? value.toPrecision(4) : value < 1e-12 ? "0" : value.toExponential(2));

  function addSlider(parent, [id, label, meaning, min, max, step, value]) {
    const row = add(parent, "div", { class: "slider" });
    add(row, "label", { for: id, title: meaning }, label);
    const range = { type: "range", id, min, max, step, value, "aria-label": meaning };
    inputs[id] = add(row, "input", range);
    shown[id] = add(row, "output", { for: id });
    inputs[id].addEventListener("input", draw);
  }

  function world() {
    const values = {};
    for (const [id, , , , , , , number] of Object.values(GROUPS).flat()) {
      values[id] = number(Number(inputs[id].value));
    }
    const of = (name) => [1, 2, 3].map((y) => values[name + y]);
    const logD = maths.normalised(of("weight").map(Math.log));
    return { ...values, logD, reward: of("reward"), rlTime: values.eta / values.beta };
  }

  function show(id, text) {
    shown[id].textContent = text;
    inputs[id].setAttribute("aria-valuetext", text);
  }

  function draw() {
    const now = world();
    const { logD, reward, beta, eta, rlTime } = now;
    for (const y of [1, 2, 3]) {
      show(`weight${y}`, `${(100 * Math.exp(logD[y - 1])).toPrecision(3)} %`);
      show(`reward${y}`, reward[y - 1].toFixed(2));
    }
    show("beta", beta.toPrecision(3));
    show("eta", eta.toFixed(2));
    const laws = {
      data: logD,
      tilt: maths.tilt(logD, reward, beta),
      leash: maths.forwardLeashOptimum(logD, reward, beta),
      sft: maths.alternationLimit(logD, reward, rlTime, eta, "sft"),
      half: maths.alternationLimit(logD, reward, rlTime, eta, "half-rl"),
    };
    const found = {};
    for (const [name, logP] of Object.entries(laws)) found[name] = point(now, logP);
    found.tilt.loss = maths.couplingGap(logD, reward, beta);
    drawPlane(now, found);
    for (const [name, { x, loss, least }] of Object.entries(found)) {
      const over = least < 1e-12 ? "-" : (loss / least).toFixed(4);
      shown[name].forEach((cell, k) => (cell.textContent = [digits(x), digits(loss), digits(least), over][k]));
    }
    shown.words.textContent = inWords(reward, found);
  }

  function point({ logD, reward }, logP) {
    const least = maths.priceOfPolicy(logD, logP, reward);
    return { x: maths.average(logP, reward), loss: maths.kl(logD, logP), least };
  }

  function inWords(reward, { tilt, sft, half }) {
    const levels = new Set(reward).size;
    if (levels === 1) return "All rewards are equal: there is no reward to buy, and RL and cycles stay at d.";
    if (levels === 2) return "The rewards have two levels: RL pays exactly the least, and so do the cycles.";
    const share = ({ loss, least }) => (least < 1e-12 ? "0" : (100 * (loss / least - 1)).toPrecision(2));
    return `Beyond the least, RL pays ${share(tilt)} %, cycles pay ${share(sft)} % after SFT and ` +
      `${share(half)} % after half of RL, k3 in the loss nothing.`;
  }

  // The points of a curve until it leaves the plane.
  function curve(now, top, laws) {
    const points = [];
    for (const logP of laws) {
      const x = maths.average(logP, now.reward);
      const loss = maths.kl(now.logD, logP);
      points.push([x, loss]);
      if (loss > top) break;
    }
    return points;
  }

  function* frontier({ logD, reward }) {
    const range = Math.max(...reward) - Math.min(...reward);
    yield logD;
    for (let k = 0; k < 400 && range > 0; k++) {
      yield maths.frontierPolicy(logD, reward, Math.log(range) + 5 - 0.06 * k * (1 + k / 150));
    }
  }

  function* tilts({ logD, reward }) {
    const range = Math.max(...reward) - Math.min(...reward);
    yield logD;
    for (let k = 0; k < 400 && range > 0; k++) yield maths.tilt(logD, reward, 100 * range * 0.95 ** k);
  }

  function roundAbove(value) {
    const unit = power(Math.floor(Math.log10(value)));
    return unit * [1, 2, 5, 10].find((step) => step * unit >= value);
  }

  function drawPlane(now, found) {
    const width = Math.max(root.clientWidth, 240);
    const height = Math.round(Math.min(420, Math.max(260, 0.58 * width)));
    const [left, right, upper, lower] = [46, width - 12, 14, height - 44];
    const top = roundAbove(1.1 * Math.max(0.05, ...Object.values(found).map(({ loss }) => loss)));
    const toX = (value) => left + ((right - left) * (value + 0.1)) / (HIGHEST_REWARD + 0.2);
    const toY = (value) => lower - ((lower - upper) * Math.min(value, 2 * top)) / top;
    const path = (points) => "M" + points.map(([x, y]) => `${toX(x).toFixed(2)},${toY(y).toFixed(2)}`).join("L");

    const { svg } = shown;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.replaceChildren();
    add(add(svg, "clipPath", { id: "plane" }), "rect", { x: left, y: upper, width: right - left, height: lower - upper });
    const plane = add(svg, "g", { "clip-path": "url(#plane)" });
    const edge = curve(now, top, frontier(now));
    const [low, high] = [Math.min(...now.reward), Math.max(...now.reward)];
    // Below the frontier, and beyond the lowest and the highest reward.
    const nowhere = [[low, 2 * top], [low, 0], ...edge, [high, 2 * top], [9, 2 * top], [9, -top], [-9, -top], [-9, 2 * top]];
    add(plane, "path", { class: "nowhere", d: path(nowhere) });
    add(plane, "path", { class: "frontier", d: path([[low, 0], ...edge, [high, 2 * top]]) });
    add(plane, "path", { class: "tilts", d: path(curve(now, top, tilts(now))) });

    add(svg, "path", { class: "axes", d: `M${left},${upper}V${lower}H${right}` });
    for (let value = 0; value <= HIGHEST_REWARD; value += 0.5) {
      add(svg, "text", { class: "at-x", x: toX(value), y: lower + 16 }, String(value));
    }
    for (const value of [0, top / 2, top]) {
      add(svg, "text", { class: "at-y", x: left - 6, y: toY(value) + 4 }, String(Number(value.toPrecision(3))));
    }
    add(svg, "text", { class: "at-x", x: (left + right) / 2, y: lower + 36 }, "expected reward J(p)");
    add(svg, "text", { class: "up", x: left + 8, y: upper + 12 }, "SFT loss above H(d), nats");
    for (const [name, { x, loss }] of Object.entries(found)) {
      add(svg, "path", { class: `at ${name}`, d: POLICIES[name][1], transform: `translate(${toX(x)} ${toY(loss)})` });
    }
  }

  function addTable() {
    const table = add(add(root, "div", { class: "numbers" }), "table");
    const head = add(add(table, "thead"), "tr");
    for (const column of COLUMNS) add(head, "th", { scope: "col" }, column);
    const body = add(table, "tbody");
    for (const [name, [words, shape]] of Object.entries(POLICIES)) {
      const row = add(body, "tr", { class: name });
      const first = add(row, "th", { scope: "row" });
      const sign = add(first, "svg", { viewBox: "-9 -9 18 18", class: "sign", "aria-hidden": "true" });
      add(sign, "path", { class: `at ${name}`, d: shape });
      first.append(words);
      shown[name] = COLUMNS.slice(1).map(() => add(row, "td"));
    }
  }

  shown.svg = add(root, "svg", { class: "plane", role: "img", "aria-label": "SFT loss against reward; the table below has its numbers" });
  shown.words = add(root, "p", { class: "words", "aria-live": "polite" });
  const controls = add(root, "form", { class: "controls" });
  for (const [legend, sliders] of Object.entries(GROUPS)) {
    const group = add(controls, "fieldset");
    add(group, "legend", {}, legend);
    for (const slider of sliders) addSlider(group, slider);
  }
  addTable();
  draw();
  window.addEventListener("resize", draw);
})();
