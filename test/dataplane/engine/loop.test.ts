import t from 'tap';
import { C, E } from '../../../dataplane/engine/counters.js';
import type { FrameTable } from '../../../dataplane/engine/frames.js';
import type { Link, Sink } from '../../../dataplane/engine/link.js';
import { BURST_MAX_COUNT } from '../../../dataplane/engine/port.js';
import { Timer } from '../../../dataplane/engine/timers.js';
import { makeRig, memoryLink } from './rig.js';

/** Sends whatever comes to the links it is told, and remembers who brought what in which order. */
class Spread implements Sink {
  to: Link[] = [];
  readonly seen: string[] = [];
  input(link: Link, _frames: FrameTable, first: number, end: number): void {
    this.seen.push(`${link.name} ${end - first}`);
    for (let frame = first; frame < end; frame++)
      for (const other of this.to) if (other !== link) other.send(frame, 0);
  }
}

const frame = (byte: number): Uint8Array => new Uint8Array(60).fill(byte);

void t.test('a burst from each port per turn: a flooding port does not starve the others', async t => {
  const { loop, pool } = makeRig(1024);
  const sink = new Spread();
  const [, flooding] = memoryLink(loop, 'flood', sink);
  const [, quiet] = memoryLink(loop, 'quiet', sink);
  const [out, outPort] = memoryLink(loop, 'out', sink);
  sink.to = [out];
  for (let i = 0; i < 200; i++) flooding.arrive(frame(1));
  quiet.arrive(frame(2));
  loop.turn(0);
  t.same(sink.seen, [`flood ${BURST_MAX_COUNT}`, 'quiet 1']);
  t.equal(outPort.sent.length, BURST_MAX_COUNT + 1);
  for (let turn = 0; turn < 3; turn++) loop.turn(0);
  t.equal(outPort.sent.length, 201);
  t.equal(pool.usedCount, 0, 'no frame stays behind');
});

void t.test('more frames in a turn than the table holds are flushed in between', async t => {
  const { loop, pool } = makeRig(1024);
  const sink = new Spread();
  const ports = Array.from({ length: 20 }, (_, i) => memoryLink(loop, `p${i}`, sink)[1]);
  const [out, outPort] = memoryLink(loop, 'out', sink);
  sink.to = [out];
  for (const port of ports) for (let i = 0; i < BURST_MAX_COUNT; i++) port.arrive(frame(i));
  loop.turn(0);
  t.equal(outPort.sent.length, 20 * BURST_MAX_COUNT);
  t.equal(pool.usedCount, 0);
  t.ok(loop.counters[E.flushes]! > 1);
});

void t.test('a frame to many ports is one buffer', async t => {
  const { loop, pool } = makeRig(3);
  const sink = new Spread();
  const [, source] = memoryLink(loop, 'source', sink);
  const outs = Array.from({ length: 50 }, (_, i) => memoryLink(loop, `out${i}`, sink));
  sink.to = outs.map(([link]) => link);
  source.arrive(frame(7));
  loop.turn(0);
  for (const [, port] of outs) t.same(port.sent[0]!.bytes, frame(7));
  t.equal(pool.usedCount, 0);
});

void t.test('an exhausted pool drops and goes on', async t => {
  const { loop, pool } = makeRig(8);
  const sink = new Spread();
  const [link, source] = memoryLink(loop, 'source', sink);
  const [out, outPort] = memoryLink(loop, 'out', sink);
  sink.to = [out];
  for (let i = 0; i < 40; i++) source.arrive(frame(i));
  for (let turn = 0; turn < 10; turn++) loop.turn(0);
  t.equal(pool.usedCount, 0);
  t.ok(link.counters[C.dropNoBuffer]! > 0);
  t.equal(outPort.sent.length + out.counters[C.dropNoBuffer]!, 40, 'each was sent or counted');
});

void t.test('sleeps until the next timer, and not at all when there is work', async t => {
  const { loop, poller, clock } = makeRig();
  const sink = new Spread();
  const [, port] = memoryLink(loop, 'p', sink);
  let rang = 0;
  const timer = new Timer(() => rang++);
  loop.timers.arm(timer, 30.5);
  loop.turn();
  t.equal(poller.timeouts.at(-1), 31);
  t.equal(rang, 0);
  clock.now_ms = 31;
  port.arrive(frame(1));
  loop.turn();
  t.equal(poller.timeouts.at(-1), 0, 'a frame waits');
  t.equal(rang, 1);
  loop.turn();
  t.equal(poller.timeouts.at(-1), 1000, 'nothing to do');
});

void t.test('an fd that is given back in the same turn is not told of any more', async t => {
  const { loop, poller } = makeRig();
  const told: string[] = [];
  let second = -1;
  loop.watch(7, 1, {
    ready: () => {
      told.push('first');
      loop.unwatch(second);
      // A new fd must not get the token that the events in hand still name.
      loop.watch(9, 1, { ready: () => told.push('new') });
    },
  });
  second = loop.watch(8, 1, { ready: () => told.push('second') });
  poller.tell(7, 1);
  poller.tell(8, 1);
  loop.turn(0);
  t.same(told, ['first']);
  poller.tell(9, 1);
  loop.turn(0);
  t.same(told, ['first', 'new']);
});

void t.test('a forgotten link is neither asked nor sent to', async t => {
  const { loop, pool } = makeRig();
  const sink = new Spread();
  const [link, port] = memoryLink(loop, 'gone', sink);
  port.arrive(frame(1));
  loop.forget(link);
  loop.turn(0);
  t.same(sink.seen, []);
  t.equal(pool.usedCount, 0);
});

void t.test('states are told once, ups and downs are counted', async t => {
  const { loop } = makeRig();
  const told: string[] = [];
  loop.onState = link => told.push(`${link.state} ${link.reason}`);
  const [link] = memoryLink(loop, 'p', new Spread());
  link.setState('up', null);
  link.setState('error', 'broken');
  link.setState('error', 'broken');
  link.setState('up', null);
  t.same(told, ['up null', 'error broken', 'up null']);
  t.equal(link.counters[C.opens], 2);
  t.equal(link.counters[C.disconnects], 1);
});
