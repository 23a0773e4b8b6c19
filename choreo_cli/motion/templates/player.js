"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const LEFT = [255, 134, 62], RIGHT = [64, 160, 255], TORSO = [232, 228, 216], FACE = [58, 62, 76], STANDS = [178, 242, 92], FOG = [44, 50, 66];
const LIMBS = [[1, 4, .082, .056, LEFT], [4, 7, .055, .036, LEFT], [22, 23, .04, .03, LEFT], [2, 5, .082, .056, RIGHT], [5, 8, .055, .036, RIGHT],
  [24, 25, .04, .03, RIGHT], [16, 18, .05, .038, LEFT], [18, 20, .037, .026, LEFT], [20, 26, .031, .022, LEFT], [17, 19, .05, .038, RIGHT],
  [19, 21, .037, .026, RIGHT], [21, 27, .031, .022, RIGHT], [38, 15, .05, .046, TORSO], [28, 29, .086, .096, TORSO], [30, 31, .028, .028, FACE]];
const QUADS = [[32, 33, 35, 34, .072], [34, 35, 37, 36, .086]];
const CASTS = [[1, 4, .08], [4, 7, .05], [7, 10, .045], [2, 5, .08], [5, 8, .05], [8, 11, .045], [16, 18, .045], [18, 26, .035], [17, 19, .045], [19, 27, .035], [0, 12, .14], [28, 29, .09]];
const VIEWS = [["front", 0, 7], ["side", 90, 7], ["three-quarter", 38, 14], ["top", 0, 89]];
const SPEEDS = [.1, .25, .5, .75, 1, 1.5, 2];

// Positions travel as 16-bit numbers, contacts as one bit a foot.
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const clips = data.clips.map((c) => {
  const raw = bytes(c.xyz), view = new DataView(raw.buffer), xyz = new Float32Array(raw.length / 2);
  for (let i = 0; i < xyz.length; i++) xyz[i] = view.getInt16(2 * i, true) * c.unit;
  return { ...c, xyz, feet: bytes(c.contacts), n: xyz.length / 66 };
});
const fps = data.fps, frames = Math.max(...clips.map((c) => c.n)), duration = frames / fps;
const state = { t: 0, playing: false, speed: 1, az: 0, el: 0, zoom: 1, follow: false, view: -1 };

const add = (a, b, k = 1) => [a[0] + k * b[0], a[1] + k * b[1], a[2] + k * b[2]];
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const mid = (a, b, k = .5) => [a[0] + k * (b[0] - a[0]), a[1] + k * (b[1] - a[1]), a[2] + k * (b[2] - a[2])];
const unit = (v) => { const n = Math.max(Math.hypot(...v), 1e-9); return [v[0] / n, v[1] / n, v[2] / n]; };
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];

function joint(clip, f, j) {
  const k = Math.min(Math.floor(f), clip.n - 1), m = Math.min(k + 1, clip.n - 1), w = Math.min(Math.max(f - k, 0), 1), a = 66 * k + 3 * j, b = 66 * m + 3 * j;
  return [0, 1, 2].map((i) => clip.xyz[a + i] + w * (clip.xyz[b + i] - clip.xyz[a + i]));
}

function flesh(clip, f) {
  const p = []; for (let j = 0; j < 22; j++) p.push(joint(clip, f, j));
  for (const [ankle, toe, heel] of [[7, 10, 22], [8, 11, 24]]) {
    const along = sub(p[toe], p[ankle]); along[1] = 0;
    const low = [p[ankle][0], .45 * p[ankle][1] + .55 * p[toe][1], p[ankle][2]];
    p[heel] = add(low, along, -.22); p[heel + 1] = add(p[toe], along, .3);
  }
  p[26] = add(p[20], unit(sub(p[20], p[18])), .095); p[27] = add(p[21], unit(sub(p[21], p[19])), .095);
  const across = unit(sub(p[16], p[17])), up = unit(sub(p[15], p[12])), front = unit(cross(across, up));
  p[38] = add(p[15], up, -Math.min(Math.hypot(...sub(p[15], p[12])), .11));
  p[28] = add(p[15], up, .015); p[29] = add(p[15], up, .085);
  const eyes = add(add(p[15], up, .062), front, .082);
  p[30] = add(eyes, across, .036); p[31] = add(eyes, across, -.036);
  p[32] = mid(p[16], p[9], .2); p[33] = mid(p[17], p[9], .2);
  const waist = mid(p[3], p[6]), side = unit(add(across, unit(sub(p[1], p[2]))));
  p[34] = add(waist, side, .062); p[35] = add(waist, side, -.062); p[36] = p[1]; p[37] = p[2];
  return p;
}

