/** Pools of kind `remote` as the plane has them: TLS, names, an export that grows; and backups to a server with TLS. */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import type { PoolConfig, VolumeStatus } from '../../../storage/contract.js';
import { Plane, eventually } from '../plane.js';
import { Certificates } from './certificates.js';

const MiB = 1024 * 1024;
const run = promisify(execFile);
const missing = [
  ['nbdkit', '--version'],
  ['qemu-io', '--version'],
  ['openssl', 'version'],
].find(([program, argument]) => spawnSync(program!, [argument!]).status !== 0);
const skip = missing === undefined ? false : `${missing[0]} is not installed`;

class Kit {
  readonly port = 20_000 + ((process.pid * 7) % 10_000);
  readonly file: string;
  #pidFile: string;
  #settings: string[];
  #child: ChildProcess | null = null;

  constructor(t: Test, plane: Plane, settings: string[]) {
    this.file = plane.path('far.img');
    this.#pidFile = plane.path('kit.pid');
    this.#settings = settings;
    fs.writeFileSync(this.file, '');
    fs.truncateSync(this.file, 8 * MiB);
    t.teardown(() => this.#child?.kill('SIGKILL'));
  }
  async start(): Promise<void> {
    fs.rmSync(this.#pidFile, { force: true });
    const place = ['-P', this.#pidFile, '-i', '127.0.0.1', '-p', `${this.port}`];
    this.#child = spawn('nbdkit', ['-f', ...place, ...this.#settings, 'file', this.file], {
      stdio: 'ignore',
    });
    await eventually('nbdkit listens', () => fs.existsSync(this.#pidFile));
  }
  async kill(): Promise<void> {
    const ended = new Promise(resolve => this.#child!.once('exit', resolve));
    this.#child!.kill('SIGKILL');
    await ended;
  }
}

async function configure(plane: Plane, remote: NonNullable<PoolConfig['remote']>): Promise<void> {
  const answer = await plane.ask('PUT', '/config', {
    generation: Date.now(),
    pools: [
      { name: 'p', directory: plane.path('pool') },
      { name: 'far', remote },
    ],
    volumes: [{ pool: 'far', name: 'v', remoteName: '' }],
    exports: [plane.unix('v', { pool: 'far' })],
  });
  t.equal(answer.status, 200, JSON.stringify(answer.body));
}

async function volumeOf(plane: Plane): Promise<VolumeStatus | undefined> {
  return (await plane.status()).volumes.find(({ pool }) => pool === 'far');
}

async function listening(plane: Plane): Promise<boolean> {
  return (await plane.status()).exports[0]?.state === 'listening';
}

void t.test('a server with TLS', { skip }, async t => {
  const house = new Certificates();
  t.teardown(() => house.remove());
  const { room } = house;
  const plane = await Plane.start(t);
  const kit = new Kit(t, plane, ['--tls=require', `--tls-certificates=${room}`, '--tls-verify-peer']);
  await kit.start();
  const server = { kind: 'tcp' as const, host: '127.0.0.1', port: kit.port };
  const authority = `${room}/ca-cert.pem`;
  const own = { certificate: `${room}/client-cert.pem`, key: `${room}/client-key.pem` };

  await configure(plane, { server });
  const refusal = async (): Promise<string> => (await plane.status()).exports[0]?.reason ?? '';
  await eventually('without TLS it says so', async () => /wants TLS: configure tls/.test(await refusal()));
  await configure(plane, { server, tls: { authority: `${room}/none.pem` } });
  await eventually('a file that is not there is named', async () =>
    /none\.pem cannot be read: ENOENT/.test((await plane.status()).pools[1]?.reason ?? ''),
  );
  await configure(plane, { server, tls: { authority: `${room}/other-cert.pem`, ...own } });
  await eventually('another authority', async () => /TLS: .*certificate/.test(await refusal()));
  await configure(plane, { server, tls: { authority, ...own } });
  await eventually('it is served', () => listening(plane));
  const io = (...commands: string[]): Promise<{ stdout: string }> =>
    run('qemu-io', ['-f', 'raw', ...commands.flatMap(command => ['-c', command]), plane.uri('v')]);
  await io('write -P 0x42 1M 300k', 'flush');
  t.ok(
    fs
      .readFileSync(kit.file)
      .subarray(MiB, MiB + 300 * 1024)
      .every(byte => byte === 0x42),
  );

  await kit.kill();
  fs.truncateSync(kit.file, 16 * MiB);
  const reading = io('read -P 0x42 1M 300k');
  await kit.start();
  t.notMatch((await reading).stdout, /verification failed/);
  await eventually('it grew with its server', async () => (await volumeOf(plane))?.size_bytes === 16 * MiB);
  await io('write -P 0x43 15M 1M', 'flush');
  t.ok(
    fs
      .readFileSync(kit.file)
      .subarray(15 * MiB)
      .every(byte => byte === 0x43),
  );
  t.notMatch(plane.log, /PRIVATE KEY/);
});

void t.test('a backup to a server with TLS', { skip }, async t => {
  const house = new Certificates();
  t.teardown(() => house.remove());
  const plane = await Plane.start(t);
  const kit = new Kit(t, plane, ['--tls=require', `--tls-psk=${house.keys}`]);
  await kit.start();
  await plane.configure([plane.unix('disk')]);
  await plane.volume('disk', 8 * MiB);
  await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x21 3M 1M', '-c', 'flush', plane.uri('disk')]);
  const target = {
    server: { kind: 'tcp', host: '127.0.0.1', port: kit.port },
    exportName: '',
    tls: { psk: house.keys, pskIdentity: 'weft' },
  };
  const body = { kind: 'backup', pool: 'p', volume: 'disk', target };
  const { body: job, status } = await plane.ask('POST', '/jobs', body);
  t.ok(status < 300, JSON.stringify(job));
  const { id } = job as { id: string };
  const state = async (): Promise<{ state: string }> =>
    (await plane.ask('GET', `/jobs/${id}`)).body as { state: string };
  await eventually(
    'it is over',
    async () => !['queued', 'running', 'waiting'].includes((await state()).state),
  );
  t.equal((await state()).state, 'done', JSON.stringify(await state()));
  t.ok(
    fs
      .readFileSync(kit.file)
      .subarray(3 * MiB, 4 * MiB)
      .every(byte => byte === 0x21),
  );
});
