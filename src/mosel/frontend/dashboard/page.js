"use strict";
// Asks for the state every second and draws it. Text from the server is only ever set as text.
const SHOWN_S = 120, KEPT_S = 300, MINUTE_S = 60, RATE_S = 10, ROWS = 8, SHADES = 7;
const OUTCOMES = ["served", "late", "dropped", "rejected", "failed"];
const seconds = new Map();
let began = null, key = "";

const $ = (id) => document.getElementById(id);
const say = (id, text) => { if ($(id).textContent !== text) $(id).textContent = text; };
const node = (tag, words = {}, text) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(words)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};
const html = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};
const sum = (rows, of) => rows.reduce((total, row) => total + of(row), 0);
const ended = (row) => sum(OUTCOMES, (outcome) => row[outcome]);
const mean = (rows, of, weight) => {
  const found = rows.filter((row) => of(row) !== null && weight(row) > 0);
  return found.length ? sum(found, (row) => of(row) * weight(row)) / sum(found, weight) : null;
};
const told = (value, text) => value === null || Number.isNaN(value) ? "–" : text(value);
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const whole = (value) => value >= 100 ? value.toFixed(0) : value >= 10 || value % 1 === 0 ? String(+value.toFixed(1)) : String(+value.toFixed(2));
const time = (ms) => Math.abs(ms) >= 9999 ? `${(ms / 1000).toFixed(1)} s` : Math.abs(ms) >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`;
const accuracy = (value) => value.toFixed(3);

async function refresh() {
  const known = [...seconds.keys()];
  const since = known.length ? Math.max(...known) : 0;
  const headers = key ? {Authorization: `Bearer ${key}`} : {};
  const reply = await fetch(`dashboard/state?since=${since}`, {cache: "no-store", headers});
  if (reply.status === 401) return signIn("The server does not know this key.");
  if (!reply.ok) throw new Error(`status ${reply.status}`);
  const state = await reply.json();
  if (began !== null && state.up_s < began) seconds.clear();  // the server was started anew
  began = state.up_s;
  for (const values of state.seconds) {
    const row = Object.fromEntries(state.columns.map((name, place) => [name, values[place]]));
    seconds.set(row.at_s, row);
  }
  const last = Math.max(...seconds.keys());
  for (const at of [...seconds.keys()]) if (at <= last - KEPT_S) seconds.delete(at);
  show(state, [...seconds.values()].sort((a, b) => a.at_s - b.at_s));
}

function show(state, all) {
  const done = all.slice(0, -1);  // the last second is still under way
  const minute = done.slice(-MINUTE_S), lately = done.slice(-RATE_S);
  const total = sum(minute, ended);
  const served = (row) => row.served, answered = (row) => row.served + row.late;
  say("arrivals", told(lately.length ? sum(lately, (row) => row.arrived) / lately.length : null, whole));
  say("on-time", told(total ? sum(minute, served) / total : null, percent));
  say("violations", told(total ? 1 - sum(minute, served) / total : null, percent));
  say("accuracy", told(mean(minute, (row) => row.accuracy, served), accuracy));
  say("slo", told(mean(minute, (row) => row.slo, served), accuracy));
  say("queued", String(state.queued));
  say("slack", told(mean(minute, (row) => row.slack_ms, answered), time));
  say("total-arrived", String(state.arrived));
  for (const outcome of OUTCOMES) say(`total-${outcome}`, String(state.ended[outcome]));
  say("decision", `${time(state.decision_ms.p50)} (99%: ${time(state.decision_ms.p99)})`);
  const models = Object.keys(state.modes).join(", ");
  say("about", [models, state.settings.policy && `policy ${state.settings.policy}`, `up ${up(state.up_s)}`, `version ${state.version}`].filter(Boolean).join(" · "));
  status(state.ready ? "ready" : "waiting", state.ready ? "ready" : "not taking jobs");
  showWorkers(state.workers);
  showProfiles(state.profiles);
  showDecisions(state.decisions);
  showReliability(state.reliability);
  charts(state, done);
}

function status(kind, text) {
  $("status").dataset.state = kind;
  say("status-text", text);
}

function up(s) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const [size, unit] = parts.find(([each]) => s >= each) || [1, "s"];
  return `${Math.floor(s / size)} ${unit}`;
}

function showWorkers(workers) {
  const shown = workers.map((state, index) => {
    const made = html("span", "worker", `worker ${index} ${state.replaceAll("_", " ")}`);
    made.dataset.good = state === "ready" ? "yes" : state === "starting" ? "wait" : "no";
    return made;
  });
  $("workers").replaceChildren(...shown);
}

function showProfiles(profiles) {
  const several = Object.keys(profiles).length > 1;
  $("profiles").replaceChildren(...Object.entries(profiles).flatMap(([model, modes]) => modes.map((one) => {
    const row = html("tr"), agreed = one.agreement ? one.agreement.holds : null;
    const verdicts = [one.holds, agreed, one.latency_holds];
    const wrong = [one.holds === false && "accuracy has fallen", agreed === false && "accuracy cannot be so", one.latency_holds === false && "latency has changed"];
    const said = wrong.filter(Boolean).join(", ") || (verdicts.includes(true) ? "holds" : "–");
    const verdict = html("td", "", said);
    verdict.dataset.holds = verdicts.includes(false) ? "no" : verdicts.includes(true) ? "yes" : "";
    row.append(
      html("td", "", several ? `${model} ${one.mode}` : one.mode), html("td", "number", accuracy(one.profiled)),
      html("td", "number", told(one.live, accuracy)),
      html("td", "number", one.live === null ? "–" : `${accuracy(one.low)} to ${accuracy(one.high)}`),
      html("td", "number", String(one.scores)),
      html("td", "number", one.agreement ? `${accuracy(one.agreement.mean)} of ${one.agreement.shadows}` : "–"),
      html("td", "number", told(one.latency_ratio, (ratio) => `× ${ratio.toFixed(2)}`)), verdict,
    );
    return row;
  })));
}

function showDecisions(decisions) {
  $("no-decisions").hidden = decisions.length > 0;
  $("decisions").closest(".scroll").hidden = !decisions.length;
  $("decisions").replaceChildren(...decisions.slice(0, ROWS).map((one) => {
    const row = html("tr");
    const outcome = html("td", "", one.outcome);
    outcome.dataset.outcome = one.outcome;
    const modes = Object.entries(one.modes).map(([mode, count]) => count === one.requests ? mode : `${mode} ×${count}`).join(", ");
    const words = (code) => code.replaceAll("_", " ");
    row.append(
      html("td", "", one.job), outcome, html("td", "number", String(one.requests)), html("td", "", modes || "–"),
      html("td", "number", told(one.accuracy, accuracy)), html("td", "number", accuracy(one.slo)),
      html("td", "number", told(one.slack_ms, time)), html("td", "", words(one.decision)), html("td", "", words(one.reason)),
    );
    return row;
  }));
}

// Charts

function charts(state, kept) {
  const rows = kept.slice(-SHOWN_S);
  const rate = nice(Math.max(1, ...rows.map((row) => Math.max(row.arrived, row.served))));
  draw("chart-arrivals", rows, 0, rate, whole, "requests/s", (plot) => {
    plot.area(rows.map((row) => row.arrived), "fill-area");
    plot.line(rows.map((row) => row.served), "stroke-line");
  });
  const missed = (row) => ended(row) ? 1 - row.served / ended(row) : 0;
  const most = Math.min(1, nice(Math.max(0.1, ...rows.map(missed))));
  draw("chart-violations", rows, 0, most, (value) => `${Math.round(100 * value)}%`, "", (plot) =>
    plot.area(rows.map(missed), "fill-bad"));
  const reached = rows.flatMap((row) => [row.accuracy, row.slo]).filter((value) => value !== null);
  const low = reached.length ? Math.max(0, Math.floor(20 * Math.min(...reached) - 0.2) / 20) : 0;
  const high = reached.length ? Math.min(1, Math.max(low + 0.1, Math.ceil(20 * Math.max(...reached) + 0.2) / 20)) : 1;
  draw("chart-accuracy", rows, low, high, (value) => value.toFixed(2), "", (plot) => {
    plot.line(rows.map((row) => row.slo), "stroke-dash");
    plot.line(rows.map((row) => row.accuracy), "stroke-line");
  });
  showModes(state, rows);
  draw("chart-queue", rows, 0, nice(Math.max(1, ...rows.map((row) => row.queued))), whole, "jobs", (plot) =>
    plot.area(rows.map((row) => row.queued), "fill-area"));
  const slacks = rows.flatMap((row) => [row.slack_ms, row.least_slack_ms]).filter((value) => value !== null);
  const top = nice(Math.max(1, ...slacks)), bottom = Math.min(0, ...slacks);
  draw("chart-slack", rows, bottom < 0 ? -nice(-bottom) : 0, top, whole, "ms", (plot) => {
    plot.line(rows.map((row) => row.least_slack_ms), "stroke-dash");
    plot.line(rows.map((row) => row.slack_ms), "stroke-line");
  });
}

function showModes(state, rows) {
  const names = [...new Set(Object.values(state.modes).flat())];
  const shade = (index) => `m${names.length > 1 ? Math.round(index * (SHADES - 1) / (names.length - 1)) : SHADES - 2}`;
  const minute = rows.slice(-MINUTE_S);
  const ran = (row) => sum(Object.values(row.ran), (count) => count);
  const total = sum(minute, ran);
  const seen = names.filter((name) => rows.some((row) => row.ran[name]));
  $("modes").replaceChildren(...names.map((name, index) => {
    if (seen.length && !seen.includes(name)) return "";
    const made = html("span"), share = total ? sum(minute, (row) => row.ran[name] || 0) / total : null;
    made.append(html("span", `key ${shade(index)}`), `${name} ${told(share, (value) => `${Math.round(100 * value)}%`)}`);
    return made;
  }).filter(Boolean).reverse());
  draw("chart-modes", rows, 0, 1, (value) => `${Math.round(100 * value)}%`, "", (plot) => {
    let base = rows.map(() => 0);
    names.forEach((name, index) => {
      const above = rows.map((row, place) => ran(row) ? base[place] + (row.ran[name] || 0) / ran(row) : null);
      plot.band(base, above, shade(index));
      base = above.map((value) => value ?? 0);
    });
  });
}

// Each group of answers in cascades: how many of them should be right, and how many are, with its 95% interval.
function showReliability(reliability) {
  const bins = Object.values(reliability).flat();
  $("reliability-card").hidden = !bins.length;
  if (!bins.length) return;
  const place = $("chart-reliability"), width = place.clientWidth || 300, height = place.clientHeight || 120;
  const left = 40, right = width - 6, top = 8, bottom = height - 18;
  const low = Math.max(0, Math.floor(10 * Math.min(...bins.map((bin) => Math.min(bin.expected, bin.low)))) / 10);
  const x = (value) => left + (right - left) * (value - low) / (1 - low);
  const y = (value) => bottom - (bottom - top) * (value - low) / (1 - low);
  const svg = node("svg", {viewBox: `0 0 ${width} ${height}`});
  for (const value of [low, 1]) {
    svg.append(
      node("line", {x1: left, x2: right, y1: y(value), y2: y(value), class: "grid"}),
      node("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, value.toFixed(1)),
      node("text", {x: x(value), y: height - 3, "text-anchor": value === 1 ? "end" : "start"}, value.toFixed(1)),
    );
  }
  svg.append(node("text", {x: left - 6, y: (top + bottom) / 2 + 4, "text-anchor": "end"}, "seen"));
  svg.append(node("text", {x: (left + right) / 2, y: height - 3, "text-anchor": "middle"}, "expected"));
  svg.append(node("path", {d: `M${x(low)} ${y(low)}L${x(1)} ${y(1)}`, class: "stroke-dash"}));
  for (const bin of bins) {
    const style = bin.holds === false ? "broken" : bin.escalated ? "went-on" : "stayed";
    const at = x(bin.expected).toFixed(1);
    const dot = node("circle", {cx: at, cy: y(bin.live).toFixed(1), r: 3.5, class: style});
    dot.append(node("title", {}, `${bin.mode}, confidence ${span(bin)}: expected ${accuracy(bin.expected)}, seen ${accuracy(bin.live)} of ${bin.scores}`));
    svg.append(node("line", {x1: at, x2: at, y1: y(bin.low).toFixed(1), y2: y(bin.high).toFixed(1), class: style}), dot);
  }
  place.replaceChildren(svg);
  const broken = bins.filter((bin) => bin.holds === false).length;
  say("reliability-text", `${sum(bins, (bin) => bin.scores)} labelled answers` + (broken ? `; ${broken} of ${bins.length} groups are right less often than expected` : ""));
}

function span(bin) {
  const edge = (value) => value === null ? "" : value.toFixed(2);
  return bin.from === null ? `under ${edge(bin.to)}` : bin.to === null ? `from ${edge(bin.from)}` : `${edge(bin.from)} to ${edge(bin.to)}`;
}

function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * power >= value * 0.999);
}

// Draws a chart of one value a second; the newest is at the right.
function draw(id, rows, low, high, label, unit, paint) {
  const place = $(id), width = place.clientWidth || 300, height = place.clientHeight || 120;
  const left = 40, right = width - 6, top = 8, bottom = height - 18;
  const newest = rows.length ? rows[rows.length - 1].at_s : 0;
  const x = (at) => right - (right - left) * (newest - at) / (SHOWN_S - 1);
  const y = (value) => bottom - (bottom - top) * (value - low) / (high - low);
  const svg = node("svg", {viewBox: `0 0 ${width} ${height}`});
  for (const part of [0, 0.5, 1]) {
    const value = low + part * (high - low);
    svg.append(node("line", {x1: left, x2: right, y1: y(value), y2: y(value), class: "grid"}));
    if (part !== 0.5) svg.append(node("text", {x: left - 6, y: y(value) + 4, "text-anchor": "end"}, label(value)));
  }
  if (unit) svg.append(node("text", {x: left - 6, y: (top + bottom) / 2 + 4, "text-anchor": "end"}, unit === "requests/s" ? "per s" : unit));
  if (low < 0) svg.append(node("line", {x1: left, x2: right, y1: y(0), y2: y(0), class: "zero"}));
  svg.append(
    node("text", {x: left, y: height - 3}, `${SHOWN_S / 60} min ago`),
    node("text", {x: (left + right) / 2, y: height - 3, "text-anchor": "middle"}, "1 min ago"),
    node("text", {x: right, y: height - 3, "text-anchor": "end"}, "now"),
  );
  const clip = `${id}-clip`, box = node("clipPath", {id: clip});
  box.append(node("rect", {x: left, y: top - 2, width: right - left + 2, height: bottom - top + 4}));
  const group = node("g", {"clip-path": `url(#${clip})`});
  const at = rows.map((row) => x(row.at_s));
  const step = (right - left) / (SHOWN_S - 1);
  const runs = (values) => {  // stretches without a gap
    const found = [];
    values.forEach((value, index) => {
      if (value === null) return;
      if (index && values[index - 1] !== null && found.length) found[found.length - 1].push(index);
      else found.push([index]);
    });
    return found;
  };
  paint({
    line: (values, style) => {
      for (const run of runs(values)) {
        const points = run.map((index) => `${at[index].toFixed(1)} ${y(values[index]).toFixed(1)}`);
        const path = points.length > 1 ? `M${points.join("L")}` : `M${points[0]}h0.1`;
        group.append(node("path", {d: path, class: style}));
      }
    },
    area: (values, style) => bars(values.map(() => low), values, style),
    band: (from, to, style) => bars(from, to, style),
  });
  function bars(from, to, style) {
    let path = "";
    to.forEach((value, index) => {
      if (value === null || value <= from[index] || at[index] < left - step) return;
      path += `M${(at[index] - step / 2).toFixed(2)} ${y(value).toFixed(1)}h${(step + 0.4).toFixed(2)}V${y(from[index]).toFixed(1)}h${(-step - 0.4).toFixed(2)}Z`;
    });
    if (path) group.append(node("path", {d: path, class: style}));
  }
  svg.append(box, group);
  if (!rows.some((row) => ended(row) || row.arrived)) {
    svg.append(node("text", {x: (left + right) / 2, y: (top + bottom) / 2 - 7, "text-anchor": "middle"}, "no jobs in the last 2 minutes"));
  }
  place.replaceChildren(svg);
}

// Signing in: the key is kept here and nowhere else.

function signIn(said) {
  key = "";
  if (said) say("key-said", said);
  status("waiting", "sign in");
  say("about", "");
  $("sign-in").hidden = false;
  document.querySelector("main").hidden = document.querySelector("footer").hidden = true;
  $("key").focus();
}

$("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  key = $("key").value.trim();
  $("key").value = "";
  $("sign-in").hidden = true;
  document.querySelector("main").hidden = document.querySelector("footer").hidden = false;
  run();
});

$("metrics").hidden = Boolean(document.body.dataset.key);  // a link carries no key

async function run() {
  if (document.body.dataset.key && !key) return signIn();
  try {
    await refresh();
  } catch (error) {
    status("lost", `no answer from the server (${error.message})`);
  }
  if ($("sign-in").hidden) setTimeout(run, 1000);
}
run();
