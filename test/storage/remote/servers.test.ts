/**
 * The remote volume against servers of others: nbdkit and qemu-nbd as processes, over Unix sockets and TCP, with slow answers,
 * with a smallest block, killed and started again under load.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import t from 'tap';
import { connect } from '../../../storage/remote/session.js';
import { EXAM_BYTES, MiB, exam, read, waitFor, write } from '../volume/suite.js';
import { Server, make, type Command } from './rig.js';

const has = (program: string): boolean => spawnSync(program, ['--version']).status === 0;
const nbdkit: Command = (file, socket) => ['nbdkit', '-f', '-U', socket, 'file', file];
const filtered =
  (filter: string, ...settings: string[]): Command =>
  (file, socket) => ['nbdkit', '-f', '-U', socket, `--filter=${filter}`, 'file', file, ...settings];
const qemuNbd: Command = (file, socket) => ['qemu-nbd', '-t', '-e', '8', '-f', 'raw', '-k', socket, file];

const withNbdkit = has('nbdkit') ? false : 'nbdkit is not installed';
const withQemu = has('qemu-nbd') ? false : 'qemu-nbd is not installed';

if (withNbdkit === false) {
  exam(t, 'nbdkit', () => make(nbdkit));
  exam(t, 'nbdkit over four connections', () => make(nbdkit, { connections: 4 }));
  const whole = filtered('blocksize-policy', 'blocksize-minimum=4096', 'blocksize-error-policy=error');
  exam(t, 'nbdkit that takes whole blocks only', () => make(whole));
  exam(t, 'nbdkit that answers late', () => make(filtered('delay', 'rdelay=3ms', 'wdelay=3ms')));
  exam(t, 'nbdkit without zeroing and trimming', () => make(filtered('nozero', 'zeromode=none')));
} else void t.test('nbdkit', { skip: withNbdkit }, async () => undefined);
if (withQemu === false) exam(t, 'qemu-nbd', () => make(qemuNbd));
else void t.test('qemu-nbd', { skip: withQemu }, async () => undefined);

void t.test('errors of the server are errors', { skip: withNbdkit }, async t => {
  const examined = make(filtered('error', 'error-pread=EIO', 'error-pread-rate=100%'));
  t.teardown(() => examined.close());
  // As long as the server's smallest block is not known, whole ones of 64 KiB are not read before they are written.
  t.equal(write(examined, 0, new Uint8Array(65_536)), 0);
  t.throws(() => read(examined, 0, 4096), /: -5/);
});

for (const [name, command, skip] of [
  ['nbdkit', nbdkit, withNbdkit],
  ['qemu-nbd', qemuNbd, withQemu],
] as const)
  void t.test(`${name}, killed and started again under load`, { skip }, async t => {
    const examined = make(command, { connections: 4 });
    t.teardown(() => examined.close());
    const model = Buffer.alloc(EXAM_BYTES);
    for (let round = 0; round < 60; round++) {
      const offset = (round * 97_003) % (EXAM_BYTES - 200_000);
      const bytes = new Uint8Array(1 + ((round * 7919) % 200_000)).fill(round + 1);
      if (round % 12 === 5) examined.server.kill();
      if (round % 12 === 5) examined.server.start();
      t.equal(write(examined, offset, bytes), 0);
      model.set(bytes, offset);
      if (round % 7 === 0)
        t.equal(
          waitFor(examined, waiter => examined.volume.flush(waiter, 7)),
          0,
        );
    }
    t.equal(
      waitFor(examined, waiter => examined.volume.flush(waiter, 7)),
      0,
    );
    t.equal(Buffer.compare(read(examined, 0, 3 * MiB), model.subarray(0, 3 * MiB)), 0);
    t.equal(Buffer.compare(fs.readFileSync(examined.server.file), model), 0, 'all of it is in the file');
    t.equal(examined.volume.state, 'ok');
  });

for (const [name, command, skip] of [
  ['nbdkit', nbdkit, withNbdkit],
  ['qemu-nbd', qemuNbd, withQemu],
] as const)
  void t.test(`a session with ${name}`, { skip }, async t => {
    const server = new Server(command).start();
    t.teardown(() => server.close());
    const session = await connect({ kind: 'unix', path: server.socket }, '', null);
    t.equal(session.size_bytes, EXAM_BYTES);
    const bytes = new Uint8Array(3 * MiB).map((_, i) => i * 31 + (i >>> 9));
    await session.write(1 * MiB, bytes);
    await session.zero(2 * MiB, 1 * MiB);
    await session.flush();
    const back = new Uint8Array(3 * MiB);
    await session.read(1 * MiB, back);
    bytes.fill(0, 1 * MiB, 2 * MiB);
    t.equal(Buffer.compare(back, bytes), 0);
    let at = 0;
    while (at < EXAM_BYTES)
      for (const { length_bytes, zero } of await session.blockStatus(at, EXAM_BYTES - at)) {
        if (at === 1 * MiB) t.equal(zero, false, 'data');
        if (at === 4 * MiB) t.equal(zero, true, 'nothing');
        at += length_bytes;
      }
    t.equal(at, EXAM_BYTES);
    await t.rejects(session.read(EXAM_BYTES, new Uint8Array(4096)), { code: 'REMOTE_IO' });
    server.kill();
    await t.rejects(session.read(0, new Uint8Array(4096)), { code: 'REMOTE_GONE' });
    await session.close();
    await t.rejects(connect({ kind: 'unix', path: `${server.socket}x` }, '', null), {
      code: 'REMOTE_UNREACHABLE',
    });
  });

void t.test('a server whose name has another address by now', { skip: withNbdkit }, async t => {
  const port = 20_000 + (process.pid % 10_000);
  let address = '127.0.0.2';
  // Its file with the process id is there when it listens.
  const command: Command = (file, ready) => [
    'nbdkit',
    '-f',
    '-P',
    ready,
    '-i',
    address,
    '-p',
    `${port}`,
    'file',
    file,
  ];
  const examined = make(command, { server: { kind: 'tcp', host: 'disks.example', port } });
  t.teardown(() => examined.close());
  for (let i = 0; i < 30_000 && examined.volume.state === 'ok'; i++) examined.turn();
  t.match(examined.volume.reason, /disks.example:\d+: its name has no address/);
  examined.addresses.set('disks.example', ['127.0.0.9', address]);
  t.equal(write(examined, 0, new Uint8Array(65_536).fill(1)), 0, 'the second of two does it');
  examined.server.kill();
  address = '127.0.0.3';
  examined.server.start();
  for (let i = 0; i < 30_000 && examined.volume.state === 'ok'; i++) examined.turn();
  t.equal(examined.volume.state, 'degraded', 'nobody is there any more');
  examined.addresses.set('disks.example', [address]);
  t.equal(read(examined, 0, 4096)[0], 1);
  t.equal(examined.volume.state, 'ok');
});

void t.test('an export that is longer, or shorter, when it is back', { skip: withNbdkit }, async t => {
  const examined = make(nbdkit);
  t.teardown(() => examined.close());
  const { server, volume } = examined;
  t.equal(volume.serverSize_bytes, null, 'not said yet');
  t.equal(write(examined, 0, new Uint8Array(65_536)), 0);
  t.equal(volume.serverSize_bytes, EXAM_BYTES);
  const restart = (size_bytes: number): void => {
    server.kill();
    fs.truncateSync(server.file, size_bytes);
    server.start();
  };
  restart(EXAM_BYTES + MiB);
  const before = examined.toldCount;
  for (let i = 0; i < 30_000 && volume.serverSize_bytes === EXAM_BYTES; i++) examined.turn();
  t.equal(volume.serverSize_bytes, EXAM_BYTES + MiB);
  t.ok(examined.toldCount > before, 'that is told');
  t.equal(volume.size_bytes, EXAM_BYTES, 'it grows when it is told to');
  volume.grow(EXAM_BYTES + MiB);
  t.equal(write(examined, EXAM_BYTES, new Uint8Array(MiB).fill(3)), 0);
  restart(EXAM_BYTES);
  for (let i = 0; i < 30_000 && volume.state === 'ok'; i++) examined.turn();
  for (let i = 0; i < 30_000 && !/expected/.test(volume.reason ?? ''); i++) examined.turn();
  t.match(volume.reason, /export has 8388608 bytes, 9437184 are expected/);
});

void t.test('an export that is not there', { skip: withQemu }, async t => {
  const server = new Server((file, socket) => [
    'qemu-nbd',
    '-t',
    '-x',
    'disk',
    '-f',
    'raw',
    '-k',
    socket,
    file,
  ]).start();
  t.teardown(() => server.close());
  await t.rejects(connect({ kind: 'unix', path: server.socket }, 'other', null), {
    code: 'REMOTE_REFUSED',
    message: /no export of this name/,
  });
});
