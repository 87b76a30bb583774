/**
 * The disk server as other people's NBD clients see it: libnbd's tools, QEMU's tools and fio.
 *
 *   nbdinfo nbdcopy qemu-img qemu-io fio ---unix socket or TCP--- weft-storage --- pool in the lab's directory
 */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import t from 'tap';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { run } from './harness/processes.js';
import { Storage } from './harness/weft.js';

const skip = (...programs: string[]): string | false => missing({ programs });

const MIB = 1024 * 1024;
const SIZE_BYTES = 64 * MIB;

interface Served {
  readonly lab: Lab;
  readonly plane: Storage;
  /** Of the writable export, and of a read-only one of the same volume. */
  readonly uri: string;
  readonly readOnlyUri: string;
}

async function serve(t: { teardown: (handler: () => void) => unknown }): Promise<Served> {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const plane = await Storage.start(lab);
  const pools = [{ name: 'p', directory: lab.path('pool') }];
  await plane.configure({ pools, exports: [] });
  await plane.makeVolume('p', 'v', SIZE_BYTES);
  const path = lab.path('nbd.sock');
  const volume = { pool: 'p', volume: 'v', listen: [{ kind: 'unix' as const, path }] };
  await plane.configure({
    pools,
    exports: [
      { name: 'rw', nbdName: 'disk', readOnly: false, ...volume },
      { name: 'ro', nbdName: 'looking-glass', readOnly: true, ...volume },
    ],
  });
  const uri = (name: string): string => `nbd+unix:///${name}?socket=${path}`;
  return { lab, plane, uri: uri('disk'), readOnlyUri: uri('looking-glass') };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Half random, half zeros, so that holes and data both count. */
function makeContent(path: string): Uint8Array {
  const content = Buffer.alloc(SIZE_BYTES);
  for (let at = 0; at < SIZE_BYTES; at += 8 * MIB) randomBytes(4 * MIB).copy(content, at);
  writeFileSync(path, content);
  return content;
}

interface NbdInfo {
  readonly protocol: string;
  readonly exports: readonly {
    readonly 'export-name': string;
    readonly 'export-size': number;
    readonly is_read_only: boolean;
    readonly [can: string]: unknown;
  }[];
}

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

await t.test('nbdinfo: what is offered', { skip: skip('nbdinfo') }, async t => {
  const { uri, readOnlyUri } = await serve(t);
  const info = JSON.parse((await run(['nbdinfo', '--json', uri])).stdout) as NbdInfo;
  t.match(info.protocol, /^newstyle-fixed/);
  t.match(info.exports[0], {
    'export-name': 'disk',
    'export-size': SIZE_BYTES,
    is_read_only: false,
    can_flush: true,
    can_fua: true,
    can_trim: true,
    can_zero: true,
    can_multi_conn: true,
    can_df: true,
    contexts: ['base:allocation'],
  });
  const other = JSON.parse((await run(['nbdinfo', '--json', readOnlyUri])).stdout) as NbdInfo;
  t.match(other.exports[0], { 'export-name': 'looking-glass', is_read_only: true });

  const list = JSON.parse((await run(['nbdinfo', '--json', '--list', uri])).stdout) as NbdInfo;
  t.same(list.exports.map(one => one['export-name']).sort(), ['disk', 'looking-glass']);

  const unknown = await run(['nbdinfo', uri.replace('disk', 'no-such-disk')], { mayFail: true });
  t.not(unknown.status, 0, 'a name that is not exported is refused');
});

await t.test('nbdcopy: there and back by several connections', { skip: skip('nbdcopy') }, async t => {
  const { lab, uri } = await serve(t);
  const content = makeContent(lab.path('in'));
  const many = ['--connections=4', '--requests=32'];
  await run(['nbdcopy', '--flush', ...many, lab.path('in'), uri]);
  await run(['nbdcopy', ...many, uri, lab.path('out')]);
  t.equal(sha256(readFileSync(lab.path('out'))), sha256(content));
});

await t.test('qemu-img: convert, compare and map', { skip: skip('qemu-img') }, async t => {
  const { lab, plane, uri } = await serve(t);
  const content = makeContent(lab.path('in'));
  await run(['qemu-img', 'convert', '-n', '--target-is-zero', '-f', 'raw', '-O', 'raw', lab.path('in'), uri]);
  t.match(
    (await run(['qemu-img', 'compare', '-f', 'raw', '-F', 'raw', lab.path('in'), uri])).stdout,
    'identical',
  );
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', uri, lab.path('out.qcow2')]);
  await run(['qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', lab.path('out.qcow2'), lab.path('out')]);
  t.equal(sha256(readFileSync(lab.path('out'))), sha256(content));

  interface Extent {
    readonly start: number;
    readonly length: number;
    readonly zero: boolean;
  }
  const map = JSON.parse(
    (await run(['qemu-img', 'map', '--output=json', '-f', 'raw', uri])).stdout,
  ) as Extent[];
  const dataBytes = map.filter(extent => !extent.zero).reduce((sum, extent) => sum + extent.length, 0);
  t.equal(dataBytes, SIZE_BYTES / 2, 'what was never written is told as zero');
  const allocated_bytes = (await plane.status()).volumes[0]?.allocated_bytes ?? 0;
  t.ok(allocated_bytes < SIZE_BYTES * 0.6, `thin: ${allocated_bytes} of ${SIZE_BYTES} bytes taken`);
});

await t.test('qemu-io: write, zero, discard, read back', { skip: skip('qemu-io') }, async t => {
  const { plane, uri, readOnlyUri } = await serve(t);
  const qemuIo = async (...commands: string[]) =>
    run(['qemu-io', '-f', 'raw', ...commands.flatMap(command => ['-c', command]), uri]);
  await qemuIo('write -P 0xa5 0 8M', 'write -f -P 0x5a 1M 64k', 'flush');
  await qemuIo('read -P 0xa5 0 1M', 'read -P 0x5a 1M 64k', 'read -P 0xa5 1114112 64k');
  const before_bytes = (await plane.status()).volumes[0]?.allocated_bytes ?? 0;
  await qemuIo('write -z 2M 1M', 'write -z -u 3M 1M', 'discard 4M 4M', 'flush');
  await qemuIo('read -P 0xa5 0 1M', 'read -P 0 2M 1M', 'read -P 0 3M 1M', 'read -P 0 4M 4M');
  const after_bytes = (await plane.status()).volumes[0]?.allocated_bytes ?? 0;
  t.ok(after_bytes < before_bytes - 3 * MIB, `discard gave space back: ${before_bytes} to ${after_bytes}`);
  // Not a multiple of any block.
  await qemuIo('write -P 0x77 12345 6789', 'read -P 0x77 12345 6789', 'read -P 0xa5 0 12345');

  const odd = await run(['qemu-io', '-f', 'raw', '-r', '-c', 'read -P 0x77 12345 6789', readOnlyUri]);
  t.notMatch(odd.stdout, /failed|error/i);
  const refused = await run(['qemu-io', '-f', 'raw', '-c', 'write 0 4k', readOnlyUri], { mayFail: true });
  t.not(refused.status, 0, 'a read-only export cannot be opened for writing');
});

await t.test('fio: random writes are what is read back', { skip: skip('fio') }, async t => {
  const { lab, uri } = await serve(t);
  const fio = async (...options: string[]) =>
    run(['fio', '--name=verify', '--ioengine=nbd', `--uri=${uri}`, `--size=${SIZE_BYTES}`, ...options], {
      cwd: lab.directory,
      timeout_ms: 120_000,
    });
  const mixed = ['--rw=randwrite', '--bsrange=4k-128k', '--iodepth=32', '--verify=crc32c', '--randseed=42'];
  await t.resolves(fio(...mixed, '--do_verify=1', '--verify_fatal=1'));
});

await t.test('TCP serves the same bytes', { skip: skip('nbdcopy', 'qemu-io') }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const inside = await lab.namespace('storage');
  const plane = await Storage.start(lab, { netns: inside.path });
  const pools = [{ name: 'p', directory: lab.path('pool') }];
  await plane.configure({ pools, exports: [] });
  await plane.makeVolume('p', 'v', SIZE_BYTES);
  const path = lab.path('nbd.sock');
  const listen = [
    { kind: 'unix' as const, path },
    { kind: 'tcp' as const, host: '127.0.0.1', port: 10809 },
  ];
  await plane.configure({
    pools,
    exports: [{ name: 'e', nbdName: 'disk', pool: 'p', volume: 'v', readOnly: false, listen }],
  });
  await run(['qemu-io', '-f', 'raw', '-c', 'write -P 0x42 1M 1M', `nbd+unix:///disk?socket=${path}`]);
  const overTcp = ['qemu-io', '-f', 'raw', '-c', 'read -P 0x42 1M 1M', 'nbd://127.0.0.1:10809/disk'];
  const { stdout } = await inside.run(overTcp);
  t.match(stdout, /read 1048576\/1048576 bytes/);
  t.notMatch(stdout, /Pattern verification failed/);
});