// A following camera looks at the pelvis averaged over about a second, as far as there is as much before as after.
for (const c of clips) {
  let lo = [1e9, 1e9, 1e9], hi = [-1e9, -1e9, -1e9];
  for (let i = 0; i < c.xyz.length; i++) { const k = i % 3; lo[k] = Math.min(lo[k], c.xyz[i]); hi[k] = Math.max(hi[k], c.xyz[i]); }
  c.box = [lo, hi];
  const w = Math.max(Math.round(.6 * fps), 1), sum = [[0, 0]];
  for (let k = 0; k < c.n; k++) sum.push([sum[k][0] + c.xyz[66 * k], sum[k][1] + c.xyz[66 * k + 2]]);
  c.centre = (f) => { const k = Math.min(Math.floor(f), c.n - 1), r = Math.min(w, k, c.n - 1 - k), a = k - r, b = k + r + 1; return [(sum[b][0] - sum[a][0]) / (b - a), (sum[b][1] - sum[a][1]) / (b - a)]; };
}
const box = clips.reduce(([l, h], c) => [l.map((v, k) => Math.min(v, c.box[0][k])), h.map((v, k) => Math.max(v, c.box[1][k]))], clips[0].box);
const middle = mid(box[0], box[1]), tall = Math.max(box[1][1], 1.2), wide = Math.hypot(box[1][0] - box[0][0], box[1][2] - box[0][2]);

function camera(clip, f, w, h) {
  const ca = Math.cos(state.az), sa = Math.sin(state.az), ce = Math.cos(state.el), se = Math.sin(state.el);
  const axes = [[ca, 0, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]];
  const c = state.follow ? clip.centre(f) : [middle[0], middle[2]];
  const target = [c[0], Math.max(middle[1], .85), c[1]], spread = state.follow ? 1.5 : Math.max(wide, 1.2);
  const focus = h / 2 / Math.tan(.245), distance = Math.max((tall * 1.3) * focus / h, (spread + .5) * focus / w) / state.zoom + spread * .35;
  return (p) => {
    const q = sub(p, target), dot = (a) => a[0] * q[0] + a[1] * q[1] + a[2] * q[2];
    const near = dot(axes[2]), s = focus / Math.max(distance - near, .05 * distance);
    return [w / 2 + dot(axes[0]) * s, h * .52 - dot(axes[1]) * s, s, near];
  };
}

const rgb = (c, k = 1, a = 1) => `rgba(${c.map((v) => Math.min(Math.round(v * k), 255)).join(",")},${a})`;
function capsule(g, a, b, ra, rb) {
  const angle = Math.atan2(b[1] - a[1], b[0] - a[0]), far = Math.hypot(b[0] - a[0], b[1] - a[1]);
  const tilt = far > Math.abs(ra - rb) ? Math.acos((ra - rb) / far) : ra > rb ? 0 : Math.PI;
  g.beginPath(); g.arc(a[0], a[1], ra, angle + tilt, angle - tilt + 2 * Math.PI); g.arc(b[0], b[1], rb, angle - tilt, angle + tilt); g.closePath();
  return angle;
}
const tinted = (colour, depth) => { const d = Math.max(-1, Math.min(1, depth / .55)), k = Math.max(-d, 0) * .42; return colour.map((v, i) => (v + (FOG[i] - v) * k) * (1 + .1 * Math.max(d, 0))); };

