/**
 * What goes wrong below a volume: a bit that a disk forgets, a side of a mirror, a server that is killed; who is told, and that
 * nothing wrong is ever served.
 *
 *   qemu-io nbdsh ---unix sockets--- weft-storage --- pools in the lab's directory; nbdkit
 */
import { closeSync, openSync, readFileSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { eventually, run } from './harness/processes.js';
import { House, MIB, PYTHON, SIZE_BYTES, mustIo, nbdsh, qemuIo, skip } from './harness/volumes.js';

t.setTimeout(600_000);

/** Turns a bit of the largest file below, in the middle of what it has: as a disk does that forgets. */
function flipABit(directory: string, offset_bytes: number): string {
  const files = (readdirSync(directory, { recursive: true }) as string[])
    .map(name => join(directory, name))
    .filter(path => path.endsWith('/data') && statSync(path).isFile());
  const path = files.toSorted((a, b) => statSync(b).blocks - statSync(a).blocks)[0];
  if (path === undefined) throw new Error(`no data below ${directory}`);
  const bytes = readFileSync(path).subarray(offset_bytes, offset_bytes + 1);
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.of(bytes[0]! ^ 1), 0, 1, offset_bytes);
  closeSync(fd);
  return path;
}

await t.test('a bit that is flipped on the disk is never served', { skip: skip('qemu-io') }, async t => {
  const house = await House.open(t);
  const v = await house.export('v');
  await mustIo(t, v, 'write -P 0x11 0 8M', 'flush');
  await house.snapshot('one');
  const path = flipABit(house.lab.path('pool'), 3 * MIB + 77);
  t.comment(path);
  // The page cache may still have what was written: what is asked is what a checksum says of what is read.
  const bad = await qemuIo(v, `read -P 0x11 ${3 * MIB} 4k`);
  t.match(bad.stdout + bad.stderr, /Input\/output error/);
  await mustIo(t, v, 'read -P 0x11 0 3M', `read -P 0x11 ${3 * MIB + 4096} 1M`);
  const status = await eventually('the status to say so', async () => {
    const volume = await house.volume();
    return (volume.checksumErrors ?? 0) > 0 ? volume : null;
  });
  t.match(`${status.state} ${status.reason}`, /./);
  t.comment(`state ${status.state}: ${status.reason}; ${status.checksumErrors} errors`);
  const scrub = await house.job({ kind: 'scrub', pool: 'p' });
  t.ok(
    scrub.findings.some(({ offset_bytes }) => offset_bytes === 3 * MIB),
    `scrub: ${scrub.state}, ${scrub.message}, ${JSON.stringify(scrub.findings)}`,
  );
});

await t.test('a mirror goes on with one side, and mends it', { skip: skip('qemu-io') }, async t => {
  const house = await House.open(t);
  await house.openedAs([], [{ name: 'q', directory: house.lab.path('other') }]);
  await house.plane.makeVolume('q', 'v', SIZE_BYTES);
  await house.openedAs([{ pool: 'p', name: 'v', mirror: { pool: 'q', volume: 'v' } }]);
  const v = await house.export('v');
  await mustIo(t, v, 'write -P 0x11 0 8M', 'flush');
  const inSync = async () =>
    eventually('both sides to be the same', async () => {
      const { mirror } = await house.volume();
      return mirror?.state === 'in-sync' ? true : null;
    });
  await inSync();
  flipABit(house.lab.path('pool'), MIB + 5);
  await mustIo(t, v, `read -P 0x11 ${MIB} 4k`, 'read -P 0x11 0 8M');
  const scrub = await house.job({ kind: 'scrub', pool: 'p' });
  t.comment(`scrub: ${scrub.state}, ${scrub.message}, ${JSON.stringify(scrub.findings)}`);
  await mustIo(t, v, 'read -P 0x11 0 8M');
  await inSync();
});

await t.test(
  'a remote server is killed under load',
  { skip: skip('nbdkit', 'qemu-io', 'nbdsh') },
  async t => {
    const house = await House.open(t);
    const socket = house.lab.path('remote.sock');
    const image = house.lab.path('remote.img');
    await run(['truncate', '-s', String(SIZE_BYTES), image]);
    const kit = () => house.lab.start(['nbdkit', '-f', '-U', socket, 'file', image]);
    let server = kit();
    await eventually('nbdkit', () =>
      statSync(socket, { throwIfNoEntry: false }) === undefined ? null : true,
    );
    const remote = { server: { kind: 'unix' as const, path: socket }, patience_ms: 30_000 };
    await house.openedAs([{ pool: 'r', name: 'disk', remoteName: '' }], [{ name: 'r', remote }]);
    await eventually('its size to be known', async () =>
      (await house.plane.status()).volumes.some(one => one.pool === 'r') ? true : null,
    );
    const uri = await house.export('disk', { pool: 'r' });
    const script = house.lab.path('load.py');
    writeFileSync(
      script,
      `
import nbd, os, sys
h = nbd.NBD()
h.connect_uri("${uri}")
done = {}
n = 0
while not os.path.exists("${house.lab.path('stop')}"):
    n += 1
    at = (n * 7919) % (${SIZE_BYTES} // 4096) * 4096
    h.pwrite(n.to_bytes(8, "little") * 512, at, nbd.CMD_FLAG_FUA if n % 8 == 0 else 0)
    done[at] = n
    if n % 100 == 0:
        print("at", n, flush=True)
h.flush()
for at, n in done.items():
    assert h.pread(4096, at) == n.to_bytes(8, "little") * 512, (at, n)
print("verified", n, flush=True)
`,
    );
    const load = house.lab.start(nbdsh(script), PYTHON);
    const progress = (): number => Number(/at (\d+)\s*$/.exec(load.stdout.trimEnd())?.[1] ?? 0);
    for (let i = 0; i < 3; i++) {
      const before = progress();
      await eventually('the load to get on', () => {
        if (!load.isRunning) throw new Error(load.stderr);
        return progress() > before + 200 ? true : null;
      });
      server.signal('SIGKILL');
      await server.ended;
      await run(['rm', '-f', socket]);
      server = kit();
    }
    const before = progress();
    await eventually('the load to get on', () => (progress() > before + 200 ? true : null));
    writeFileSync(house.lab.path('stop'), '');
    const { stdout, stderr } = await load.ended;
    t.match(stdout, /^verified \d+$/m, stderr);
  },
);
