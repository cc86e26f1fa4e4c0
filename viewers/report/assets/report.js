// Draws a report's charts from the data in the page. Nothing is fetched; text is only ever set as text.
"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(`data-${id}`).textContent);
  const specs = read("charts");
  // What a chart says to a screen reader is its label; its table follows.
  const embed = async (element, spec) => {
    const done = await vegaEmbed(element, spec, { actions: false, renderer: "svg", ast: true });
    element.querySelector("svg").setAttribute("aria-hidden", "true");
    return done;
  };
  const units = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const duration = (ns) => {
    const [size, unit] = units.find(([size]) => ns >= size) ?? units[3];
    return `${Number((ns / size).toPrecision(3))} ${unit}`;
  };

  // ---- timeline ----------------------------------------------------------------------------------

  const BUCKETS = 300; // that the window is cut into
  const LEVELS = 16; // of a share; equal neighbours are one mark
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;

  class Timeline {
    constructor(data) {
      this.data = data;
      this.times = new Uint32Array(bytes(data.times));
      this.rest = new Uint16Array(bytes(data.rest));
      this.low = 0;
      this.high = data.span_ns;
    }

    async draw(element) {
      const data = { name: "slots", values: this.rows() };
      const { view } = await embed(element, { ...specs.timeline, data });
      this.view = view;
      let timer;
      view.addSignalListener("brush", (_, { a }) => {
        clearTimeout(timer);
        if (a) timer = setTimeout(() => this.show(a[0] * 1e9, a[1] * 1e9), 250);
      });
    }

    show(low, high) {
      const span = this.data.span_ns;
      const width = Math.min(Math.max(high - low, 1000), span);
      this.low = Math.min(Math.max(low, 0), span - width);
      this.high = this.low + width;
      this.view
        .signal("brush_x", [0, 0])
        .signal("low", this.low / 1e9)
        .signal("high", this.high / 1e9)
        .data("slots", this.rows())
        .run();
      const words = `${duration(this.low)} to ${duration(this.high)}`;
      document.getElementById("window").textContent = width === span ? "" : words;
    }

    move(how) {
      const width = this.high - this.low, middle = (this.low + this.high) / 2;
      const at = {
        in: [middle - width / 4, middle + width / 4],
        out: [middle - width, middle + width],
        left: [this.low - width / 2, this.high - width / 2],
        right: [this.low + width / 2, this.high + width / 2],
        all: [0, this.data.span_ns],
      }[how];
      this.show(...at);
    }

    rows() {
      const { lanes, states, counts, lost } = this.data, rows = [];
      let first = 0;
      states.forEach((state, s) => lanes.forEach((lane, l) => {
        const count = counts[s * lanes.length + l];
        const threads = Math.max(this.data.threads[l], 1);
        const spent = this.spent(first, count, (s * lanes.length + l) * this.data.slots, threads);
        first += 2 * count;
        this.marks(rows, lane, state, spent, threads);
      }));
      for (const [a, b] of lost) {
        rows.push({ lane: "records missing", state: "lost", share: 1, a: a / 1e9, b: b / 1e9 });
      }
      return rows;
    }

    // How much of each bucket one lane was in one state, ns of all its threads together.
    spent(first, count, slot, threads) {
      const { unit_ns: unit, slots, span_ns: span } = this.data;
      const { low, high, times } = this;
      const step = (high - low) / BUCKETS, spent = new Float64Array(BUCKETS);
      const add = (from, to, weight) => {
        const begin = Math.max(from, low), end = Math.min(to, high);
        if (begin >= end) return;
        const last = Math.min(BUCKETS - 1, Math.floor((end - low) / step));
        for (let n = Math.floor((begin - low) / step); n <= last; n++) {
          const left = Math.max(begin, low + n * step), right = Math.min(end, low + (n + 1) * step);
          if (right > left) spent[n] += weight * (right - left);
        }
      };
      for (let n = first; n < first + count; n++) {
        const from = times[n] * unit;
        add(from, from + Math.max(times[n + count], 1) * unit, 1);
      }
      for (let n = 0; n < slots; n++) {
        const share = this.rest[slot + n] / 65535;
        if (share) add((n * span) / slots, ((n + 1) * span) / slots, share * threads);
      }
      return spent;
    }

    marks(rows, lane, state, spent, threads) {
      const step = (this.high - this.low) / BUCKETS;
      let from = 0, level = 0, sum = 0;
      for (let n = 0; n <= BUCKETS; n++) {
        const share = n < BUCKETS ? Math.min(spent[n] / step / threads, 1) : 0;
        const now = n < BUCKETS ? Math.ceil(share * LEVELS) : -1;
        if (now !== level) {
          if (level > 0) {
            const a = (this.low + from * step) / 1e9, b = (this.low + n * step) / 1e9;
            rows.push({ lane, state, share: sum / (n - from), a, b });
          }
          [from, level, sum] = [n, now, 0];
        }
        sum += share;
      }
    }
  }

  // ---- flame -------------------------------------------------------------------------------------

  const { select, flamegraph } = gilscopeFlame;
  const trees = read("flame");
  const details = document.getElementById("flame-details");
  const graph = document.getElementById("flame-graph");
  const search = document.getElementById("flame-search");
  const warm = (name) => {
    let hash = 0;
    for (const c of name) hash = (hash * 31 + c.codePointAt(0)) % 997;
    return `hsl(${20 + (hash % 36)} 85% ${62 + (hash % 14)}%)`;
  };
  let flame;

  const drawFlame = () => {
    const which = document.querySelector("input[name=flame]:checked").value;
    const tree = structuredClone(trees[which]), total = tree.v;
    const words = (d) => {
      const share = total ? Number(((100 * d.data.v) / total).toPrecision(3)) : 0;
      return `${d.data.n}: ${duration(d.data.v)}, ${share} %`;
    };
    graph.replaceChildren();
    flame = flamegraph()
      .width(Math.max(graph.clientWidth, 320))
      .cellHeight(19)
      .inverted(true)
      .minFrameSize(1)
      .transitionDuration(0)
      .selfValue(false)
      .sort((a, b) => b.data.v - a.data.v)
      .setLabelHandler(words)
      .setDetailsHandler((text) => { details.textContent = text ?? ""; })
      .setSearchMatch((d, term) => Boolean(term) && d.data.n.toLowerCase().includes(term))
      .setSearchHandler((_, sum) => {
        const share = total ? Number(((100 * sum) / total).toPrecision(3)) : 0;
        details.textContent = `found: ${duration(sum)}, ${share} %`;
      })
      .setColorMapper((d) => (d.highlight ? "#c58fff" : warm(d.data.n)));
    select(graph).datum(tree).call(flame);
    look();
  };
  const look = () => {
    const term = search.value.trim().toLowerCase();
    if (term) flame.search(term);
    else flame.clear();
  };
  search.addEventListener("input", look);
  document.getElementById("flame-reset").addEventListener("click", () => {
    search.value = "";
    drawFlame();
  });
  for (const input of document.querySelectorAll("input[name=flame]")) {
    input.addEventListener("change", drawFlame);
  }

  // ---- tables ------------------------------------------------------------------------------------

  for (const input of document.querySelectorAll("input[data-filter]")) {
    const rows = [...document.querySelectorAll(`#${input.dataset.filter} tbody tr`)];
    const shown = document.getElementById(`${input.dataset.filter}-count`);
    input.addEventListener("input", () => {
      const term = input.value.trim().toLowerCase();
      let count = 0;
      for (const row of rows) {
        row.hidden = !row.cells[0].textContent.toLowerCase().includes(term);
        count += row.hidden ? 0 : 1;
      }
      shown.textContent = term ? ` ${count} of ${rows.length}` : "";
    });
  }

  // ---- start -------------------------------------------------------------------------------------

  const timeline = new Timeline(read("timeline"));
  for (const button of document.querySelectorAll("button[data-move]")) {
    button.addEventListener("click", () => timeline.move(button.dataset.move));
  }
  for (const button of document.querySelectorAll("button.zoom")) {
    button.addEventListener("click", () => {
      const from = Number(button.dataset.from), to = Number(button.dataset.to);
      timeline.show(from - (to - from), to + (to - from));
      document.getElementById("timeline").scrollIntoView();
    });
  }
  const drawn = [...document.querySelectorAll("[data-chart]")].map((element) =>
    element.dataset.chart === "timeline"
      ? timeline.draw(element)
      : embed(element, specs[element.dataset.chart]));
  let width = 0;
  new ResizeObserver(() => {
    if (Math.abs(graph.clientWidth - width) > 20) drawFlame();
    width = graph.clientWidth;
  }).observe(graph);
  Promise.all(drawn).then(() => { document.documentElement.dataset.drawn = "all"; });
})();
