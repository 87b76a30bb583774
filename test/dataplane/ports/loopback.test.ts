import t from 'tap';
import { C } from '../../../dataplane/engine/counters.js';
import { FRAMES_MAX_COUNT } from '../../../dataplane/engine/frames.js';
import type { FrameTable } from '../../../dataplane/engine/frames.js';
import { Link } from '../../../dataplane/engine/link.js';
import { LoopbackPort } from '../../../dataplane/ports/loopback.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { makeRig, memoryLink } from '../engine/rig.js';

void t.test('returns what it is sent, edited, in the next turn', async t => {
  const { loop, pool } = makeRig();
  const [back, backPort] = memoryLink(loop, 'back', { input: () => {} });
  const toBack = {
    input: (_: Link, frames: FrameTable, first: number, end: number): void => {
      for (let frame = first; frame < end && frames.count > 0; frame++) back.send(frame, 0);
    },
  };
  const link = new Link(loop, 'lo', toBack, 1);
  link.port = new LoopbackPort(link);
  link.port.open();
  const [, source] = memoryLink(loop, 'source', {
    input: (_, __, first, end) => {
      for (let frame = first; frame < end; frame++) link.send(frame, vlan.EDIT_ADD | 5);
    },
  });
  const bytes = new Uint8Array(60).fill(9);
  source.arrive(bytes);
  source.arrive(bytes);
  loop.turn(0);
  t.equal(backPort.sent.length, 0);
  loop.turn(0);
  t.equal(backPort.sent.length, 2);
  t.same(Array.from(backPort.sent[0]!.bytes.slice(10, 18)), [9, 9, 0x81, 0, 0, 5, 9, 9]);
  t.equal(pool.usedCount, 0);
  link.port.close();
});

void t.test('holds no more than a table, and leaves buffers to others', async t => {
  const { loop, pool } = makeRig(2048);
  const link = new Link(loop, 'lo', { input: () => {} }, 1);
  const port = new LoopbackPort(link);
  link.port = port;
  port.open();
  const [, source] = memoryLink(loop, 'source', {
    input: (_, __, first, end) => {
      for (let frame = first; frame < end; frame++) link.send(frame, 0);
    },
  });
  for (let i = 0; i < 2000; i++) source.arrive(new Uint8Array(60));
  for (let turn = 0; turn < 60; turn++) loop.turn(0);
  t.ok(pool.usedCount <= FRAMES_MAX_COUNT);
  t.equal(link.counters[C.ifHCOutUcastPkts]! + link.counters[C.dropQueueFull]!, 2000);
  port.close();
  t.equal(pool.usedCount, 0);
});
