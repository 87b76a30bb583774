/** Copies: of which frames, in which form, where to, and where never. */
import t from 'tap';
import type { MirrorSession, SwitchConfig } from '../../../dataplane/contract.js';
import { AT, FRAME_WORDS, LENGTH, W0 } from '../../../dataplane/engine/frames.js';
import { MirrorApp } from '../../../dataplane/mirrors/app.js';
import { SWITCH_COUNTERS } from '../../../dataplane/switch/counters.js';
import { DISCARDING, FORWARDING } from '../../../dataplane/switch/feature.js';
import { Packet } from '../../../dataplane/switch/packet.js';
import { F_MIRROR } from '../../../dataplane/switch/stages.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { FakeHost } from '../switch/fakeHost.js';
import type { FakePort } from '../switch/fakeHost.js';

interface Stage {
  host: FakeHost;
  app: MirrorApp;
  port: (name: string) => FakePort;
  configure: (sessions: Partial<MirrorSession>[], more?: Partial<SwitchConfig>) => void;
  /** Comes in by a port, belongs to a VLAN, leaves by ports with an edit. */
  pass: (by: string, bytes: Uint8Array, of: number, out?: Record<string, number>, w0?: number) => Packet;
  /** What a port was given since last asked, in hexadecimal from the tag's place on. */
  got: (name: string) => string[];
}

const PLAIN = Uint8Array.from(Buffer.from(`020000000002020000000001${'0800'}4500${'00'.repeat(44)}`, 'hex'));
const TAGGED = Uint8Array.from(
  Buffer.from(`020000000002020000000001${'8100a00a0800'}4500${'00'.repeat(44)}`, 'hex'),
);

function stage(names: Record<string, SwitchConfig['ports'][number]['vlan'] | null>): Stage {
  const host = new FakeHost();
  for (const [name, membership] of Object.entries(names))
    host.addPort({ name, vlan: membership ?? { mode: 'access', vlan: 1 } });
  const app = new MirrorApp(host, host.stages);
  const port = (name: string): FakePort => host.ports.find(each => each.config.name === name)!;
  const packet = new Packet(host.rig.arena.view);
  let last = packet;
  const configure: Stage['configure'] = (sessions, more = {}) =>
    app.configure(
      {
        name: 'sw',
        ageingTime_s: 300,
        macLimit: 100,
        ports: host.ports.map(each => each.config),
        mirrors: sessions.map((each, i) => ({
          name: `s${i}`,
          in: [],
          out: [],
          vlans: [],
          destination: { port: 'probe' },
          ...each,
        })),
        ...more,
      },
      host.ports,
    );
  let leaving: Record<string, number> = {};
  let of = 1;
  host.input = (link, frames, first, end) => {
    for (let frame = first; frame < end; frame++) {
      const words = frames.words;
      Object.assign(packet, {
        frame,
        at: words[frame * FRAME_WORDS + AT],
        length_bytes: words[frame * FRAME_WORDS + LENGTH],
        w0: words[frame * FRAME_WORDS + W0],
        port: link.sinkIndex,
        vlan: of,
        mirrored: 0,
        isLayer2Decision: true,
      });
      app.seen(packet, -1, vlan.EDIT_NONE);
      for (const [name, edit] of Object.entries(leaving)) app.seen(packet, port(name).port, edit);
      last = packet;
    }
  };
  const pass: Stage['pass'] = (by, bytes, belongsTo, out = {}, w0 = 0) => {
    leaving = out;
    of = belongsTo;
    port(by).memory.arrive(bytes, w0);
    host.loop.turn(0);
    return last;
  };
  const got: Stage['got'] = name =>
    port(name)
      .memory.sent.splice(0)
      .map(({ bytes }) => Buffer.from(bytes.subarray(12, 20)).toString('hex'));
  return { host, app, port, configure, pass, got };
}

await t.test('in, out and both; a session has a frame once', async t => {
  const { configure, pass, got, app, host } = stage({ a: null, b: null, probe: null });
  configure([{ in: ['a'], out: ['a', 'b'] }]);
  t.equal(app.isSource(0), true);
  t.equal(app.isSource(2), false);
  t.equal(host.flags.get(2), F_MIRROR, 'a frame from anywhere may leave by a watched port');
  const packet = pass('a', PLAIN, 1, { b: vlan.EDIT_ADD | 7 });
  t.same(got('probe'), ['0800450000000000'], 'as it came, and not again as it left');
  t.equal(packet.isLayer2Decision, false, 'the kernel may not take such flows over');
  pass('b', PLAIN, 1, { a: vlan.EDIT_ADD | 7 });
  t.same(got('probe'), ['8100000708004500'], 'as it left, with its tag');
  pass('probe', PLAIN, 1, {});
  t.same(got('probe'), []);
  t.equal(pass('b', PLAIN, 1).isLayer2Decision, true, 'nobody wanted this one');
});

await t.test('VLANs', async t => {
  const { configure, pass, got, host } = stage({ a: null, b: null, probe: null });
  configure([{ vlans: [[10, 19]] }]);
  t.equal(host.flags.get(0), F_MIRROR, 'any port may bring them');
  pass('a', TAGGED, 10);
  pass('b', PLAIN, 9);
  t.same(got('probe'), ['8100a00a08004500']);
});

