// SPDX-License-Identifier: AGPL-3.0-or-later
// Plays the patches of ../strudel. Query: ?address=ws://...&patch=core
import * as core from '@strudel/core';
import * as midi from '@strudel/midi';
import * as mini from '@strudel/mini';
import * as webaudio from '@strudel/webaudio';
import { transpiler } from '@strudel/transpiler';
import bass from '../strudel/bass.txt';
import connect from '../strudel/connect.txt';
import coreText from '../strudel/core.txt';
import drums from '../strudel/drums.txt';
import fx from '../strudel/fx.txt';
import midin from '../strudel/midin.txt';
import pads from '../strudel/pads.txt';

const patches = { core: coreText, drums, bass, pads, fx, all: [drums, bass, pads, fx].join('\n') };
const controls = ['tempo_scale', 'density', 'tension', 'brightness', 'fx_send'];
const at = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const said = (text) => (at('said').textContent = text);

const ready = (async () => {
  await core.evalScope(Promise.resolve(core), Promise.resolve(mini), Promise.resolve(webaudio), Promise.resolve(midi));
  await webaudio.registerSynthSounds();
  mini.miniAllStrings();
})();
const repl = webaudio.webaudioRepl({
  transpiler,
  onEvalError: (error) => said(`error: ${error.message}`),
  afterEval: () => said('playing'),
});

// The block of the address goes above the patch, as it is pasted into strudel.cc.
function head(address) {
  if (address.startsWith('midi:')) return midin.replace(/midin\('.*'\)/, () => `midin('${address.slice(5)}')`);
  return connect.replace(/const url = '.*';/, () => `const url = '${address}';`);
}

// A filter and an echo behind everything: they are asked every 10 ms, patterns about 300 ms before they sound.
let bus;
function outputBus() {
  const context = webaudio.getAudioContext();
  const out = webaudio.getSuperdoughAudioController().output.destinationGain;
  const low = new BiquadFilterNode(context, { type: 'lowpass', frequency: 8000 });
  const send = new GainNode(context, { gain: 0 });
  const echo = new DelayNode(context, { delayTime: 0.28125 });
  const again = new GainNode(context, { gain: 0.5 });
  out.disconnect();
  out.connect(low).connect(context.destination);
  low.connect(send).connect(echo).connect(again).connect(echo);
  echo.connect(context.destination);
  const apply = () => {
    const state = globalThis.choreo;
    if (!state) return;
    const on = at('bus').checked;
    low.frequency.setTargetAtTime(on ? 250 * 40 ** state.brightness : 20000, context.currentTime, 0.01);
    send.gain.setTargetAtTime(on ? state.fx_send : 0, context.currentTime, 0.01);
  };
  return setInterval(apply, 10);
}

async function play() {
  said('starting');
  await webaudio.initAudio();
  await ready;
  bus ??= outputBus();
  await repl.evaluate(`${head(at('address').value)}\n${at('code').value}`);
}

for (const name of Object.keys(patches)) at('patch').add(new Option(name));
at('patch').value = query.get('patch') ?? 'core';
at('address').value = query.get('address') ?? '';
at('bus').checked = query.has('bus');
const show = () => (at('code').value = patches[at('patch').value]);
at('patch').onchange = show;
at('play').onclick = play;
at('stop').onclick = () => (repl.stop(), said('stopped'));
show();

at('meters').innerHTML = controls
  .map((name) => `<p><label>${name}</label><meter id="${name}" max="${name === 'tempo_scale' ? 2 : 1}"></meter></p>`)
  .join('');
setInterval(() => {
  for (const name of controls) at(name).value = globalThis.choreo?.[name] ?? 0;
}, 50);
globalThis.choreoPage = { repl, patches, play };
