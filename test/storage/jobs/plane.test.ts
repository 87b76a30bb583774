/**
 * Backups by the whole plane, with clients of qemu-io: of encrypted volumes, what goes where and what is refused (the cases are in
 * jobs/poolDesk.ts, requireKey); and across kill -9 of the process.
 */
import { spawnSync } from 'node:child_process';
import * as crypto from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import t from 'tap';
import type { JobRequestInput, JobStatus } from '../../../storage/contract.js';
import { Plane, eventually } from '../plane.js';

// Whole processes on a machine that may be busy.
t.setTimeout(600_000);

const MiB = 1024 * 1024;
const skip = spawnSync('qemu-io', ['--version']).status === 0 ? false : 'qemu-io is not installed';

async function runOn(plane: Plane, request: JobRequestInput): Promise<JobStatus> {
  await plane.unused();
  const begun = await plane.ask('POST', '/jobs', request);
  if (begun.status !== 200) throw new Error(JSON.stringify(begun.body));
  let job = begun.body as JobStatus;
  await eventually('the job ends', async () => {
    job = (await plane.ask('GET', `/jobs/${job.id}`)).body as JobStatus;
    return job.endedAt_ms !== null;
  });
  return job;
}

function ioOn(plane: Plane, name: string, ...commands: string[]): void {
  const more = commands.flatMap(command => ['-c', command]);
  const { status, stdout, stderr } = spawnSync('qemu-io', ['-f', 'raw', ...more, plane.uri(name)], {
    encoding: 'utf8',
    timeout: 120_000,
  });
  if (status !== 0) throw new Error(`${commands.join('; ')}: ${stdout}${stderr}`);
}

void t.test('kill -9 in the middle of a backup: it is told, and gone on with', { skip }, async t => {
  const plane = await Plane.start(t);
  await plane.configure([plane.unix('v')]);
  await plane.volume('v', 64 * MiB);
  ioOn(plane, 'v', 'write -P 7 1M 24M', 'flush');
  const directory = plane.path('backups');
  const backup = { kind: 'backup' as const, pool: 'p', volume: 'v', target: { directory } };
  const begun = await plane.ask('POST', '/jobs', { ...backup, rate_bytes_per_s: 6 * MiB });
  const { id } = begun.body as JobStatus;
  await eventually('a part is there', async () => {
    const { done_bytes } = (await plane.ask('GET', `/jobs/${id}`)).body as JobStatus;
    return done_bytes > 9 * MiB;
  });
  plane.child.kill('SIGKILL');
  await plane.exit();
  await plane.launch();
  await plane.configure([plane.unix('v')]);
  const url = `/backups?directory=${encodeURIComponent(directory)}`;
  const listed = async (): Promise<object[]> =>
    ((await plane.ask('GET', url)).body as { backups: object[] }).backups;
  t.match(await listed(), [{ volume: 'v', state: 'incomplete' }]);
  ioOn(plane, 'v', 'write -P 8 2M 64k', 'flush');
  const { message } = await runOn(plane, backup);
  t.match(
    message,
    /^backup \S+: 24\.0 MiB \(.*, of which \d+\.0 MiB were there already\); backup \S+: 64\.0 KiB/,
  );
  t.match(await listed(), [{ state: 'whole' }, { state: 'whole', kind: 'incremental' }]);
  t.equal((await plane.status()).volumes[0]!.snapshots!.length, 1);
  t.match(await runOn(plane, { kind: 'verify', source: { directory } }), { state: 'done', findings: [] });
});

void t.test(
  'an encrypted volume goes to a backup, and back under the same key file only',
  { skip },
  async t => {
    const plane = await Plane.start(t);
    const keyFile = (name: string): string => {
      const file = plane.path(name);
      if (!fs.existsSync(file)) fs.writeFileSync(file, crypto.randomBytes(64), { mode: 0o600 });
      return file;
    };
    const NAMES = ['secret', 'same', 'other', 'plain', 'snapped'];
    let generation = 0;
    const configure = async (exported: string[]): Promise<void> => {
      const { status, body } = await plane.ask('PUT', '/config', {
        generation: ++generation,
        pools: [{ name: 'p', directory: plane.path('pool') }],
        volumes: ['secret', 'same', 'other', 'snapped'].map(name => ({
          pool: 'p',
          name,
          encryption: { keyFile: keyFile(name === 'other' ? 'key-2' : 'key-1') },
        })),
        exports: exported.map(name => plane.unix(name)),
      });
      t.equal(status, 200, JSON.stringify(body));
    };
    const io = (name: string, ...commands: string[]): void => ioOn(plane, name, ...commands);
    const run = (request: JobRequestInput): Promise<JobStatus> => runOn(plane, request);
    const [sealed, open] = [plane.path('sealed'), plane.path('open')];
    const backup = (volume: string, directory: string, plaintext: boolean): Promise<JobStatus> =>
      run({ kind: 'backup', pool: 'p', volume, target: { directory }, plaintext });
    const restore = (volume: string, directory: string, overwrite = false): Promise<JobStatus> =>
      run({ kind: 'restore', pool: 'p', volume, source: { directory }, sourceVolume: 'secret', overwrite });
    const bytesOf = (directory: string): Buffer => {
      const room = path.join(directory, 'secret');
      return fs.readFileSync(path.join(room, fs.readdirSync(room)[0]!, 'data'));
    };
    const holds = 'read -P 0x5a 1M 1M';

    await configure([]);
    for (const name of NAMES) await plane.volume(name, 16 * MiB);
    await configure(['secret']);
    io('secret', 'write -P 0x5a 1M 1M', 'flush');
    t.match(await backup('secret', sealed, false), { state: 'done' });
    t.match(await backup('secret', open, true), { state: 'done' });
    const wanted = Buffer.alloc(4096, 0x5a);
    t.equal(bytesOf(sealed).indexOf(wanted), -1, 'ciphertext');
    t.equal(bytesOf(open).indexOf(wanted), MiB, 'plaintext, as it was asked for');
    t.match(await run({ kind: 'verify', source: { directory: sealed } }), { state: 'done', findings: [] });

    t.match(await restore('secret', sealed), { state: 'failed', message: /is not empty/ });
    io('secret', 'write -P 1 1M 64k', 'flush');
    t.match(await restore('secret', sealed, true), { state: 'done' });
    io('secret', holds);
    t.match(await restore('other', sealed), { state: 'failed', message: /another key file/ });
    t.match(await restore('plain', sealed), { state: 'failed', message: /configure the volume/ });
    await plane.ask('POST', '/snapshots', { name: 's', volumes: [{ pool: 'p', volume: 'snapped' }] });
    t.match(await restore('snapped', sealed, true), { state: 'failed', message: /has snapshots/ });
    await configure(['secret', 'same']);
    t.match(await restore('same', sealed), { state: 'failed', message: /take its exports away/ });
    await configure([]);
    t.match(await restore('same', sealed), { state: 'done' });
    t.match(await restore('other', open), { state: 'done' }, 'encrypted on the way, by another key');
    t.match(await restore('plain', open), { state: 'done' });

    // Also by a process that remembers nothing.
    plane.child.kill('SIGKILL');
    await plane.exit();
    await plane.launch();
    generation = 0;
    await configure(['secret', 'same', 'other', 'plain']);
    for (const name of ['secret', 'same', 'other', 'plain'])
      io(name, holds, 'read -P 0 0 1M', 'read -P 0 2M 14M');
    t.match(await backup('same', plane.path('third'), false), { state: 'done' });
  },
);
