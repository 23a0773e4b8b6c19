// Opens the page of examples/receivers/strudel-page in a headless browser, plays, and keeps what leaves it.
// Arguments: browser, address of the page, milliseconds to keep, file for the samples, address of a relay of MIDI bytes.
// Says "ready RATE" when it sounds and "done COUNT MS" at the end: the file holds mono float32 samples, and MS is when
// the first of them was made, in milliseconds of the system's clock.
import { writeFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const [browserPath, address, keepMs, file, relay] = process.argv.slice(2);
const flags = ['--no-sandbox', '--autoplay-policy=no-user-gesture-required', '--disable-gpu', '--mute-audio'];
const browser = await chromium.launch({ executablePath: browserPath, headless: true, args: flags });
const page = await browser.newPage();
page.on('pageerror', (error) => console.log(`page error: ${error.message}`));
page.on('console', (line) => /error/i.test(line.text()) && console.log(`page: ${line.text()}`));

// Everything on its way to the loudspeaker also goes into a worklet that keeps it.
await page.addInitScript(() => {
  const source = `registerProcessor('keep', class extends AudioWorkletProcessor {
    constructor() { super(); this.kept = []; }
    process(inputs) {
      const channels = inputs[0];
      const mono = new Float32Array(128);
      for (const channel of channels) for (let i = 0; i < 128; i++) mono[i] += channel[i] / channels.length;
      this.kept.push(mono);
      this.first ??= currentFrame;
      if (this.kept.length === 64) {
        this.port.postMessage({ frame: this.first, blocks: this.kept });
        this.kept = [];
        this.first = undefined;
      }
      return true;
    }
  })`;
  const connect = AudioNode.prototype.connect;
  const taps = new WeakMap();
  window.kept = [];
  const tap = (context) => {
    if (!taps.has(context)) {
      const into = new GainNode(context);
      taps.set(context, into);
      window.tapped = context.audioWorklet
        .addModule(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })))
        .then(() => {
          const keep = new AudioWorkletNode(context, 'keep', { numberOfOutputs: 1 });
          keep.port.onmessage = ({ data }) => {
            window.firstFrame ??= data.frame;
            window.kept.push(...data.blocks);
          };
          window.tappedContext = context;
          connect.call(into, keep);
          connect.call(keep, context.destination); // silent, but an unconnected node is not run
          return context.sampleRate;
        });
    }
    return taps.get(context);
  };
  AudioNode.prototype.connect = function (to, ...rest) {
    if (to instanceof AudioDestinationNode && to.context instanceof AudioContext) connect.call(this, tap(to.context));
    return connect.call(this, to, ...rest);
  };
});

// There is no MIDI device here: a stand-in for requestMIDIAccess whose one input plays the bytes of the relay.
if (relay) {
  await page.addInitScript((from) => {
    const input = new EventTarget();
    const facts = { id: '1', name: 'choreo', manufacturer: '', version: '', type: 'input', state: 'connected', connection: 'open' };
    Object.assign(input, facts, { open: async () => input, close: async () => input, onmidimessage: null, onstatechange: null });
    const socket = new WebSocket(from);
    socket.binaryType = 'arraybuffer';
    socket.onmessage = (message) => {
      const event = { data: new Uint8Array(message.data), timeStamp: performance.now(), target: input };
      input.onmidimessage?.(event);
    };
    const access = Object.assign(new EventTarget(), {
      inputs: new Map([['1', input]]), outputs: new Map(), sysexEnabled: false, onstatechange: null,
    });
    Object.defineProperty(navigator, 'requestMIDIAccess', { value: async () => access, configurable: true });
  }, relay);
}

await page.goto(address);
await page.click('#play');
await page.waitForFunction(() => /playing|error/.test(document.getElementById('said').textContent), null, { timeout: 20000 });
const said = await page.textContent('#said');
if (said !== 'playing') {
  console.log(`failed ${said}`);
  await browser.close();
  process.exit(1);
}
const rate = await page.evaluate(() => window.tapped);
const zeroMs = await page.evaluate(() => {
  window.kept.length = 0;
  window.firstFrame = undefined;
  return Date.now() - window.tappedContext.currentTime * 1000;
});
console.log(`ready ${rate}`);
await page.waitForTimeout(Number(keepMs));
const text = await page.evaluate(() => {
  const all = new Float32Array(window.kept.length * 128);
  window.kept.forEach((block, i) => all.set(block, i * 128));
  const bytes = new Uint8Array(all.buffer);
  let out = '';
  for (let i = 0; i < bytes.length; i += 0x8000) out += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(out);
});
const samples = Buffer.from(text, 'base64');
writeFileSync(file, samples);
const firstMs = zeroMs + ((await page.evaluate(() => window.firstFrame)) / rate) * 1000;
console.log(`done ${samples.length / 4} ${firstMs}`);
await browser.close();
