/**
 * What weft records, tshark reads: a pcap port of the switch, and a capture taken over HTTP.
 *
 *   a [tapA]---- switch ----[tapB] b
 *                  |  \---- recorder: trunk, into recorder.pcapng
 *                  \------- GET /switches/lan/capture
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { Capture, readFrames, textOf } from './harness/capture.js';
import type { SeenFrame } from './harness/capture.js';
import { BROADCAST, frame } from './harness/frames.js';
import { askBytes } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually } from './harness/processes.js';
import { sendFrames } from './harness/sender.js';
import { Dataplane, switchOf } from './harness/weft.js';

t.setTimeout(600_000);

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

const told = (seen: SeenFrame): string => [textOf(seen), ...seen.vlans].join(' ');

await t.test('recordings hold the frames that passed, with their tags', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('switch');
  const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const recorder = lab.path('recorder.pcapng');
  await plane.configure([
    switchOf('lan', [
      { name: 'a', vlan: { mode: 'access', vlan: 10 }, device: { kind: 'tap', ifname: 'tapA' } },
      { name: 'b', vlan: { mode: 'access', vlan: 10 }, device: { kind: 'tap', ifname: 'tapB' } },
      {
        name: 'recorder',
        vlan: { mode: 'trunk', allowed: [[1, 4094]], native: null },
        device: { kind: 'pcap', path: recorder },
      },
    ]),
  ]);
  for (const [room, ifname] of [
    [a, 'tapA'],
    [b, 'tapB'],
  ] as const) {
    await inside.moveLink(ifname, room);
    await room.up(ifname);
  }

  const texts = Array.from({ length: 20 }, (_none, i) => `frame ${i}`);
  const arrival = await Capture.start(lab, b, 'tapB');
  const captured = askBytes(plane.socket, `/switches/lan/capture?port=b&count=${texts.length}`);
  await captured.begun;
  await sendFrames(
    a,
    'tapA',
    texts.map(payload => frame({ to: BROADCAST, from: '02:00:00:00:00:0a', payload, length_bytes: 1514 })),
  );
  await arrival.waitFor(texts.at(-1)!);

  const path = lab.path('capture.pcapng');
  writeFileSync(path, await captured.bytes);
  t.same((await readFrames(path)).map(told), texts, 'over HTTP, as they went out of port b: without tag');

  const recorded = await eventually('the recorder to have all', async () => {
    const frames = await readFrames(recorder).catch(() => []);
    return frames.length >= texts.length ? frames : null;
  });
  t.same(
    recorded.map(told),
    texts.map(text => `${text} 10`),
    'by the recorder on a trunk: with its tag',
  );
  t.same((await arrival.frames()).map(told), texts);
});
