import t from 'tap';
import { C } from '../../../dataplane/engine/counters.js';
import { FRAME_WORDS, SLOT } from '../../../dataplane/engine/frames.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { Loop } from '../../../dataplane/engine/loop.js';
import { PatchPort } from '../../../dataplane/ports/patch.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { makeRig, memoryLink } from '../engine/rig.js';
import { makeGsoFrame } from './gsoFrame.js';
import { frame, tagged } from './hostLink.js';

function patch(loop: Loop, own: [string, string], peer: [string, string]): Link {
  const link = new Link(loop, own[1], { input: () => {} }, 0);
  link.port = new PatchPort(link, own[0], { switch: peer[0], port: peer[1] });
  return link;
}

await t.test('two switches: frames pass without a copy, tags are changed in one', async t => {
  const { loop, pool } = makeRig();
  const a = patch(loop, ['one', 'x'], ['two', 'y']);
  const b = patch(loop, ['two', 'y'], ['one', 'x']);
  const slots: [number, number] = [-1, -1];
  let edit = 0;
  const [, source] = memoryLink(loop, 'source', {
    input: (_, frames, first) => {
      slots[0] = frames.words[first * FRAME_WORDS + SLOT]!;
      a.send(first, edit);
    },
  });
  const [sink, out] = memoryLink(loop, 'sink', { input: () => {} });
  b.sink = {
    input: (_, frames, first, end) => {
      slots[1] = frames.words[first * FRAME_WORDS + SLOT]!;
      for (let i = first; i < end; i++) sink.send(i, 0);
    },
  };
  a.port!.open();
  t.equal(a.state, 'connecting');
  t.match(a.reason, /port y of switch two is not there, or is no patch/);
  b.port!.open();
  t.same([a.state, b.state], ['up', 'up']);
  const pass = (bytes: Uint8Array, ...words: number[]) => {
    source.arrive(bytes, words[0], words[1], words[2]);
    for (let turn = 0; turn < 4; turn++) loop.turn(0);
    return out.sent.splice(0);
  };
  t.same(pass(frame())[0]?.bytes, frame());
  t.equal(slots[0], slots[1], 'the same buffer');
  edit = vlan.EDIT_ADD | 5;
  t.same(pass(frame())[0]?.bytes, tagged(frame(), 5));
  t.not(slots[0], slots[1]);
  edit = 0;
  const made = makeGsoFrame(3000, 1000);
  const [whole] = pass(made.bytes, ...made.words);
  t.same([whole?.w0, whole?.w1, whole?.w2], made.words, 'offloads go along');
  t.equal(slots[0], slots[1]);
  const left = makeGsoFrame(100, 1000);
  pass(left.bytes, 1, 34 << 16, 16);
  t.not(slots[0], slots[1], 'somebody might complete its checksum meanwhile');
  b.port!.close();
  t.equal(a.state, 'connecting');
  pass(frame());
  t.equal(a.counters[C.dropNotUp], 1);
  a.port!.close();
  t.equal(pool.usedCount, 0);
});

await t.test('a peer that is cabled to elsewhere, or to itself', async t => {
  const { loop } = makeRig();
  const a = patch(loop, ['one', 'x'], ['two', 'y']);
  const b = patch(loop, ['two', 'y'], ['three', 'z']);
  a.port!.open();
  b.port!.open();
  t.equal(a.state, 'error');
  t.match(a.reason, /port y of switch two is a patch to port z of switch three, not to this one/);
  b.port!.close();
  const c = patch(loop, ['two', 'y'], ['one', 'x']);
  c.port!.open();
  t.equal(a.state, 'up', 'put right');
  const self = patch(loop, ['one', 'q'], ['one', 'q']);
  self.port!.open();
  t.match(self.reason, /from this port to itself/);
});

await t.test('a ring ends', async t => {
  const { loop, pool } = makeRig();
  const a = patch(loop, ['one', 'x'], ['two', 'y']);
  const b = patch(loop, ['two', 'y'], ['one', 'x']);
  for (const link of [a, b]) {
    // As two switches with two cables between them do with a broadcast.
    link.sink = {
      input: (_, __, first, end) => {
        for (let i = first; i < end; i++) link.send(i, 0);
      },
    };
    link.port!.open();
  }
  const [, source] = memoryLink(loop, 'source', { input: (_, __, first) => a.send(first, 0) });
  source.arrive(frame());
  for (let turn = 0; turn < 100; turn++) loop.turn(0);
  t.equal(a.counters[C.dropLoop]! + b.counters[C.dropLoop]!, 1);
  t.equal(a.counters[C.ifHCOutBroadcastPkts]! + b.counters[C.ifHCOutBroadcastPkts]!, 16);
  t.equal(pool.usedCount, 0);
});