function limb(g, a, b, ra, rb, colour) {
  ra *= a[2]; rb *= b[2];
  const angle = capsule(g, a, b, ra, rb), r = Math.max(ra, rb), s = Math.cos(angle) >= 0 ? 1 : -1;
  const nx = Math.sin(angle) * s, ny = -Math.cos(angle) * s, mx = (a[0] + b[0]) / 2, my = (a[1] + b[1]) / 2;
  const fill = g.createLinearGradient(mx + nx * r, my + ny * r, mx - nx * r, my - ny * r);
  fill.addColorStop(0, rgb(colour, .86)); fill.addColorStop(.3, rgb(colour, 1.08)); fill.addColorStop(.65, rgb(colour, .9)); fill.addColorStop(1, rgb(colour, .46));
  g.fillStyle = fill; g.fill(); g.strokeStyle = rgb(colour, .16); g.lineWidth = 1.4; g.stroke();
}
function plate(g, q, r, colour) {
  const path = () => { g.beginPath(); g.moveTo(q[0][0], q[0][1]); for (const p of q.slice(1)) g.lineTo(p[0], p[1]); g.closePath(); };
  const s = q.reduce((n, p) => n + p[2], 0) / 4 * r; g.lineJoin = "round";
  path(); g.strokeStyle = rgb(colour, .16); g.lineWidth = 2 * s + 2.6; g.stroke();
  const xs = q.map((p) => p[0]), ys = q.map((p) => p[1]);
  const fill = g.createLinearGradient(Math.min(...xs) - s, Math.min(...ys) - s, Math.max(...xs) + s, Math.max(...ys) + s);
  fill.addColorStop(0, rgb(colour, 1.05)); fill.addColorStop(.55, rgb(colour, .94)); fill.addColorStop(1, rgb(colour, .66));
  path(); g.strokeStyle = fill; g.lineWidth = 2 * s; g.stroke(); g.fillStyle = fill; g.fill();
}

function floor(g, see, clip, f, w, h) {
  const glow = g.createLinearGradient(0, 0, 0, h); glow.addColorStop(0, "#0f1119"); glow.addColorStop(1, "#222736"); g.fillStyle = glow; g.fillRect(0, 0, w, h);
  const c = state.follow ? clip.centre(f) : [middle[0], middle[2]], reach = state.follow ? 3 : Math.max(3, .6 * wide + 1.5), tile = reach / 6, spot = see([c[0], 0, c[1]]), size = .87 * reach * spot[2];
  if (spot[3] < 50) {
    const light = g.createRadialGradient(0, 0, 0, 0, 0, size); light.addColorStop(0, "rgba(88,98,130,.75)"); light.addColorStop(1, "rgba(88,98,130,0)");
    g.save(); g.translate(spot[0], spot[1]); g.scale(1, Math.max(Math.abs(Math.sin(state.el)), .08)); g.fillStyle = light; g.beginPath(); g.arc(0, 0, size, 0, 7); g.fill(); g.restore();
  }
  for (const axis of [0, 1]) for (let k = -6; k <= 6; k++) {
    const at = (Math.round(c[axis] / tile) + k) * tile, off = at - c[axis], room = Math.sqrt(Math.max(reach * reach - off * off, 0));
    if (room < .1) continue;
    for (let n = -6; n < 6; n++) {
      const u = c[1 - axis] + room * n / 6, v = c[1 - axis] + room * (n + 1) / 6, m = Math.hypot(off, (u + v) / 2 - c[1 - axis]);
      const p = see(axis ? [u, 0, at] : [at, 0, u]), q = see(axis ? [v, 0, at] : [at, 0, v]);
      g.strokeStyle = `rgba(146,158,190,${(.4 * Math.max(1 - m / reach, 0)).toFixed(3)})`; g.lineWidth = Math.max(.009 * p[2], .6); g.beginPath(); g.moveTo(p[0], p[1]); g.lineTo(q[0], q[1]); g.stroke();
    }
  }
}
const dark = document.createElement("canvas");
function shadow(g, see, p, w, h, ratio) {
  dark.width = w * ratio; dark.height = h * ratio; const d = dark.getContext("2d"); d.scale(ratio, ratio);
  const right = [Math.cos(state.az), 0, -Math.sin(state.az)], away = [right[2], 0, -right[0]], flat = .45 + .55 * Math.abs(Math.sin(state.el));
  const cast = (q) => { const y = Math.max(q[1], 0); return see([q[0] + y * (.22 * right[0] + .3 * away[0]), 0, q[2] + y * (.22 * right[2] + .3 * away[2])]); };
  d.fillStyle = "#04060c"; if ("filter" in d) d.filter = `blur(${2.5 * ratio}px)`;
  for (const [a, b, r] of CASTS) { const x = cast(p[a]), y = cast(p[b]); capsule(d, x, y, r * flat * x[2], r * flat * y[2]); d.fill(); }
  g.globalAlpha = .5; g.drawImage(dark, 0, 0, w, h); g.globalAlpha = 1;
}

