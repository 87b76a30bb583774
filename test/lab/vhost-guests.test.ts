/**
 * Guests on vhost-user cards: TCP between them by shared memory, with the plane killed under it.
 *
 *     alice (2 pairs of queues, 2 CPUs)        bob (1 pair)        carol (transport: stream)
 *     10.0.10.1                                10.0.10.2           10.0.10.3
 *          +------------------- switch "lan", VLAN 10 ------------------+
 *
 * What arrived is asked of the guests themselves (on their consoles), how it travelled of the plane's counters.
 *
 * lab: guests
 */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import type { DataplaneStatus, PortStatus } from '../../dataplane/contract.js';
import { FABRIC_NEEDS, Fabric } from './harness/fabric.js';
import { askJson } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually } from './harness/processes.js';

t.setTimeout(900_000);

const CONFIG = `
switch:
  lan: {}
image:
  tiny: { tiny: {} }
machine:
  alice:
    { image: tiny, cpus: 2, memory: 128MiB, cmdline: weft.address=10.0.10.1/24 weft.peers=10.0.10.2, nics: [{ switch: lan, vlan: 10, queues: 2 }] }
  bob:
    { image: tiny, memory: 128MiB, cmdline: weft.address=10.0.10.2/24 weft.peers=10.0.10.1, nics: [{ switch: lan, vlan: 10 }] }
  carol:
    { image: tiny, memory: 128MiB, cmdline: weft.address=10.0.10.3/24 weft.peers=10.0.10.1, nics: [{ switch: lan, vlan: 10, transport: stream }] }
`;
const NAMES = ['alice', 'bob', 'carol'] as const;
type Name = (typeof NAMES)[number];
const ADDRESS = { alice: '10.0.10.1', bob: '10.0.10.2', carol: '10.0.10.3' } as const;
const MIB = 2 ** 20;

await t.test('guests on vhost-user cards', { skip: missing(FABRIC_NEEDS) }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const fabric = new Fabric(lab);
  const config = lab.path('vhost.yaml');
  writeFileSync(config, CONFIG);
  let port = 5000;

  const ports = async (): Promise<Record<string, PortStatus>> => {
    const socket = `${fabric.state}/run/dataplane.sock`;
    const status = await askJson<DataplaneStatus>(socket, 'GET', '/status');
    return Object.fromEntries(status.switches[0]!.ports.map(one => [one.name.split('.')[0], one]));
  };

  /** So much TCP from one to the other; the receiver says how much came. */
  const pour = async (from: Name, to: Name, size_MiB: number, meanwhile = async () => {}): Promise<void> => {
    port++;
    const mark = fabric.guest(to).mark();
    const fact = String.raw`WEFT {\"fact\":\"poured\",\"port\":${port},\"bytes\":`;
    await fabric.type(to, `n=$(nc -l -p ${port} | wc -c); echo; echo "${fact}$n}"`);
    // The listener may be a moment later than the sender: it asks again.
    await fabric.type(
      from,
      `for i in 1 2 3 4 5; do dd if=/dev/zero bs=64k count=${size_MiB * 16} 2>/dev/null | nc ${ADDRESS[to]} ${port} && break; sleep 1; done`,
    );
    await meanwhile();
    const poured = await fabric
      .guest(to)
      .waitFor(`what came from ${from}`, fact => fact.fact === 'poured' && fact['port'] === port, {
        from: mark,
        timeout_ms: 100_000,
      });
    t.equal(poured['bytes'], size_MiB * MIB, `${size_MiB} MiB from ${from} to ${to}`);
  };

  await fabric.up(config);
  for (const [name, peer] of [
    ['alice', 'bob'],
    ['bob', 'alice'],
    ['carol', 'alice'],
  ] as const)
    await fabric
      .guest(name)
      .waitFor(
        `that it reaches ${peer}`,
        fact => fact.fact === 'ping' && fact['peer'] === ADDRESS[peer] && fact['reached'] === true,
      );
  // Facts in between would come into the middle of what is said on the console.
  for (const name of NAMES) await fabric.type(name, 'quiet');
  const boots = NAMES.map(name => fabric.guest(name).said('boot').length);
  const at = await ports();
  t.same(
    [at['alice']?.kind, at['bob']?.kind, at['carol']?.kind],
    ['vhost', 'vhost', 'stream'],
    'cards are what they were asked to be',
  );

  await t.test('TCP both ways goes by super-frames, uncut', async t => {
    const before = await ports();
    await pour('alice', 'bob', 32);
    await pour('bob', 'alice', 32);
    const after = await ports();
    for (const name of ['alice', 'bob'] as const) {
      const grown = (counter: string): number =>
        after[name]!.counters[counter]! - before[name]!.counters[counter]!;
      t.ok(grown('gsoInFrames') > 100, `${name} sent ${grown('gsoInFrames')} super-frames`);
      t.ok(grown('gsoOutFrames') > 100, `${name} was given ${grown('gsoOutFrames')} whole`);
      t.equal(grown('gsoSegmentedFrames'), 0, 'none was cut');
      t.equal(grown('ringFaults'), 0);
    }
  });

  await t.test('to a guest whose card takes none they are cut', async t => {
    const before = await ports();
    await pour('alice', 'carol', 8);
    await pour('carol', 'alice', 8);
    const cut = (all: Record<string, PortStatus>): number =>
      all['carol']!.counters['gsoSegmentedFrames'] ?? 0;
    const after = await ports();
    t.ok(cut(after) > cut(before), `${cut(after) - cut(before)} super-frames were cut`);
  });

  await t.test('the plane is killed three times under TCP: it is late, not lost', async t => {
    const killPlane = async (): Promise<void> => {
      for (let i = 0; i < 3; i++) {
        const { dataplane } = await fabric.pids();
        process.kill(dataplane!, 'SIGKILL');
        await eventually('another plane with all its ports', async () => {
          const pid = (await fabric.pids().catch(() => null))?.['dataplane'];
          if (pid === null || pid === undefined || pid === dataplane) return null;
          const now = await ports().catch(() => null);
          return now !== null && NAMES.every(name => now[name]?.state === 'up') ? true : null;
        });
      }
    };
    await pour('alice', 'bob', 64, killPlane);
    await pour('bob', 'alice', 4);
    t.same(
      NAMES.map(name => fabric.guest(name).said('boot').length),
      boots,
      'no guest was started anew',
    );
  });

  await t.test('QEMU is killed, the plane lives: the card comes back with the guest', async t => {
    const before = await fabric.pids();
    const mark = fabric.guest('alice').mark();
    process.kill(before['bob']!, 'SIGKILL');
    await eventually('bob to be started again', async () => {
      const pid = (await fabric.pids())['bob'];
      return pid !== null && pid !== before['bob'] ? true : null;
    });
    await fabric.settled(120_000);
    await fabric
      .guest('bob')
      .waitFor('that it reaches alice', fact => fact.fact === 'ping' && fact['reached'] === true);
    t.equal((await fabric.pids())['dataplane'], before['dataplane']);
    t.ok(fabric.guest('alice').mark() >= mark);
    await fabric.type('bob', 'quiet');
    await pour('alice', 'bob', 4);
  });
  await fabric.down();
});
