"use strict";
// Living figures: each takes the place of a picture whose data stand beside it (cgatbook.interactive). Drawn with d3.

{
  const HEIGHT = 340;
  const SPACE = { top: 12, right: 16, bottom: 44, left: 62 };
  const short = (n) => (n >= 999500 ? `${+(n / 1e6).toPrecision(3)} M` : n >= 999.5 ? `${+(n / 1e3).toPrecision(3)} k` : `${+n.toPrecision(3)}`);
  const ink = (colour) => (colour ? `color-mix(in srgb, ${colour} 72%, currentColor)` : "currentColor"); // seen in both themes
  const inkOn = (colour) => (d3.hcl(colour).l < 49.5 ? "#fff" : "#000");
  const formula = (text) => text.replace(/\d/g, (n) => "₀₁₂₃₄₅₆₇₈₉"[n]);
  const digits = (n, k = 3) => (Math.abs(n) < 10 ** k ? n.toPrecision(k) : n.toFixed(0)).replace("-", "−");
  const tick = (n) => (Math.abs(n) < 1000 ? String(+n.toPrecision(3)).replace("-", "−") : short(n));
  let made = 0;

  // --- Controls that every browser and screen reader knows ---

  function slider(box, text, [low, high], start, format, changed) { // logarithmic, in 400 steps
    const scale = d3.scaleLog([low, high], [0, 400]).clamp(true), id = `touch-${++made}`;
    const row = box.append("div").attr("class", "touch-slider");
    row.append("label").attr("for", id).text(text);
    const input = row.append("input").attr("type", "range").attr("id", id).attr("max", 400).node();
    const output = row.append("output").attr("for", id);
    let value = start;
    const show = () => {
      output.text(format(value));
      input.setAttribute("aria-valuetext", format(value));
    };
    input.oninput = () => {
      value = +scale.invert(input.value).toPrecision(3);
      show();
      changed();
    };
    const set = (to) => {
      value = to;
      input.value = scale(to);
      show();
    };
    set(start);
    return { get value() { return value; }, set };
  }

  function choice(box, text, names, changed) {
    const id = `touch-${++made}`, row = box.append("div").attr("class", "touch-slider");
    row.append("label").attr("for", id).text(text);
    const select = row.append("select").attr("id", id).on("change", () => changed());
    select.selectAll("option").data(names).join("option").text((name) => name);
    return { get index() { return select.node().selectedIndex; } };
  }

  function toggle(box, text, on, changed, colour) {
    const button = box.append("button").attr("type", "button").attr("aria-pressed", on).text(text);
    if (colour) button.style("border-bottom", `4px solid ${colour}`);
    button.on("click", () => changed(button.attr("aria-pressed") !== "true", button));
    return button;
  }

  // --- A plot: axes in the ink of the page, one unit of the drawing a pixel of the screen ---

  function plot(svg, width, x, y, xName, yName, ticks) {
    svg.attr("width", width).attr("height", HEIGHT).selectAll("*").remove();
    x.range([SPACE.left, width - SPACE.right]);
    y.range([HEIGHT - SPACE.bottom, SPACE.top]);
    const few = (scale) => { // plain numbers, also where a logarithmic axis spans little
      const [low, high] = d3.extent(scale.domain());
      return scale.base && high > 20 * low ? scale.ticks().filter((v) => /^[125]/.test(v.toExponential())) : d3.ticks(low, high, 5);
    };
    const axis = (side, scale) => side(scale).tickValues(few(scale)).tickFormat(tick);
    svg.append("g").attr("transform", `translate(0,${HEIGHT - SPACE.bottom})`).call(axis(d3.axisBottom, x));
    svg.append("g").attr("transform", `translate(${SPACE.left},0)`).call(axis(d3.axisLeft, y));
    const name = svg.append("g").attr("class", "touch-name").attr("text-anchor", "middle");
    name.append("text").attr("x", (SPACE.left + width) / 2).attr("y", HEIGHT - 6).text(xName);
    name.append("text").attr("transform", `translate(14,${(HEIGHT - SPACE.bottom) / 2}) rotate(-90)`).text(yName);
    return svg;
  }

  // --- Compute budget: MAE = K n_train^-beta n_pretrain^-alpha, fitted along either size ---

  function budget(box, data) {
    const form = box.append("div").attr("class", "touch-form");
    const reset = () => {
      const s = data.starts[fit.index];
      controls = controls ?? {
        cost: slider(form, "One expensive calculation costs (cheap ones)", [1, 100], s.cost, short, draw),
        train: slider(form, "Expensive calculations at the start", [1e2, 1e6], s.start[1], short, draw),
        pre: slider(form, "Cheap calculations at the start", [1e2, 1e7], s.start[0], short, draw),
        spend: slider(form, "Budget (cheap calculations)", [1e2, 1e7], s.cost * s.start[1] * 10, short, draw),
      };
      controls.cost.set(s.cost);
      controls.train.set(s.start[1]);
      controls.pre.set(s.start[0]);
      controls.spend.set(Math.min(5 * s.cost * s.start[1], 10 * s.known[0]));
      draw();
    };
    let controls;
    const fit = choice(form, "Fit", data.starts.map((s) => s.name), reset);
    const svg = box.append("svg").attr("role", "img"), text = box.append("p").attr("aria-live", "polite");

    function draw() {
      const s = data.starts[fit.index], [cost, train, pre, spend] = ["cost", "train", "pre", "spend"].map((k) => controls[k].value);
      const [low, high] = s.names, [beta, alpha] = [s.laws[1], s.laws[3]];
      const onTrain = ([a, slope, , other], n) => Math.exp(a - slope * Math.log(n) - other * Math.log(pre / s.start[0]));
      const onPre = ([, other, b, slope], n) => Math.exp(b - slope * Math.log(n) - other * Math.log(train / s.start[1]));
      const share = (b) => { // of the best mixture: a cheap calculation is worth alpha / (alpha + beta) of all
        const best = ((cost * train + pre + b) * alpha) / (alpha + beta) - pre;
        return b ? Math.min(1, Math.max(0, best / b)) : 0.5;
      };
      const both = (law, b) => {
        const on = share(b), [n, m] = [pre + on * b, train + ((1 - on) * b) / cost];
        const gain = law[1] * Math.log(m / train) + law[3] * Math.log(n / pre);
        return onTrain(law, train) ** (1 - on) * onPre(law, pre) ** on * Math.exp(-gain);
      };
      const lines = [
        { name: high, colour: s.colours[1], law: (law, b) => onTrain(law, train + b / cost), end: cost * (10 * s.known[1] - train) },
        { name: low, colour: s.colours[0], law: (law, b) => onPre(law, pre + b), end: 10 * s.known[0] - pre },
        { name: "best split", law: both, dash: "6 3", end: cost * (10 * s.known[1] - train) + 10 * s.known[0] - pre },
      ];
      for (const line of lines) {
        line.steps = d3.range(0, 101).map((i) => (i / 100) * spend).filter((b) => b <= line.end);
        line.band = line.steps.map((b) => {
          const drawn = s.draws.map((law) => line.law(law, b)).sort(d3.ascending);
          return [d3.quantileSorted(drawn, 0.025), d3.quantileSorted(drawn, 0.975)];
        });
      }
      const width = box.node().clientWidth, x = d3.scaleLinear([0, spend], [0, 1]);
      const seen = lines.flatMap((line) => line.band.flat());
      const y = d3.scaleLog([0.97 * d3.min(seen) || 1, 1.03 * d3.max(seen) || 2], [1, 0]);
      plot(svg, width, x, y, `Budget spent (${low} calculations)`, `Expected test MAE (${s.unit})`);
      for (const { colour, law, dash, steps, band } of lines) {
        const area = d3.area((_, i) => x(steps[i]), (v) => y(v[0]), (v) => y(v[1]));
        svg.append("path").attr("d", area(band)).attr("fill", ink(colour)).attr("opacity", colour ? 0.18 : 0.06);
        const path = svg.append("path").attr("d", d3.line((b) => x(b), (b) => y(law(s.laws, b)))(steps));
        path.attr("fill", "none").attr("stroke", ink(colour)).attr("stroke-width", 2).attr("stroke-dasharray", dash);
      }
      const near = (a, b) => Math.abs(Math.log(a / b)) < 0.02;
      for (const [n, m, mae] of s.points) {
        const at = near(n, pre) && m >= 0.98 * train ? [cost * (m - train), 1] : near(m, train) && n >= pre ? [n - pre, 0] : null;
        if (!at || at[0] > spend || at[0] < -0.02 * spend) continue;
        const mark = d3.symbol(at[1] ? d3.symbolCross : d3.symbolCircle, 60);
        svg.append("path").attr("d", mark()).attr("transform", `translate(${x(Math.max(0, at[0]))},${y(mae)})`).attr("fill", ink(s.colours[at[1]]));
      }
      const says = (line) => {
        if (line.end < spend) return "beyond ten times the data";
        const [least, most] = line.band.at(-1);
        return `${digits(line.law(s.laws, spend))} ${s.unit} [${digits(least)}, ${digits(most)}]`;
      };
      svg.selectAll(null).data(lines).join("text").attr("class", "touch-name").style("fill", (line) => ink(line.colour))
        .attr("x", width - SPACE.right).attr("y", (_, i) => SPACE.top + 12 + 17 * i).attr("text-anchor", "end")
        .text((line) => `${line.dash ? "╌" : "—"} ${line.name}${line.end < spend ? ": beyond" : ""}`);
      const advantage = (beta * pre) / (alpha * cost * train);
      text.text(`${short(spend)} ${low} calculations more: ${says(lines[0])} if all is spent on ${high}, ${says(lines[1])} on ${low}, ` +
        `${says(lines[2])} with the best split, ${Math.round(100 * share(spend))} % of it on ${low}. ` +
        `The next calculation: ${advantage >= 1 ? high : low} gains ${digits(Math.max(advantage, 1 / advantage), 2)} times as much per cost.`);
      svg.attr("aria-label", text.text());
    }
    reset();
    return draw;
  }

  // --- Crystals behind the points of a parity plot ---

  function crystals(box, data) {
    const bar = box.append("div").attr("class", "touch-bar");
    toggle(bar, "Show the error instead of the prediction", false, (on, button) => {
      asError = on;
      button.attr("aria-pressed", on);
      draw();
    });
    const sides = box.append("div").attr("class", "touch-sides"), left = sides.append("div"), right = sides.append("div");
    const all = d3.sort(data.crystals, (c) => c.value);
    const svg = left.append("svg").attr("tabindex", 0).attr("role", "slider").attr("aria-label", "Crystals of the test set, by value; arrow keys go from one to the next");
    svg.attr("aria-valuemin", 1).attr("aria-valuemax", all.length);
    const cell = viewer(right), chosen = elements(box, data, all, () => draw());
    let asError = false, at = all.indexOf(d3.greatest(all, (c) => Math.abs(c.error)));
    const shown = (c) => !chosen.symbol || c.symbols.includes(chosen.symbol);
    const second = (c) => (asError ? c.error * data.factor : c.value + c.error);
    const error = (c) => `${digits(c.error * data.factor)} ${data.errorUnit}`;

    function select(i) {
      at = i;
      const c = all[i];
      const says = `${formula(c.formula)}: ${data.name} ${digits(c.value)} ${data.unit}, predicted ${digits(c.value + c.error)}, error ${error(c)}`;
      svg.attr("aria-valuenow", i + 1).attr("aria-valuetext", says);
      cell.show(c, says);
      mark();
    }
    let x, y;
    function mark() {
      svg.selectAll("circle").classed("chosen", (c) => c === all[at]).filter((c) => c === all[at]).raise();
    }
    function draw() {
      const values = all.map((c) => c.value), seconds = all.map(second);
      x = d3.scaleLinear(d3.extent(values), [0, 1]).nice();
      y = d3.scaleLinear(asError ? d3.extent(seconds) : d3.extent([...values, ...seconds]), [1, 0]).nice();
      plot(svg, left.node().clientWidth, x, y, `${data.name}, calculated (${data.unit})`, asError ? `Error (${data.errorUnit})` : `predicted (${data.unit})`);
      const [low, high] = x.domain();
      svg.append("path").attr("class", "touch-guide").attr("d", d3.line((v) => x(v), (v) => y(asError ? 0 : v))([low, high]));
      svg.append("g").selectAll("circle").data(d3.sort(all, shown)).join("circle").attr("r", 4)
        .attr("cx", (c) => x(c.value)).attr("cy", (c) => y(second(c))).classed("faded", (c) => !shown(c));
      if (!shown(all[at])) select(Math.max(0, all.findIndex(shown)));
      mark();
    }
    const nearest = (event) => {
      const [px, py] = d3.pointer(event, svg.node());
      const i = d3.leastIndex(all, (a, b) => far(a) - far(b));
      function far(c) { return shown(c) ? Math.hypot(x(c.value) - px, y(second(c)) - py) : Infinity; }
      if (far(all[i]) < 40 && i !== at) select(i);
    };
    svg.on("pointermove pointerdown", nearest).on("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
      if (!step) return;
      event.preventDefault();
      const some = all.flatMap((c, i) => (shown(c) ? [i] : []));
      select(some[Math.min(some.length - 1, Math.max(0, some.indexOf(at) + step))]);
    });
    draw();
    select(at);
    return draw;
  }

  // A cell with the neighbours of one of its atoms, coloured by their shell, nearest first.
  function viewer(box) {
    const says = box.append("p").attr("aria-live", "polite"), size = 300;
    const svg = box.append("svg").attr("viewBox", `0 0 ${size} ${size}`).attr("class", "touch-cell").attr("tabindex", 0).attr("role", "img");
    const row = box.append("div").attr("class", "touch-bar"), legend = box.append("ul").attr("class", "touch-shells");
    const colour = d3.scaleSequential((t) => d3.interpolatePlasma(0.15 + 0.75 * t));
    let crystal, atoms, box3, turn = [0.5, -0.35], centre = 0;

    function show(c, text) {
      says.text(text);
      [crystal, centre] = [c, 0];
      svg.attr("aria-label", `Cell of ${formula(c.formula)} in three dimensions; arrow keys turn it`);
      row.selectAll("*").remove();
      if (c.sites.length > 1) {
        const id = `touch-${++made}`;
        row.append("label").attr("for", id).text("Neighbours of ");
        const list = row.append("select").attr("id", id).on("change", () => { centre = list.node().selectedIndex; lay(); });
        list.selectAll("option").data(c.symbols).join("option").text((symbol, i) => `${symbol}, atom ${i + 1}`);
      }
      lay();
    }
    function lay() {
      const { lattice, sites, symbols } = crystal;
      const place = (f) => [0, 1, 2].map((k) => d3.sum(f, (v, i) => v * lattice[i][k]));
      const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
      const faces = [0, 1, 2].map((i) => cross(lattice[(i + 1) % 3], lattice[(i + 2) % 3]));
      const volume = Math.abs(d3.sum(faces[0], (v, k) => v * lattice[0][k]));
      const reach = 1.7 * Math.cbrt((24 * volume) / sites.length / 4.19); // a sphere that holds more than 24 atoms
      const images = faces.map((face) => Math.ceil((reach * Math.hypot(...face)) / volume));
      const origin = place(sites[centre]), near = [];
      const [ia, ib, ic] = images.map((n) => d3.range(-n, n + 1));
      for (const [a, b, c] of d3.cross(ia, d3.cross(ib, ic), (a, [b, c]) => [a, b, c])) {
        sites.forEach((site, i) => {
          const at = place([site[0] + a, site[1] + b, site[2] + c]), far = Math.hypot(...at.map((v, k) => v - origin[k]));
          if (far < reach) near.push({ at, far, symbol: symbols[i] });
        });
      }
      near.sort((a, b) => a.far - b.far);
      let rank = 0;
      near.forEach((atom, i) => { atom.rank = !i || atom.far - near[i - 1].far < 2e-3 * atom.far ? rank : ++rank; });
      const last = near[Math.min(24, near.length - 1)].rank;
      atoms = near.filter((atom) => atom.rank <= last);
      box3 = d3.range(8).map((i) => place([i & 1, (i >> 1) & 1, i >> 2]).map((v, k) => v - origin[k]));
      atoms.forEach((atom) => { atom.at = atom.at.map((v, k) => v - origin[k]); });
      colour.domain([1, Math.max(2, last)]);
      const shells = d3.groups(atoms.slice(1), (atom) => atom.rank);
      legend.selectAll("li").data(shells).join("li").html("").append("span").style("background", ([shell]) => colour(shell));
      legend.selectAll("li").append("text").text(([shell, members]) => {
        const kinds = d3.rollups(members, (v) => v.length, (atom) => atom.symbol).map(([symbol, n]) => `${n} ${symbol}`);
        return ` shell ${shell}: ${kinds.join(" + ")} at ${members[0].far.toFixed(2)} Å`;
      });
      turned();
    }
    function turned() {
      const [yaw, pitch] = turn, [cy, sy, cp, sp] = [Math.cos(yaw), Math.sin(yaw), Math.cos(pitch), Math.sin(pitch)];
      const spin = ([x, y, z]) => [cy * x + sy * z, cp * y - sp * (cy * z - sy * x), sp * y + cp * (cy * z - sy * x)];
      const corners = [...atoms.map((a) => a.at), ...box3].map(spin);
      const middle = [0, 1].map((k) => d3.sum(d3.extent(corners, (v) => v[k])) / 2);
      const scale = (0.44 * size) / d3.max(corners, (v) => Math.hypot(v[0] - middle[0], v[1] - middle[1]));
      const flat = (v) => { const [x, y, z] = spin(v); return { x: size / 2 + scale * (x - middle[0]), y: size / 2 - scale * (y - middle[1]), z }; };
      const edges = d3.range(8).flatMap((i) => [1, 2, 4].filter((bit) => !(i & bit)).map((bit) => [flat(box3[i]), flat(box3[i | bit])]));
      svg.selectAll("*").remove();
      svg.selectAll("line").data(edges).join("line").attr("x1", ([a]) => a.x).attr("y1", ([a]) => a.y).attr("x2", ([, b]) => b.x).attr("y2", ([, b]) => b.y);
      const seen = d3.sort(atoms.map((atom) => ({ ...atom, ...flat(atom.at) })), (atom) => atom.z);
      const ball = svg.selectAll("g").data(seen).join("g").attr("transform", (a) => `translate(${a.x},${a.y})`);
      ball.append("circle").attr("r", (a) => (a.rank ? 9 : 12)).attr("fill", (a) => (a.rank ? colour(a.rank) : "#fff"));
      ball.append("text").attr("dy", "0.35em").style("fill", (a) => inkOn(a.rank ? colour(a.rank) : "#fff")).text((a) => a.symbol);
    }
    const by = (dx, dy) => { turn = [turn[0] + dx, Math.max(-1.57, Math.min(1.57, turn[1] + dy))]; turned(); };
    svg.call(d3.drag().on("drag", (event) => by(event.dx / 80, event.dy / 80)));
    svg.on("keydown", (event) => {
      const step = { ArrowRight: [0.15, 0], ArrowLeft: [-0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
      if (step) event.preventDefault(), by(...step);
    });
    return { show };
  }

  // The periodic table: one stop of the tabulator key, arrow keys within; a click filters the plot.
  function elements(box, data, all, changed) {
    const errors = new Map(data.table.flat().map((symbol) => {
      const own = all.filter((c) => c.symbols.includes(symbol));
      return [symbol, { n: own.length, mae: d3.mean(own, (c) => Math.abs(c.error)) * data.factor }];
    }));
    const kinds = {
      "Colour: error of the network": (s) => errors.get(s).mae,
      "Colour: crystals of this table": (s) => data.counts[s],
      "Colour: crystals of the paper": (s) => data.published[s],
    };
    const says = box.append("p").attr("aria-live", "polite").text("Elements: hover or focus for numbers, click to see one alone.");
    const state = { symbol: null };
    const paint = () => {
      const value = Object.values(kinds)[kind.index], known = data.table.flat().map(value).filter((v) => v > 0);
      const scale = d3.scaleSequentialLog(d3.extent(known), (t) => d3.interpolateBlues(0.12 + 0.75 * t));
      buttons.style("background", (e) => (value(e.symbol) > 0 ? scale(value(e.symbol)) : "none"))
        .style("color", (e) => (value(e.symbol) > 0 ? inkOn(scale(value(e.symbol))) : null));
    };
    const kind = choice(box.append("div").attr("class", "touch-form"), "Elements", Object.keys(kinds), () => paint());
    const cells = data.table.flatMap((row, y) => row.flatMap((symbol, x) => (/[.*]/.test(symbol) ? [] : [{ symbol, x, y }])));
    const grid = box.append("div").attr("class", "touch-elements").attr("role", "group").attr("aria-label", "Periodic table; arrow keys move, the space bar filters the plot");
    const tell = ({ symbol }) => {
      const { n, mae } = errors.get(symbol), paper = data.published[symbol] ?? 0;
      return `${symbol}: in ${(data.counts[symbol] ?? 0).toLocaleString("en")} crystals of this table, ${paper.toLocaleString("en")} of the paper` +
        (n ? `; mean error ${digits(mae)} ${data.errorUnit} on ${n} test crystals` : "");
    };
    const buttons = grid.selectAll("button").data(cells).join("button").attr("type", "button").text((e) => e.symbol)
      .attr("aria-label", tell).attr("aria-pressed", false).attr("tabindex", (_, i) => (i ? -1 : 0))
      .style("grid-area", (e) => `${e.y + 1} / ${e.x + 1}`)
      .on("pointerenter focus", (_, e) => says.text(tell(e)))
      .on("click", (_, e) => {
        state.symbol = state.symbol === e.symbol || !errors.get(e.symbol).n ? null : e.symbol;
        buttons.attr("aria-pressed", (other) => other.symbol === state.symbol);
        changed();
      })
      .on("keydown", (event, e) => {
        const step = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        const ahead = (c) => (c.x - e.x) * step[0] + (c.y - e.y) * step[1];
        const there = d3.least(cells.filter((c) => ahead(c) > 0), (c) => ahead(c) + 30 * (step[0] ? Math.abs(c.y - e.y) : Math.abs(c.x - e.x)));
        if (!there) return;
        buttons.attr("tabindex", (c) => (c === there ? 0 : -1)).filter((c) => c === there).node().focus();
      });
    paint();
    return state;
  }

  // --- Learning curves ---

  function curves(box, data) {
    const form = box.append("div").attr("class", "touch-form"), panels = [...new Set(data.lines.map((line) => line.panel))];
    const panel = choice(form, "Property and functional", panels, () => draw());
    const repeats = d3.sort(new Set(data.lines.map((line) => line.repeat))), on = new Set([...Object.keys(data.modes), ...repeats]);
    const bar = form.append("div").attr("class", "touch-bar");
    const switched = (key) => (pressed, button) => {
      on[pressed ? "add" : "delete"](key);
      button.attr("aria-pressed", pressed);
      draw();
    };
    Object.entries(data.modes).forEach(([mode, look]) => toggle(bar, look.name, true, switched(mode), look.colour));
    repeats.forEach((repeat) => toggle(bar, `repeat ${repeat}`, true, switched(repeat)));
    const svg = box.append("svg").attr("role", "img"), text = box.append("p").attr("aria-live", "polite");
    function draw() {
      const own = data.lines.filter((line) => line.panel === panels[panel.index]);
      const shown = own.filter((line) => on.has(line.mode) && on.has(line.repeat));
      const x = d3.scaleLinear([0, d3.max(own, (line) => d3.max(line.x))], [0, 1]), y = d3.scaleLog(d3.extent(own.flatMap((line) => line.y)), [1, 0]);
      plot(svg, box.node().clientWidth, x, y, data.x, data.unit ? `Validation MAE (${data.unit})` : "Validation MAE");
      const path = svg.selectAll(null).data(shown).join("path").attr("fill", "none").attr("stroke-width", 1.6);
      path.attr("stroke", (line) => ink(data.modes[line.mode].colour)).attr("d", (line) => d3.line((_, i) => x(line.x[i]), (v) => y(v))(line.y));
      const ends = d3.rollups(shown, (v) => d3.mean(v, (line) => d3.min(line.y)), (line) => line.mode);
      text.text("Lowest validation error, mean of the repeats shown: " + (ends.map(([mode, v]) => `${data.modes[mode].name} ${digits(v)}`).join(", ") || "none") + ` ${data.unit}`);
      svg.attr("aria-label", text.text());
    }
    draw();
    return draw;
  }

  const KINDS = { budget, crystals, curves };
  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("script[data-touch]").forEach((script) => {
    const figure = script.closest("figure"), box = d3.select(figure).insert("div", "figcaption").attr("class", "touch");
    figure.classList.add("living");
    const start = () => {
      if (!box.node().clientWidth) return; // still folded
      seen.disconnect();
      const draw = KINDS[script.dataset.touch](box, JSON.parse(script.textContent));
      let width = box.node().clientWidth;
      new ResizeObserver(() => {
        if (box.node().clientWidth && box.node().clientWidth !== width) [width] = [box.node().clientWidth, draw()];
      }).observe(box.node());
    };
    const seen = new ResizeObserver(start);
    seen.observe(box.node());
  }));
}