function draw(canvas, clip, f) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2), w = canvas.clientWidth, h = canvas.clientHeight;
  if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
  const g = canvas.getContext("2d"), see = camera(clip, f, w, h); g.setTransform(ratio, 0, 0, ratio, 0, 0);
  floor(g, see, clip, f, w, h);
  const p = flesh(clip, f), bits = clip.feet[Math.min(Math.floor(f + 1e-6), clip.n - 1)], stands = [bits & 1, bits & 2];
  shadow(g, see, p, w, h, ratio);
  for (const side of [0, 1]) if (stands[side]) {
    const q = see(mid([p[22 + 2 * side][0], 0, p[22 + 2 * side][2]], [p[23 + 2 * side][0], 0, p[23 + 2 * side][2]])), r = .2 * q[2];
    const light = g.createRadialGradient(0, 0, 0, 0, 0, r); light.addColorStop(0, rgb(STANDS, 1, .55)); light.addColorStop(1, rgb(STANDS, 1, 0));
    g.save(); g.translate(q[0], q[1]); g.scale(1, Math.max(Math.abs(Math.sin(state.el)), .3)); g.fillStyle = light; g.beginPath(); g.arc(0, 0, r, 0, 7); g.fill(); g.restore();
  }
  const s = p.map(see), base = s[0][3], parts = [];
  LIMBS.forEach(([a, b, ra, rb, colour], k) => {
    const side = k === 2 ? 0 : k === 5 ? 1 : -1, near = (s[a][3] + s[b][3]) / 2, key = k === 13 ? Math.max(near, (s[12][3] + s[15][3]) / 2 + .01) : near;
    parts.push([key, () => limb(g, s[a], s[b], ra, rb, tinted(side >= 0 && stands[side] ? STANDS : colour, near - base))]);
  });
  for (const [a, b, c, d, r] of QUADS) { const near = (s[a][3] + s[b][3] + s[c][3] + s[d][3]) / 4; parts.push([near, () => plate(g, [s[a], s[b], s[c], s[d]], r, tinted(TORSO, near - base))]); }
  parts.sort((x, y) => x[0] - y[0]).forEach((part) => part[1]());
  g.textBaseline = "top"; g.font = "600 14px system-ui, sans-serif"; g.fillStyle = "#eef0f6"; let x = 12;
  if (clip.role) { g.fillText(clip.role, x, 12); x += g.measureText(clip.role).width + 8; }
  g.font = "14px system-ui, sans-serif"; g.fillStyle = "#9ea6ba"; g.fillText(clip.name, x, 12, Math.max(w - x - 12, 10));
}

