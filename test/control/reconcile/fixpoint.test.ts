/**
 * From whatever state the world is in, carrying out plans comes to an end, and then what is is what was asked for.
 * The states are generated: any configuration, any leftovers of earlier ones, planes that know something else,
 * guests that run with old plans, tombstones. The simulator itself throws when a step is not safe (a guest started
 * twice, a disk that is not served, a volume destroyed while it is exported, one that is shrunk).
 */
import t from 'tap';
import fc from 'fast-check';
import { bootPlanOf } from '../../../control/reconcile/boot.js';
import { isActive } from '../../../control/reconcile/observed.js';
import { shouldRun, machineFact } from '../../../control/reconcile/desired.js';
import type { ObservedGuest } from '../../../control/vmm/host.js';
import { SOCKETS, World, guest } from './simulator.js';

const POOLS = ['p0', 'p1'];
const SWITCHES = ['s0', 's1', 's2'];
const VOLUMES = ['v0', 'v1', 'v2', 'v3', 'v4'];
const MACHINES = ['m0', 'm1', 'm2'];
const MIB = 2 ** 20;

const switchSpec = fc.record({
  ports: fc.constantFrom({}, { a: { loopback: true } }, { a: { tap: 't0' }, b: { loopback: true, vlan: 3 } }),
});
const volumeSpec = fc.record({
  pool: fc.constantFrom(...POOLS),
  size: fc.constantFrom('1MiB', '2MiB', '4MiB'),
  filled: fc.boolean(),
});
const machineSpec = fc.record({
  image: fc.constantFrom('tiny', 'kernel'),
  memory: fc.constantFrom('64MiB', '128MiB'),
  restart: fc.constantFrom('always', 'on-failure', 'never'),
  running: fc.boolean(),
  disks: fc.uniqueArray(fc.constantFrom(...VOLUMES), { maxLength: 2 }),
  nics: fc.array(fc.record({ switch: fc.constantFrom(...SWITCHES), vlan: fc.integer({ min: 1, max: 9 }) }), {
    maxLength: 2,
  }),
});

const scenario = fc.record({
  switches: fc.array(switchSpec, { minLength: 3, maxLength: 3 }),
  volumes: fc.array(volumeSpec, { minLength: 5, maxLength: 5 }),
  /** Two configurations: what was, and what is. */
  before: fc.array(machineSpec, { minLength: 3, maxLength: 3 }),
  after: fc.array(fc.option(machineSpec), { minLength: 3, maxLength: 3 }),
  exported: fc.subarray(VOLUMES),
  gone: fc.subarray(VOLUMES),
  destroy: fc.boolean(),
  /** What happened in between. */
  dataplaneForgot: fc.boolean(),
  storageForgot: fc.boolean(),
  imagesForgot: fc.boolean(),
  lost: fc.subarray(VOLUMES),
  half: fc.subarray(VOLUMES),
  ends: fc.array(fc.constantFrom('none', 'crashed', 'guest-poweroff', 'gone', 'paused'), {
    minLength: 3,
    maxLength: 3,
  }),
  intents: fc.array(fc.constantFrom(undefined, 'started', 'stopped'), { minLength: 3, maxLength: 3 }),
});
type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;

function disksOf(one: ObservedGuest): string[] {
  return isActive(one) ? (one.plan?.disks ?? []).map(disk => disk.nbdName) : [];
}

function addAll(world: World, { switches, volumes, exported }: Scenario): void {
  for (const pool of POOLS) world.add('pool', pool);
  for (const [index, spec] of switches.entries()) world.add('switch', SWITCHES[index]!, spec);
  world
    .add('image', 'tiny', { tiny: {} })
    .add('image', 'kernel', { kernel: '/k' })
    .add('image', 'disk', { disk: '/d' });
  for (const [index, { pool, size, filled }] of volumes.entries())
    world.add('volume', VOLUMES[index]!, { pool, size, ...(filled ? { image: 'disk' } : {}) });
  for (const volume of exported) world.add('export', volume, { volume, readOnly: true });
}

function addMachine(world: World, name: string, spec: Scenario['before'][number]): void {
  world.add('machine', name, { ...spec, disks: spec.disks.map(volume => ({ volume, readOnly: true })) });
}

function arrange(made: Scenario): World {
  const world = new World();
  addAll(world, made);
  for (const [index, spec] of made.before.entries()) addMachine(world, MACHINES[index]!, spec);
  world.settle();
  // Then the configuration changes …
  for (const [index, spec] of made.after.entries()) {
    const name = MACHINES[index]!;
    if (spec === null) world.bury(`machine/${name}`);
    else addMachine(world, name, spec);
    const intent = made.intents[index];
    if (intent !== undefined && spec !== null) world.facts.set(`machine/${name}`, { intent });
  }
  const used = new Set(made.after.flatMap(spec => spec?.disks ?? []));
  for (const volume of made.gone) {
    if (used.has(volume)) continue;
    if (world.resources.has(`export/${volume}`)) world.bury(`export/${volume}`);
    world.bury(`volume/${volume}`, made.destroy);
  }
  // … and the world does what it likes.
  if (made.dataplaneForgot) world.dataplane.config = { generation: -1, switches: [] };
  if (made.storageForgot) world.storage.config = { generation: -1, pools: [], exports: [] };
  if (made.imagesForgot) world.built.clear();
  for (const [index, { pool, filled }] of made.volumes.entries()) {
    const volume = VOLUMES[index]!;
    const inUse = [...world.guests.values()].some(
      one => isActive(one) && one.plan?.disks.some(disk => disk.nbdName === `${pool}/${volume}`),
    );
    if (inUse) continue;
    if (made.lost.includes(volume)) world.volumes.delete(`${pool}/${volume}`);
    else if (made.half.includes(volume) && filled)
      world.facts.set(`fill/${pool}/${volume}`, { state: 'filling', image: 'disk' });
  }
  for (const [index, end] of made.ends.entries()) {
    const name = MACHINES[index]!;
    const now = world.guests.get(name);
    if (!isActive(now)) continue;
    if (end === 'crashed') world.guests.set(name, { ...now, state: 'crashed', ended: 'crashed' });
    else if (end === 'guest-poweroff') world.guests.set(name, { ...now, state: 'stopped', ended: end });
    else if (end === 'gone') world.guests.set(name, guest(name));
    else if (end === 'paused') world.guests.set(name, { ...now, state: 'paused' });
  }
  return world;
}

