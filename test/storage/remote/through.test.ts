/**
 * The data thread in front of nbdkit, with real clients: what they write through us is in nbdkit's file, also when nbdkit is
 * killed on the way. Then a mirror of a local file and nbdkit: it goes on without it, and brings it up to date again.
 */
import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { EXPORT_COUNTERS, newCounters } from '../../../storage/nbd/counters.js';
import { NbdServer } from '../../../storage/nbd/server.js';
import { JOURNAL_BYTES } from '../../../storage/volume/mirrorJournal.js';
import type { RemoteOpening, VolumeOpening } from '../../../storage/volume/opening.js';
import { eventually } from '../plane.js';
import { isListening } from '../../listening.js';

const SIZE = 32 * 1024 * 1024;
const run = promisify(execFile);
const missing = ['nbdkit', 'qemu-img', 'nbdcopy'].find(
  program => spawnSync(program, ['--version']).status !== 0,
);
const skip = missing === undefined ? false : `${missing} is not installed`;

class House {
  readonly room = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-through-'));
  readonly file = this.in('far');
  readonly source = this.in('source');
  readonly states: { state: string; mirror: { state: string } | null }[] = [];
  #kit: ChildProcess | null = null;
  #server!: NbdServer;
  #fds: number[] = [];

  static async open(t: Test, opening: (house: House) => VolumeOpening): Promise<House> {
    const house = new House();
    t.teardown(() => house.close());
    const bytes = Buffer.alloc(SIZE);
    for (let at = 0; at < SIZE; at += 8) bytes.writeDoubleLE(at % 65_536 < 20_000 ? at + 0.5 : 0, at);
    fs.writeFileSync(house.source, bytes);
    fs.writeFileSync(house.file, '');
    fs.truncateSync(house.file, SIZE);
    house.#server = new NbdServer(
      {
        volumeState: message => void house.states.push(message),
        listenerChanged: () => undefined,
        tlsFailed: () => undefined,
        threadGone: error => {
          throw error;
        },
      },
      { ioUring: true },
    );
    await house.#server.ready();
    await house.kit();
    house.#server.openVolume(1, opening(house));
    house.#server.offer({
      exportId: 2,
      nbdName: 'disk',
      volumeId: 1,
      readOnly: false,
      counters: newCounters(EXPORT_COUNTERS),
      listen: [{ kind: 'unix', path: house.in('near.sock') }],
    });
    return house;
  }

  in(name: string): string {
    return path.join(this.room, name);
  }
  get uri(): string {
    return `nbd+unix:///disk?socket=${this.in('near.sock')}`;
  }
  get remote(): RemoteOpening {
    const server = { kind: 'unix' as const, path: this.in('far.sock') };
    return {
      kind: 'remote',
      server,
      exportName: '',
      size_bytes: SIZE,
      connections: 2,
      patience_ms: 1000,
      tls: null,
      pool: 'far',
    };
  }
  fd(name: string, size_bytes: number): number {
    const fd = fs.openSync(this.in(name), 'w+');
    fs.ftruncateSync(fd, size_bytes);
    this.#fds.push(fd);
    return fd;
  }

  async kit(): Promise<void> {
    const socket = this.in('far.sock');
    fs.rmSync(socket, { force: true });
    this.#kit = spawn('nbdkit', ['-f', '-U', socket, 'file', this.file], { stdio: 'ignore' });
    await eventually('nbdkit listens', () => isListening(socket));
  }
  async kill(): Promise<void> {
    const ended = new Promise(resolve => this.#kit!.once('exit', resolve));
    this.#kit!.kill('SIGKILL');
    await ended;
  }
  async stop(): Promise<void> {
    await this.#server.closeVolume(1);
    await this.#server.stop();
  }
  async close(): Promise<void> {
    this.#kit?.kill('SIGKILL');
    for (const fd of this.#fds) fs.closeSync(fd);
    fs.rmSync(this.room, { recursive: true, force: true });
  }
  same(a: string, b: string): boolean {
    return fs.readFileSync(this.in(a)).equals(fs.readFileSync(this.in(b)));
  }
}

void t.test('in front of nbdkit', { skip }, async t => {
  const house = await House.open(t, ({ remote }) => ({
    base: { ...remote, patience_ms: 0 },
    encryptionKey: null,
    limits: null,
  }));
  await run('qemu-img', ['convert', '-n', '-f', 'raw', '-O', 'raw', house.source, house.uri]);
  t.ok(house.same('source', 'far'), 'qemu-img wrote it');
  await run('nbdcopy', [house.uri, house.in('back')]);
  t.ok(house.same('source', 'back'), 'nbdcopy read it');

  fs.truncateSync(house.file, 0);
  fs.truncateSync(house.file, SIZE);
  const copying = run('nbdcopy', ['--flush', '--request-size=65536', house.source, house.uri]);
  for (let i = 0; i < 3; i++) {
    await new Promise(resolve => setTimeout(resolve, 15));
    await house.kill();
    await house.kit();
  }
  await copying;
  t.ok(house.same('source', 'far'), 'nbdkit was killed three times meanwhile');
  await house.stop();
});

void t.test('a mirror of a local file and nbdkit', { skip }, async t => {
  const house = await House.open(t, it => ({
    base: {
      kind: 'mirror',
      first: { kind: 'file', fd: it.fd('near', SIZE), size_bytes: SIZE, writable: true },
      second: it.remote,
      journalFd: it.fd('journal', JOURNAL_BYTES),
      partner: 'one',
    },
    encryptionKey: null,
    limits: null,
  }));
  const inSync = (): boolean => house.states.at(-1)?.mirror?.state === 'in-sync';
  await eventually('in sync', inSync);
  await run('nbdcopy', ['--flush', house.source, house.uri]);
  t.ok(house.same('source', 'near') && house.same('source', 'far'), 'on both sides');
  await house.kill();
  await run('qemu-io', ['-f', 'raw', '-c', 'write -P 0x42 5M 300k', '-c', 'flush', house.uri]);
  t.equal(house.states.at(-1)?.state, 'degraded');
  t.notOk(house.same('near', 'far'), 'nbdkit missed it');
  await house.kit();
  await eventually('in sync again', inSync);
  t.ok(house.same('near', 'far'), 'and has it now');
  await house.stop();
});