function drawTrack() {
  const canvas = byId("track"), ratio = Math.min(window.devicePixelRatio || 1, 2), w = canvas.clientWidth, h = canvas.clientHeight;
  canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio);
  const g = canvas.getContext("2d"), x = (t) => 14 + (w - 28) * Math.min(t / duration, 1); g.setTransform(ratio, 0, 0, ratio, 0, 0);
  clips.forEach((clip, k) => [0, 1].forEach((side) => {
    g.fillStyle = rgb(side ? RIGHT : LEFT, 1, k === clips.length - 1 ? .95 : .5); let first = -1;
    for (let f = 0; f <= clip.n; f++) {
      const on = f < clip.n && clip.feet[f] & (1 << side);
      if (on && first < 0) first = f;
      if (!on && first >= 0) { g.fillRect(x(first / fps), 6 + 10 * k + 4 * side, Math.max(x(f / fps) - x(first / fps), 1), 3); first = -1; }
    }
  }));
  const y = h - 14, last = data.beats.filter((b) => b <= state.t + 1e-6).pop();
  g.fillStyle = "#969eb2"; for (const b of data.beats) g.fillRect(x(b) - .6, y - 11, 1.2, 6);
  g.fillStyle = "#464c5e"; g.fillRect(14, y - 2, w - 28, 4); g.fillStyle = "#ecedf4"; g.fillRect(14, y - 2, x(state.t) - 14, 4);
  if (last !== undefined) { const glow = Math.exp(-(state.t - last) / .18); g.fillStyle = `rgba(255,214,102,${glow.toFixed(3)})`; g.beginPath(); g.arc(x(state.t), y, 6 + 6 * glow, 0, 7); g.fill(); }
  g.fillStyle = "#fff"; g.beginPath(); g.arc(x(state.t), y, 6, 0, 7); g.fill();
  canvas.setAttribute("aria-valuenow", state.t.toFixed(2));
}

const panels = clips.map((clip) => { const c = document.createElement("canvas"); c.setAttribute("role", "img"); c.setAttribute("aria-label", `${clip.role} ${clip.name}`.trim()); byId("panels").append(c); return c; });
const audio = data.audio ? new Audio(data.audio) : null;
if (audio) { audio.preservesPitch = true; byId("soundbox").hidden = false; }
const sounding = () => audio && byId("sound").checked && state.t < (audio.duration || 0);

let asked = 0, before = 0;
function show() { if (!asked) asked = requestAnimationFrame(paint); }
function paint(now) {
  asked = 0;
  if (state.playing) {
    // The sound is the clock wherever there is some; else the screen's.
    if (sounding() && !audio.paused && !audio.ended) state.t = audio.currentTime;
    else state.t += Math.min((now - before) / 1000, .1) * state.speed;
    if (state.t >= duration) { state.t = duration - 1 / fps; play(false); }
    else show();
  }
  before = now;
  const f = state.t * fps; clips.forEach((clip, k) => draw(panels[k], clip, Math.min(f, clip.n - 1))); drawTrack();
  document.documentElement.dataset.ready = "yes";
  const s = state.t; byId("clock").textContent = `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, "0")}  #${Math.floor(f + 1e-6)}`;
}
function play(on) {
  state.playing = on; byId("play").textContent = on ? "Pause" : "Play"; before = performance.now();
  if (on && state.t >= duration - 1.5 / fps) state.t = 0;
  if (audio) { if (on && sounding()) { audio.currentTime = state.t; audio.playbackRate = state.speed; audio.play().catch(() => {}); } else audio.pause(); }
  show();
}
function seek(t) { state.t = Math.min(Math.max(t, 0), duration - 1 / fps); if (audio) { if (sounding()) audio.currentTime = state.t; if (state.playing) play(true); } show(); }
function setSpeed(v) { state.speed = v; byId("speed").value = String(v); if (audio) audio.playbackRate = v; }
function setView(k) { const [, az, el] = VIEWS[k]; state.az = data.heading + az * Math.PI / 180; state.el = el * Math.PI / 180; state.view = k; pressed(); show(); }
function pressed() { [...byId("views").children].forEach((b, k) => b.setAttribute("aria-pressed", String(k === state.view))); }
function orbit(dx, dy) { state.az -= dx; state.el = Math.min(Math.max(state.el + dy, -.1), 1.56); state.view = -1; pressed(); show(); }
function zoom(k) { state.zoom = Math.min(Math.max(state.zoom * k, .3), 5); show(); }
function setFollow(on) { state.follow = on; byId("follow").checked = on; show(); }

