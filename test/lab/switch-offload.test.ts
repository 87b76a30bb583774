/**
 * Bytes that arrive are the bytes that were sent, whatever the kernel leaves for others to finish: segments of
 * 64 KB and checksums not yet made (a tap with IFF_VNET_HDR) must be cut and completed before a port that
 * cannot take them (a stream, as QEMU speaks it).
 *
 *   direct:    a [tapA]---- switch ----[tapB] b
 *   by stream: a [tapA]---- switch 1 ---unix socket--- switch 2 ----[tapB] b
 *
 * The judge is the kernel's TCP and UDP in b: it drops what has a wrong checksum, and counts it.
 *
 * lab: alone (it counts what the kernel forwarded).
 */
import t from 'tap';
import { fileURLToPath } from 'node:url';
import type { PortConfig } from '../../dataplane/contract.js';
import { Capture } from './harness/capture.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import type { Namespace } from './harness/network.js';
import type { RunningProgram } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({
  root: true,
  programs: ['ip', 'nsenter', 'ethtool', 'tcpdump', 'tshark'],
  paths: ['/dev/net/tun'],
});

const POUR = fileURLToPath(new URL('./harness/pour.js', import.meta.url));
const PORT = 7000;
const TCP_BYTES = 16 * 1024 * 1024;
const MTU_BYTES = 1500;
const ETHERNET_HEADER_BYTES = 14;

const ADDRESSES = { a: ['10.98.0.1', 'fd98::1'], b: ['10.98.0.2', 'fd98::2'] } as const;

const port = (name: string, device: PortConfig['device']): PortConfig => ({
  name,
  vlan: { mode: 'access', vlan: 1 },
  device,
});

interface Ends {
  readonly lab: Lab;
  readonly a: Namespace;
  readonly b: Namespace;
}

async function direct(lab: Lab, inside: Namespace): Promise<void> {
  const plane = await Dataplane.start(lab, { netns: inside.path });
  const taps = ['tapA', 'tapB'].map(ifname => port(ifname, { kind: 'tap', ifname }));
  // The kernel would forward these flows by itself, and segments uncut whatever the taps are told: see offload.test.ts.
  await plane.configure([{ ...switchOf('lan', taps), offload: { mode: 'off' } }]);
}

async function byStream(lab: Lab, inside: Namespace): Promise<void> {
  const path = lab.path('between.sock');
  for (const [ifname, role] of [
    ['tapA', 'listen'],
    ['tapB', 'connect'],
  ] as const) {
    const socket = lab.path(`${ifname}.sock`);
    const plane = await Dataplane.start(lab, { netns: inside.path, socket });
    const ports = [port(ifname, { kind: 'tap', ifname }), port('between', { kind: 'stream', path, role })];
    await plane.configure([switchOf('lan', ports)]);
  }
}

async function wire(lab: Lab, join: (lab: Lab, inside: Namespace) => Promise<void>): Promise<Ends> {
  const inside = await lab.namespace('switch');
  const [a, b] = [await lab.namespace('a', { ipv6: true }), await lab.namespace('b', { ipv6: true })];
  await join(lab, inside);
  for (const [room, ifname, addresses] of [
    [a, 'tapA', ADDRESSES.a],
    [b, 'tapB', ADDRESSES.b],
  ] as const) {
    await inside.moveLink(ifname, room);
    await room.up(ifname, ...addresses.map(address => address + (address.includes(':') ? '/64' : '/24')));
  }
  return { lab, a, b };
}

interface Poured {
  readonly bytes: number;
  readonly sha256: string;
}

/** What the source says that it sent and what the sink says that it got. */
async function pourTcp(source: Namespace, sink: Namespace, address: string): Promise<[Poured, Poured]> {
  const server = await listen(sink);
  const client = [process.execPath, POUR, 'tcp', address, String(PORT), String(TCP_BYTES)];
  const sent = JSON.parse((await source.run(client)).stdout) as Poured;
  const got = await server.waitForOutput(stdout => stdout.split('\n')[1] || null);
  await server.stop();
  return [sent, JSON.parse(got) as Poured];
}

async function listen(sink: Namespace): Promise<RunningProgram> {
  const server = sink.start([process.execPath, POUR, 'listen', String(PORT)]);
  await server.waitForOutput(stdout => (stdout.includes('\n') ? true : null));
  return server;
}

const OFFLOADS = { on: [], off: ['tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off'] } as const;

for (const [way, join] of Object.entries({ direct, 'by stream': byStream })) {
  for (const [offloads, settings] of Object.entries(OFFLOADS)) {
    await t.test(`${way}, offloads of the kernel ${offloads}`, { skip }, async t => {
      const lab = Lab.open();
      t.teardown(() => lab.close());
      const { a, b } = await wire(lab, join);
      if (settings.length > 0) {
        await a.run(['ethtool', '--offload', 'tapA', ...settings]);
        await b.run(['ethtool', '--offload', 'tapB', ...settings]);
      }
      const capture = await Capture.start(lab, b, 'tapB', `greater ${ETHERNET_HEADER_BYTES + MTU_BYTES + 1}`);

      for (const [source, sink, addresses] of [
        [a, b, ADDRESSES.b],
        [b, a, ADDRESSES.a],
      ] as const) {
        for (const address of addresses) {
          const [sent, got] = await pourTcp(source, sink, address);
          t.same(got, sent, `${TCP_BYTES} bytes of TCP to ${address}`);
          const server = await listen(sink);
          const client = [process.execPath, POUR, 'udp', address, String(PORT), '200', '1400'];
          const { stdout } = await source.run(client);
          t.same(JSON.parse(stdout), { right: 200, wrong: 0, lost: 0 }, `200 datagrams to ${address}`);
          await server.stop();
        }
      }
      for (const room of [a, b]) {
        for (const protocol of ['Tcp', 'Udp']) {
          t.equal(
            room.snmp(protocol, 'InCsumErrors'),
            0,
            `no wrong ${protocol} checksum came to ${room.label}`,
          );
        }
      }
      const large = (await capture.frames()).length;
      // From tap to tap a frame beyond the MTU is a gift: nothing on the way needed it cut.
      if (way === 'direct' && offloads === 'on') t.not(large, 0, 'segments pass uncut from tap to tap');
      else t.equal(large, 0, 'no frame is larger than the MTU');
    });
  }
}
// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);