await t.test('shortened, sampled, counted; a super-frame that is cut is none any more', async t => {
  const { configure, pass, port, app } = stage({ a: null, probe: null });
  configure([{ in: ['a'], snaplen_bytes: 20 }]);
  pass('a', PLAIN, 1, {}, 0x0101);
  const [copy] = port('probe').memory.sent.splice(0);
  t.equal(copy!.bytes.length, 20);
  t.equal(copy!.w0, 0);
  configure([{ in: ['a'], oneIn: 10 }]);
  for (let i = 0; i < 1000; i++) pass('a', PLAIN, 1);
  const { sessions } = app.show('mirrors')!;
  const { frames = 0, notSampled = 0, cut } = sessions[0]!.counters;
  t.equal(frames + notSampled, 1001, 'counters outlive a change');
  t.ok(frames > 60 && frames < 150, `${frames}`);
  t.equal(cut, 1);
  t.equal(port('probe').memory.sent.length, frames - 1);
});

await t.test('into a VLAN: all its ports but the one they came by, tagged as they want it', async t => {
  const { configure, pass, got, host } = stage({
    a: null,
    up: { mode: 'trunk', allowed: [[900, 900]], native: null },
    other: { mode: 'trunk', allowed: [[1, 800]], native: null },
    sniffer: { mode: 'access', vlan: 900 },
  });
  configure([{ in: ['a', 'up'], destination: { vlan: 900 } }]);
  pass('a', PLAIN, 1);
  pass('a', TAGGED, 10);
  t.same(got('up'), ['8100038408004500', '8100a38408004500'], 'its priority is kept');
  t.same(got('sniffer'), ['0800450000000000', '0800450000000000']);
  t.same(got('other'), []);
  host.setPortState(1, DISCARDING);
  pass('a', PLAIN, 1);
  t.same([got('up').length, got('sniffer').length], [0, 1], 'spanning tree blocks copies too');
  host.setPortState(1, FORWARDING);
  pass('up', PLAIN, 900);
  t.same(got('sniffer'), [], 'what is a copy is not copied again');
});

await t.test('the destination carries nothing else, and is given back', async t => {
  const { configure, host, app } = stage({ a: null, probe: null });
  configure([{ in: ['a'] }]);
  t.equal(host.states.get(1), DISCARDING);
  t.equal(host.stages.mirrors, app);
  configure([]);
  t.equal(host.states.get(1), FORWARDING);
  t.equal(host.stages.mirrors, undefined, 'it costs nothing any more');
  t.equal(host.flags.get(0), 0);
  configure([{ in: ['a'] }]);
  host.states.clear();
  configure([], {
    spanningTree: {
      mode: 'rstp',
      priority: 0,
      maxAge_s: 20,
      helloTime_s: 2,
      forwardDelay_s: 15,
      transmitHoldCount: 6,
    },
  });
  t.equal(host.states.get(1), undefined, 'with a spanning tree, that decides');
});

await t.test('a destination that is not there, or not up', async t => {
  const { configure, pass, port, app } = stage({ a: null, probe: null });
  configure([{ in: ['a'], destination: { port: 'gone' } }]);
  pass('a', PLAIN, 1);
  t.match(app.show('mirrors')!.sessions[0], {
    problem: /no port gone/,
    counters: { dropNotUp: 1, frames: 0 },
  });
  configure([{ in: ['a'] }]);
  port('probe').link.setState('error', 'gone');
  pass('a', PLAIN, 1);
  t.equal(app.show('mirrors')!.sessions[0]!.counters['dropNotUp'], 2);
});

await t.test('a flow rule hands a frame over', async t => {
  const { configure, app, got, host, port } = stage({ a: null, probe: null });
  configure([{}, {}]);
  const packet = new Packet(host.rig.arena.view);
  host.input = (link, frames, first) => {
    packet.frame = first;
    packet.at = frames.words[first * FRAME_WORDS + AT]!;
    packet.length_bytes = frames.words[first * FRAME_WORDS + LENGTH]!;
    packet.port = link.sinkIndex;
    packet.vlan = 1;
    app.take(packet, 2);
    app.take(packet, 2);
  };
  port('a').memory.arrive(PLAIN);
  host.loop.turn(0);
  t.equal(got('probe').length, 1, 'once');
});

await t.test('a full table loses copies, not frames', async t => {
  const { configure, host, port, app } = stage({ a: null, probe: null });
  configure(Array.from({ length: 30 }, () => ({ in: ['a'] })));
  for (let i = 0; i < 40; i++) port('a').memory.arrive(PLAIN);
  host.loop.turn(0);
  const lost = app.show('mirrors')!.sessions.reduce((sum, each) => sum + each.counters['dropNoRoom']!, 0);
  t.ok(lost > 0);
  t.equal(host.counters[SWITCH_COUNTERS.indexOf('mirroredFramesLost')], lost);
  t.equal(port('probe').memory.sent.length + lost, 40 * 30);
});
