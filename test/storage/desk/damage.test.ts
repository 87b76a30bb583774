/** A damaged pool as clients and the control plane meet it: what is served, in which words, and how it is mended. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import { RepairReport } from '../../../storage/contract.js';
import { NetClient } from '../nbd/netClient.js';
import { Plane, eventually } from '../plane.js';

const MiB = 1024 * 1024;
const EIO = 5;
const EPERM = 1;

const block = (byte: number): Buffer => Buffer.alloc(4096, byte);

/** Where the layers of the pool lie, the one that was made last at the end. */
function layers(plane: Plane): string[] {
  const home = plane.path('pool/layers');
  const made = (name: string): number =>
    Number(fs.statSync(path.join(home, name, 'data'), { bigint: true }).birthtimeNs / 1000n);
  return fs
    .readdirSync(home)
    .sort((a, b) => made(a) - made(b))
    .map(name => path.join(home, name));
}

async function ended(plane: Plane): Promise<void> {
  plane.child.kill('SIGTERM');
  await plane.exit();
}

/** Extents as another client sees them. */
function mapOf(plane: Plane, name: string): { offset: number; length: number; type: number }[] {
  const { stdout } = spawnSync('nbdinfo', ['--map', '--json', plane.uri(name)], { encoding: 'utf8' });
  return JSON.parse(stdout) as { offset: number; length: number; type: number }[];
}

async function connect(plane: Plane, name: string): Promise<NetClient> {
  return NetClient.connect({ path: plane.path('nbd.sock') }, name);
}

void t.test('a catalogue that lost a line: volumes are read-only, until weft pool repair', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v'), plane.unix('w')]);
  for (const name of ['v', 'w']) await plane.volume(name, 8 * MiB);
  const client = await connect(plane, 'v');
  t.equal(await client.write(0, block(7)), 0);
  await client.disconnect();
  await ended(plane);
  const file = plane.path('pool/catalog');
  fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('"name":"v"', '"name":"x"'));
  await plane.launch();
  await plane.configure([plane.unix('v'), plane.unix('w')]);
  const { pools, volumes } = await plane.status();
  t.match(pools, [{ state: 'open', problems: [/line 2 is damaged.*weft pool repair/] }]);
  t.match(
    volumes.map(({ name, state, reason }) => ({ name, state, reason })),
    [
      { name: 'v', state: 'damaged', reason: /read-only/ },
      { name: 'w', state: 'damaged', reason: /read-only/ },
    ],
  );
  const reader = await connect(plane, 'v');
  t.ok((await reader.read(0, 4096)).equals(block(7)), 'its record was found again');
  t.equal(await reader.write(0, block(8)), EPERM);
  t.match(await plane.volume('z', MiB), { status: 500, body: { error: { code: 'POOL_DAMAGED' } } });
  const ask = (body: object, pool = 'p') => plane.ask('POST', `/pools/${pool}/repair`, body);
  const planned = RepairReport.parse((await ask({ dryRun: true })).body);
  t.match(planned, { found: [/line 2 is damaged/], actions: [/written anew: 2 volumes/] });
  t.match(await ask({}), { status: 409, body: { error: { code: 'VOLUME_EXPORTED' } } }, 'not under a client');
  await reader.disconnect();
  await eventually('nobody is connected', async () =>
    (await plane.status()).exports.every(one => one.connectionCount === 0),
  );
  t.match(await ask({}), { status: 200, body: planned });
  t.match((await plane.status()).pools, [{ state: 'open', problems: [] }]);
  const writer = await connect(plane, 'v');
  t.ok((await writer.read(0, 4096)).equals(block(7)));
  t.equal(await writer.write(0, block(8)), 0, 'as before');
  t.match(await ask({}), { status: 200, body: { found: [], actions: [] } }, 'nothing to do disturbs nobody');
  t.equal(await writer.write(0, block(9)), 0);
  await writer.disconnect();
  t.match(await ask({}, 'other'), { status: 404, body: { error: { code: 'POOL_UNKNOWN' } } });
  t.match(await ask({ force: true }), { status: 400 });
});

const LOSSES: Record<string, (layer: string) => void> = {
  'its directory': layer => fs.rmSync(layer, { recursive: true }),
  'its data': layer => fs.rmSync(path.join(layer, 'data')),
  'the end of its data': layer => fs.truncateSync(path.join(layer, 'data'), MiB),
  'its map': layer => fs.rmSync(path.join(layer, 'map')),
  'the end of its map': layer => fs.truncateSync(path.join(layer, 'map'), 4096),
};

