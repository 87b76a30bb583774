/** The `weft` command, a real weftd and a real qemu-img; only the storage plane is of straw, with nbdkit behind its leases. */
import t from 'tap';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Bench } from '../../control/api/bench.js';
import { missing } from '../../lab/harness/needs.js';
import { eventually } from '../../lab/harness/processes.js';
import { runCli } from '../fakeApi.js';
import { isListening } from '../../listening.js';

t.setTimeout(600_000);

const MIB = 2 ** 20;
const WEFT = fileURLToPath(new URL('../../../../bin/weft.js', import.meta.url));
const skip = missing({ programs: ['qemu-img', 'qemu-io', 'nbdkit'] });
const sum = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

await t.test('import, export, and a client that is killed', { skip }, async t => {
  const bench = await Bench.make(t);
  const { directory } = bench;
  const { stored } = bench.storage;
  mkdirSync(`${directory}/run/fill`, { recursive: true });
  await bench.apply('pool: { main: {} }');
  await bench.settled();
  const servers = new Map<string, ChildProcess>();
  t.teardown(() => servers.forEach(server => void server.kill('SIGKILL')));
  // One file for all volumes: what is imported is what is exported.
  const volume = `${directory}/volume`;
  let slow = false;
  stored.onLease = (name, lease) => {
    servers.get(name)?.kill('SIGKILL');
    servers.delete(name);
    if (lease === null) return;
    rmSync(lease.path, { force: true });
    if (!existsSync(volume)) writeFileSync(volume, Buffer.alloc(8 * MIB));
    const how = slow ? ['--filter=delay', 'file', volume, 'delay-write=500ms'] : ['file', volume];
    servers.set(name, spawn('nbdkit', ['-f', '-U', lease.path, ...how], { stdio: 'ignore' }));
    // The answer must not come before the socket is there, as it does not of the real one.
    for (let i = 0; i < 2000 && !isListening(lease.path); i++) spawnSync('sleep', ['0.02']);
  };
  const weft = (...words: string[]) => runCli(words, { state: directory });
  const image = `${directory}/in.raw`;
  writeFileSync(image, randomBytes(8 * MIB));
  const imported = await weft('volume', 'import', image, 'main/web');
  t.equal(imported.code, 0, imported.stderr);
  t.same([...stored.volumes.keys()], ['main/web']);
  t.equal(sum(volume), sum(image));
  const exported = await weft('volume', 'export', 'main/web', `${directory}/out.raw`);
  t.equal(exported.code, 0, exported.stderr);
  t.equal(sum(`${directory}/out.raw`), sum(image));
  await bench.until(
    'the snapshot to be gone',
    async () => stored.volumes.get('main/web')?.snapshots?.length === 0,
  );
  t.equal((await weft('volume', 'import', image, 'main/web')).code, 2);

  slow = true;
  const args = [WEFT, '--state', directory, 'volume', 'import', image, 'main/late'];
  for (const signal of ['SIGINT', 'SIGKILL'] as const) {
    const client = spawn(process.execPath, args, { stdio: 'ignore' });
    const ended = new Promise<number | null>(resolve => client.on('close', resolve));
    await eventually('the lease', () => (stored.leases.size > 0 ? true : null));
    // In the middle of the copy.
    await new Promise(resolve => setTimeout(resolve, 300));
    client.kill(signal);
    t.equal(await ended, signal === 'SIGINT' ? 130 : null);
    await eventually('nothing to be left', () =>
      stored.leases.size === 0 && stored.volumes.size === 1 ? true : null,
    );
    t.pass(signal);
  }
});