// Seconds by itself; many, where others share its processors.
t.setTimeout(600_000);

await t.test('plans come to an end, and at the end all is as asked', async () => {
  fc.assert(
    fc.property(scenario, made => {
      const world = arrange(made);
      const { reports } = world.settle();
      const { desired, observed } = world;
      // A volume to be destroyed waits for a guest that runs on it, though the guest's spec does not name it any more.
      const used = new Set([...world.guests.values()].flatMap(disksOf));
      for (const [key, { name, written }] of world.tombstones)
        if (!used.has(`${(written as { pool?: string }).pool}/${name}`)) throw new Error(`left: ${key}`);
      for (const [key, report] of reports) {
        const name = key.slice(key.indexOf('/') + 1);
        const isFine =
          report.ready.status === 'True' ||
          ['PoweredOff', 'Crashed', 'Paused', 'Deleting'].includes(report.ready.reason);
        if (!isFine) throw new Error(`${key}: ${report.ready.reason}: ${report.ready.message}`);
        if (!key.startsWith('machine/')) continue;
        const spec = desired.specs.machine.get(name)!;
        const now = world.guests.get(name);
        const wanted = shouldRun(spec, machineFact(desired, name));
        if (!wanted && isActive(now)) throw new Error(`${name} runs unasked`);
        if (wanted && !isActive(now) && report.ready.status === 'True')
          throw new Error(`${name} does not run`);
        // What it runs with differs from its spec only where it says so.
        const plan = bootPlanOf(name, spec, desired, observed.images.get(spec.image ?? ''), SOCKETS);
        const same = JSON.stringify(plan) === JSON.stringify(now?.plan);
        if (isActive(now) && same !== (report.restartRequired?.status === 'False'))
          throw new Error(`${name}: ${report.restartRequired?.message}`);
      }
      for (const name of world.guests.keys())
        if (!desired.specs.machine.has(name)) throw new Error(`${name} is still there`);
      for (const [name, spec] of desired.specs.volume) {
        const volume = world.volumes.get(`${spec.pool}/${name}`);
        if (volume === undefined) throw new Error(`no volume ${name}`);
      }
      // Nothing of what was destroyed is left, and nothing else was destroyed.
      for (const [index, { pool }] of made.volumes.entries()) {
        const name = VOLUMES[index]!;
        if (desired.specs.volume.has(name)) continue;
        const isThere = world.volumes.has(`${pool}/${name}`);
        if (made.destroy && isThere && !used.has(`${pool}/${name}`))
          throw new Error(`${name} was to be destroyed`);
        if (!made.destroy && !isThere && !made.lost.includes(name)) throw new Error(`${name} was destroyed`);
      }
      const last = world.plan();
      if (last.actions.length > 0) throw new Error('still something to do');
      if (!last.planesHaveTheirs) throw new Error('a plane lacks something, and nobody tells it');
    }),
    { numRuns: 200 },
  );
});

await t.test('the same state plans the same, in whatever order it came to be', async t2 => {
  fc.assert(
    fc.property(scenario, fc.integer(), (made, seed) => {
      const world = arrange(made);
      const planned = JSON.stringify(world.plan().configs);
      const shuffled = [...world.resources].sort(
        ([a], [b]) => hash(a, seed) - hash(b, seed) || (a < b ? -1 : 1),
      );
      world.resources.clear();
      for (const [key, resource] of shuffled) world.resources.set(key, resource);
      const guests = [...world.guests].reverse();
      world.guests.clear();
      for (const [name, one] of guests) world.guests.set(name, one);
      if (JSON.stringify(world.plan().configs) !== planned) throw new Error('another configuration');
    }),
    { numRuns: 100 },
  );
  t2.pass();
});

function hash(text: string, seed: number): number {
  let value = seed;
  for (const character of text) value = Math.imul(value ^ character.charCodeAt(0), 0x01000193);
  return value;
}

await t.test('a thousand machines are planned quickly enough to do it often', async t => {
  const world = new World().add('switch', 'lan').add('pool', 'main').add('image', 'k', { kernel: '/k' });
  for (let i = 0; i < 1000; i++) {
    world.add('volume', `v${i}`, { pool: 'main', size: `${4 * MIB}B` });
    world.add('machine', `m${i}`, { image: 'k', disks: [{ volume: `v${i}` }], nics: [{ switch: 'lan' }] });
  }
  world.settle(3000);
  const { observed, desired } = world;
  t.equal(desired.specs.machine.size, 1000);
  // Told, not judged: how long it takes is the machine's business.
  world.planFor(desired, observed);
  const began = process.hrtime.bigint();
  let turnCount = 0;
  for (; turnCount < 5; turnCount++) t.equal(world.planFor(desired, observed).actions.length, 0);
  const each_ms = Number(process.hrtime.bigint() - began) / 1e6 / turnCount;
  t.comment(`${each_ms.toFixed(1)} ms for a plan of ${observed.guests.size} machines`);
});