void t.test('a part of a snapshot is lost: what is above it is served, what it held is EIO', async t => {
  const hasNbdinfo = spawnSync('nbdinfo', ['--version']).status === 0;
  if (!hasNbdinfo) await t.test('block status', { skip: 'nbdinfo is not installed' }, () => undefined);
  const plane = await Plane.start(t);
  const losses = Object.entries(LOSSES).map(([what, lose], i) => ({
    what,
    lose,
    name: `v${i}`,
    checksums: true,
  }));
  const lose = LOSSES['the end of its data']!;
  losses.push({ what: 'the end of a plain one', lose, name: 'plain', checksums: false });
  const exports = losses.map(({ name }) => plane.unix(name));
  await plane.configure(exports);
  for (const { name, checksums } of losses) {
    await plane.ask('PUT', `/pools/p/volumes/${name}`, { size_bytes: 8 * MiB, checksums });
    const client = await connect(plane, name);
    await client.write(4 * MiB, block(1));
    await plane.ask('POST', '/snapshots', { name: 's', volumes: [{ pool: 'p', volume: name }] });
    await client.write(0, block(2));
    await client.disconnect();
  }
  await ended(plane);
  // Two layers each.
  const made = layers(plane);
  losses.forEach(({ lose }, i) => lose(made[2 * i]!));
  await plane.launch();
  await plane.configure(exports);
  for (const { what, name } of losses) {
    const reader = await connect(plane, name);
    t.ok((await reader.read(0, 4096)).equals(block(2)), what);
    await t.rejects(reader.read(4 * MiB, 4096), { message: new RegExp(`\\b${EIO}\\b|EIO`) }, what);
    t.equal(await reader.write(0, block(3)), EPERM, what);
    await reader.disconnect();
    if (hasNbdinfo) {
      const told = mapOf(plane, name).find(
        ({ offset, length }) => offset <= 4 * MiB && 4 * MiB < offset + length,
      );
      t.equal(told?.type, 0, `${what}: what is lost is told to be data, not zeroes`);
    }
    const seen = (await plane.status()).volumes.find(one => one.name === name);
    t.match(seen, { state: 'damaged', reason: /(missing|lost).*EIO/ }, what);
    const snapshot = { name: 't', volumes: [{ pool: 'p', volume: name }] };
    const refused = { status: 500, body: { error: { code: 'VOLUME_DAMAGED' } } };
    t.match(await plane.ask('POST', '/snapshots', snapshot), refused, what);
  }
  await plane.configure([]);
  for (const { name } of losses)
    t.match(await plane.ask('DELETE', `/pools/p/volumes/${name}?snapshots=true`), { status: 200 });
});

void t.test('one pool under two names, and a copy beside it', async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 8 * MiB);
  await ended(plane);
  fs.cpSync(plane.path('pool'), plane.path('copy'), { recursive: true });
  fs.symlinkSync(plane.path('pool'), plane.path('link'));
  await plane.launch();
  const place = (name: string, directory: string) => ({ name, directory: plane.path(directory) });
  await plane.configure([plane.unix('v')], [place('p', 'pool'), place('l', 'link'), place('c', 'copy')]);
  const { pools } = await plane.status();
  t.match(pools, [
    { name: 'p', state: 'open' },
    { name: 'l', state: 'error', reason: /is the directory of pool p too/ },
    { name: 'c', state: 'error', reason: /copy of pool p.*weft pool repair c --new-identity/ },
  ]);
  t.match(await plane.ask('POST', '/pools/c/repair', { newIdentity: true }), {
    status: 200,
    body: { actions: ['the pool gets a new identity'] },
  });
  const mended = (await plane.status()).pools;
  t.match(mended, [
    { name: 'p', state: 'open' },
    { name: 'l' },
    { name: 'c', state: 'open', volumeCount: 1 },
  ]);
});

void t.test(
  'names of volumes and snapshots that are no names are refused in words, and nothing is made',
  async t => {
    const plane = await Plane.start(t);
    await plane.configure([plane.unix('v')]);
    await plane.volume('v', 8 * MiB);
    const bad = [
      '..',
      '.',
      '%2e%2e',
      '..%2fx',
      'a%00b',
      'a%0ab',
      'a%20b',
      'u%cc%88',
      '%c3%bc',
      '-x',
      '.x',
      'x'.repeat(4096),
      '%ef%bb%bfx',
      'a%e2%80%aeb',
    ];
    for (const name of bad) {
      const made = await plane.ask('PUT', `/pools/p/volumes/${name}`, { size_bytes: MiB });
      t.ok(
        [400, 404, 405].includes(made.status),
        `${name.slice(0, 20)}: ${JSON.stringify(made.body).slice(0, 80)}`,
      );
      const renamed = await plane.ask('POST', '/pools/p/volumes/v/rename', { to: decodeURIComponent(name) });
      t.ok([400, 409].includes(renamed.status), `to ${name.slice(0, 20)}`);
      const body = { name: decodeURIComponent(name), volumes: [{ pool: 'p', volume: 'v' }] };
      t.equal((await plane.ask('POST', '/snapshots', body)).status, 400, `snapshot ${name.slice(0, 20)}`);
    }
    t.match((await plane.ask('PUT', '/pools/p/volumes/%ff', { size_bytes: MiB })).status, 400);
    const { volumes } = await plane.status();
    t.match(volumes, [{ name: 'v', snapshots: [] }]);
    t.equal(volumes.length, 1);
    t.equal(layers(plane).length, 1);
  },
);
