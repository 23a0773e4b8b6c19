// choreo -> Hydra (https://hydra.ojack.xyz), which runs this text when you press Ctrl-Shift-Enter.
// Between the quotes: the address, with its token, that `choreo run-live --out ws:8090` prints at start. Pages served
// from this machine may connect, other sites may not: run Hydra here, for example as a page of your own with
// hydra-synth. Not run by the tests: they only check that this is JavaScript and that all five controls are used.
const url = 'ws://127.0.0.1:8090/TOKEN';
const state = (window.choreo ??= { tempo_scale: 1, density: 0, tension: 0, brightness: 0.5, fx_send: 0 });
if (state.url !== url) {
  state.url = url;
  state.socket?.close();
  const listen = () => {
    if (state.url !== url) return;
    state.socket = new WebSocket(url);
    state.socket.onmessage = (message) => {
      const { seq, controls } = JSON.parse(message.data);
      Object.assign(state, controls);
      if (seq !== undefined) state.socket.send(JSON.stringify({ ack: seq })); // for the latency ledger
    };
    state.socket.onclose = () => setTimeout(listen, 1000);
  };
  listen();
}
// Lines by density, speed by tempo_scale, folding by tension, light by brightness, trails by fx_send.
osc(() => 4 + 60 * state.density, 0.1, () => state.tension)
  .rotate(() => time * 0.1 * state.tempo_scale)
  .modulate(noise(3, () => 0.2 * state.tempo_scale), () => 0.4 * state.tension)
  .kaleid(() => 2 + Math.round(6 * state.tension))
  .brightness(() => state.brightness - 0.5)
  .luma(() => 0.6 - 0.5 * state.density)
  .blend(o0, () => 0.95 * state.fx_send)
  .out(o0);
