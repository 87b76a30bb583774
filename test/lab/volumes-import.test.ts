/**
 * `weft volume import` and `export` against all of weft: what goes in comes out, and whatever is killed or full on the way
 * leaves nothing behind.
 *
 *   image files <--- qemu-img, run by weft ---lease---> weft-storage --- pool "main"
 *                                                 \
 *                                                  weftd, which lends the volume and takes it back
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { StorageStatus } from '../../storage/contract.js';
import type { WeftEvent } from '../../control/api/contract.js';
import { Fabric, WEFT } from './harness/fabric.js';
import { askJson } from './harness/http.js';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, killSync, run } from './harness/processes.js';

t.setTimeout(600_000);

const MIB = 2 ** 20;
const SIZE_BYTES = 64 * MIB;
const skip = missing({ programs: ['qemu-img', 'qemu-io'] });

const sum = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

class House {
  readonly lab: Lab;
  readonly fabric: Fabric;

  private constructor(lab: Lab) {
    this.lab = lab;
    this.fabric = new Fabric(lab);
  }

  static async open(t: Test): Promise<House> {
    const lab = Lab.open('/var/tmp');
    t.teardown(() => lab.close());
    const house = new House(lab);
    writeFileSync(lab.path('weft.yaml'), 'pool: { main: {} }\n');
    await house.fabric.up(lab.path('weft.yaml'));
    return house;
  }

  get #storage(): string {
    return join(this.fabric.state, 'run', 'storage.sock');
  }

  /** Names of volumes and snapshots that are there. */
  async names(): Promise<string[]> {
    const { volumes } = await askJson<StorageStatus>(this.#storage, 'GET', '/status');
    const names = volumes.flatMap(({ name, snapshots = [] }) => [
      name,
      ...snapshots.map(one => `${name}@${one.name}`),
    ]);
    return names.toSorted();
  }

  async becomes(what: string, names: readonly string[]): Promise<void> {
    let seen: readonly string[] | null = null;
    await eventually(`${what}: ${names.join(', ')}`, async () => {
      seen = await this.names().catch(() => null);
      return JSON.stringify(seen) === JSON.stringify(names) ? true : null;
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}; there are ${JSON.stringify(seen)}`, { cause: error });
    });
  }

  /** A volume that is as random as its seed, and half empty. */
  image(name: string): string {
    const path = this.lab.path(name);
    const content = Buffer.alloc(SIZE_BYTES);
    for (let at = 0; at < SIZE_BYTES; at += 8 * MIB) randomBytes(4 * MIB).copy(content, at);
    writeFileSync(path, content);
    return path;
  }

  /** As a program of its own, which can be killed; slowed down, so that it is caught in the middle. */
  importing(image: string, ...more: string[]) {
    return this.lab.start([
      process.execPath,
      WEFT,
      '--state',
      this.fabric.state,
      'volume',
      'import',
      image,
      ...more,
    ]);
  }
}

await t.test('there and back', { skip }, async t => {
  const house = await House.open(t);
  const { lab, fabric } = house;
  const image = house.image('in.raw');
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', '-c', image, lab.path('in.qcow2')]);
  await fabric.weft(['volume', 'import', lab.path('in.qcow2'), 'main/web']);
  t.same(await house.names(), ['web']);
  // The others are in test/cli/transfer.
  for (const format of ['raw', 'ova']) {
    const out = lab.path(`out.${format}`);
    await fabric.weft(['volume', 'export', 'main/web', out]);
    await fabric.weft(['volume', 'import', out, `main/of-${format}`]);
    const back = lab.path('back.raw');
    await fabric.weft(['volume', 'export', `main/of-${format}`, back, '--force']);
    t.equal(sum(back), sum(image), format);
  }
  await fabric.weft(['volume', 'import', lab.path('in.qcow2'), 'main/large', '--size', '96MiB']);
  await house.becomes('no snapshot is left', ['large', 'of-ova', 'of-raw', 'web']);

  // Over what is there: all of it is the new one.
  const other = house.image('other.raw');
  t.equal((await fabric.weft(['volume', 'import', other, 'main/web'], { mayFail: true })).status, 2);
  await fabric.weft(['volume', 'import', other, 'main/web', '--overwrite']);
  await fabric.weft(['volume', 'export', 'main/web', lab.path('back.raw'), '--force']);
  t.equal(sum(lab.path('back.raw')), sum(other));
  await fabric.down();
});

await t.test('whatever is killed on the way', { skip }, async t => {
  const house = await House.open(t);
  const { lab, fabric } = house;
  const image = house.image('in.raw');
  await fabric.weft(['volume', 'import', image, 'main/kept']);
  const other = house.image('other.raw');
  const keptIs = async (what: string): Promise<void> => {
    await fabric.weft(['volume', 'export', 'main/kept', lab.path('back.raw'), '--force']);
    t.equal(sum(lab.path('back.raw')), sum(image), what);
  };
  const begun = async (): Promise<true> =>
    eventually('the import to have begun', async () =>
      (await house.names()).some(name => /import\./.test(name)) ? true : null,
    );
  for (const [how, more] of [
    ['a new volume', ['main/new']],
    ['over another', ['main/kept', '--overwrite']],
  ] as const) {
    const client = house.importing(other, ...more);
    await begun();
    client.signal('SIGKILL');
    await client.ended;
    await house.becomes(`the client was killed, ${how}`, ['kept']);
    // Ctrl-C and a restart of weftd are the same in both.
    if (how === 'over another') continue;
    const polite = house.importing(other, ...more);
    await begun();
    polite.signal('SIGINT');
    t.equal((await polite.ended).status, 130);
    await house.becomes(`Ctrl-C, ${how}`, ['kept']);
    const orphan = house.importing(other, ...more);
    await begun();
    killSync((await fabric.status()).pid);
    t.equal((await orphan.ended).status, 1, 'weftd was killed: the client says so');
    await fabric.weft(['up']);
    await house.becomes(`the next weftd tidies, ${how}`, ['kept']);
    const torn = house.importing(other, ...more);
    await begun();
    killSync((await fabric.pids())['storage'] ?? 0);
    t.equal((await torn.ended).status, 1, 'weft-storage was killed');
    await fabric.settled();
    await house.becomes(`weft-storage was killed, ${how}`, ['kept']);
  }
  await keptIs('what was there is as it was');
  const { events } = await askJson<{ events: WeftEvent[] }>(fabric.socket, 'GET', '/v1/events?follow=false');
  t.ok(events.some(({ reason }) => reason === 'Transfer'));
  await fabric.down();
});

await t.test('no room for an export', { skip: missing({ root: true, programs: ['qemu-img'] }) }, async t => {
  const house = await House.open(t);
  const { lab, fabric } = house;
  await fabric.weft(['volume', 'import', house.image('in.raw'), 'main/web']);
  const small = await lab.tmpfs(8 * MIB);
  for (const format of ['raw', 'ova']) {
    const full = await fabric.weft(['volume', 'export', 'main/web', join(small, `x.${format}`)], {
      mayFail: true,
    });
    t.equal(full.status, 1);
    // QEMU 7.2 says it so of a compressed VMDK whose last part had no room.
    t.match(full.stderr, /No space left|ENOSPC|error while writing at byte/i);
    t.same(readdirSync(small), [], 'nothing is left of it');
  }
  await house.becomes('no snapshot is left', ['web']);
  await fabric.down();
});