VIEWS.forEach(([name], k) => { const b = document.createElement("button"); b.type = "button"; b.textContent = name; b.addEventListener("click", () => setView(k)); byId("views").append(b); });
for (const v of SPEEDS) { const o = document.createElement("option"); o.value = String(v); o.textContent = `${v}×`; byId("speed").append(o); }
byId("speed").addEventListener("change", (e) => setSpeed(Number(e.target.value)));
byId("play").addEventListener("click", () => play(!state.playing));
byId("follow").addEventListener("change", (e) => setFollow(e.target.checked));
byId("sound").addEventListener("change", () => { if (state.playing) play(true); });
const scrub = (e) => { const r = byId("track").getBoundingClientRect(); seek((e.clientX - r.left - 14) / (r.width - 28) * duration); };
byId("track").addEventListener("pointerdown", (e) => { byId("track").setPointerCapture(e.pointerId); scrub(e); });
byId("track").addEventListener("pointermove", (e) => { if (e.buttons) scrub(e); });
for (const c of panels) {
  c.addEventListener("pointerdown", (e) => c.setPointerCapture(e.pointerId));
  c.addEventListener("pointermove", (e) => { if (e.buttons) orbit(e.movementX / 160, e.movementY / 200); });
  c.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY / 600)); }, { passive: false });
}
const near = (step) => SPEEDS[Math.min(Math.max(SPEEDS.indexOf(state.speed) + step, 0), SPEEDS.length - 1)];
const KEYS = {
  " ": () => play(!state.playing), k: () => play(!state.playing), Home: () => seek(0), End: () => seek(duration), "[": () => setSpeed(near(-1)), "]": () => setSpeed(near(1)),
  ArrowLeft: (e) => seek(state.t - (e.shiftKey ? 1 : 1 / fps)), ArrowRight: (e) => seek(state.t + (e.shiftKey ? 1 : 1 / fps)),
  a: () => orbit(.1, 0), d: () => orbit(-.1, 0), w: () => orbit(0, .06), s: () => orbit(0, -.06), "+": () => zoom(1.1), "=": () => zoom(1.1), "-": () => zoom(1 / 1.1),
  f: () => setFollow(!state.follow), m: () => { if (audio) { byId("sound").checked = !byId("sound").checked; if (state.playing) play(true); } },
};
addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === "SELECT") return;
  if (e.key === " " && e.target.tagName === "BUTTON" && e.target.id !== "play") return;
  if (/^[1-4]$/.test(e.key)) { setView(Number(e.key) - 1); return; }
  const act = KEYS[e.key]; if (act) { e.preventDefault(); act(e); }
});
addEventListener("resize", show);

function cell(row, kind, text, note) {
  const c = document.createElement(kind); c.textContent = text;
  if (note) { const n = document.createElement("small"); n.textContent = ` ${note}`; c.append(n); }
  row.append(c);
}
const head = byId("metrics").createTHead().insertRow(), rows = byId("metrics").createTBody();
cell(head, "th", "metric"); for (const c of data.columns) cell(head, "th", c);
for (const m of data.rows) { const r = rows.insertRow(); cell(r, "td", m.name, m.unit); for (const v of m.values) cell(r, "td", v); }

setSpeed(1); setFollow(data.follow); setView(Math.max(VIEWS.findIndex((v) => v[0] === data.view), 0)); seek(data.start || 0);
})();
