/**
 * What only a real client shows and the lab does not: QEMU's reconnection across kill -9 of the server, and libnbd's
 * own view of every command (nbdsh), of both forms of reply. `test/lab/nbd-clients.test.ts` has the everyday tools.
 */
import { execFile, spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import t from 'tap';
import { NetClient } from './nbd/netClient.js';
import { Plane, eventually } from './plane.js';

t.setTimeout(600_000);

const run = promisify(execFile);
const MiB = 1024 * 1024;

function missing(program: string): string | false {
  const found = (process.env['PATH'] ?? '').split(':').some(room => fs.existsSync(`${room}/${program}`));
  return found ? false : `needs ${program}`;
}

void t.test(
  'QEMU goes on where it was after kill -9 and a restart',
  { skip: missing('qemu-io') },
  async t => {
    const plane = await Plane.start(t);
    await plane.configure([plane.unix('v')]);
    await plane.volume('v', 64 * MiB);
    const image = `driver=nbd,server.type=unix,server.path=${plane.path('nbd.sock')},export=v,reconnect-delay=60`;
    const qemu = spawn('qemu-io', ['--image-opts', image], { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    for (const stream of [qemu.stdout, qemu.stderr])
      stream.on('data', (data: Buffer) => (said += data.toString()));
    const ended = new Promise(resolve => qemu.once('exit', resolve));
    t.teardown(() => qemu.kill('SIGKILL'));

    // One at a time: it looks for the next line when it is done with one, and says nothing before it ends.
    const say = async (command: string, counter: string, value: number): Promise<void> => {
      qemu.stdin.write(`${command}\n`);
      await eventually(command, async () => (await plane.status()).exports[0]?.counters[counter] === value);
    };
    await say('write -P 0x11 0 1M', 'writes', 1);
    await say('write -P 0x22 1M 1M', 'writes', 2);
    plane.child.kill('SIGKILL');
    await plane.exit();
    // Asked while nobody serves: QEMU holds it back.
    qemu.stdin.write('write -P 0x33 2M 1M\n');
    await plane.launch();
    t.same((await plane.configure([plane.unix('v')])).problems, []);
    // Not by a count: the one before it comes again when its answer had not reached QEMU. And two lines that QEMU finds at
    // once are one too many for it: it looks for the second when there is a third.
    const other = await NetClient.connect({ path: plane.path('nbd.sock') }, 'v');
    let looks = 0;
    await eventually('the held write', async () => {
      looks++;
      return (await other.read(3 * MiB - 1, 1))[0] === 0x33;
    });
    await other.disconnect();
    await say('read -P 0x11 0 1M', 'reads', looks + 1);
    await say('read -P 0x22 1M 1M', 'reads', looks + 2);
    await say('read -P 0x33 2M 1M', 'reads', looks + 3);
    qemu.stdin.end('quit\n');
    t.equal(await ended, 0);
    t.notMatch(said, /error|failed/i);
    t.equal((said.match(/(wrote|read) 1048576\/1048576/g) ?? []).length, 6, said);
  },
);

/** For nbdsh, with a connected handle `h`; `refused(errno, call)` expects an error. */
const PRELUDE = `
import errno
def refused(wanted, call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        assert e.errno == errno.errorcode[wanted], (wanted, e.errno, e.string)
        return
    raise AssertionError("not refused")
def extents(offset, count, flags=0):
    found = []
    def entry(context, at, entries, err):
        assert context == "base:allocation"
        found.extend(zip(entries[0::2], entries[1::2]))
        return 0
    h.block_status(count, offset, entry, flags)
    return found
`;

const EVERYTHING = `
size = h.get_size()
assert size == 8 << 20
assert h.can_multi_conn() and h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero()
assert h.can_fast_zero() and h.can_cache() and not h.is_read_only() and not h.is_rotational()
assert h.get_block_size(nbd.SIZE_MINIMUM) == 1 and h.get_block_size(nbd.SIZE_MAXIMUM) == 32 << 20
h.zero(size, 0)
h.pwrite(b"a" * 4096, 4096, nbd.CMD_FLAG_FUA)
h.pwrite(b"b" * 3, 5)
assert h.pread(4100, 4) == b"\\0bbb" + b"\\0" * 4088 + b"a" * 8
h.zero(4096, 8192, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA)
h.zero(1 << 20, 1 << 20, nbd.CMD_FLAG_FAST_ZERO)
h.trim(4096, 0, nbd.CMD_FLAG_FUA)
h.cache(1 << 20, 0)
h.flush()
big = bytes(range(256)) * (4 << 12)
h.pwrite(big, 1000)
assert h.pread(len(big), 1000) == big
h.set_strict_mode(0)
refused(errno.EINVAL, h.pread, 4096, size - 1)
refused(errno.EINVAL, h.pread, 4096, 1 << 62)
refused(errno.ENOSPC, h.pwrite, b"x" * 4096, size - 1)
refused(errno.ENOSPC, h.zero, 4096, size - 1)
refused(errno.EINVAL, h.trim, 4096, size - 1)
refused(errno.EINVAL, h.pread, 4096, 0, nbd.CMD_FLAG_REQ_ONE)
h.pwrite(b"", 5)
h.flush()
`;

const STRUCTURED = `
assert h.get_structured_replies_negotiated()
assert h.can_df() and h.can_meta_context("base:allocation")
assert h.pread(65536, 0, nbd.CMD_FLAG_DF) == h.pread(65536, 0)
chunks = []
def chunk(data, offset, status, err):
    chunks.append((offset, len(data), status))
    return 0
h.pread_structured(1 << 20, 4096, chunk)
assert all(status == nbd.READ_DATA for offset, length, status in chunks), chunks
assert [offset for offset, length, status in chunks] == [4096 + sum(c[1] for c in chunks[:i]) for i in range(len(chunks))], chunks
assert sum(length for offset, length, status in chunks) == 1 << 20, chunks
h.zero(2 << 20, 6 << 20)
assert extents(6 << 20, 1 << 20) == [(1 << 20, 3)], extents(6 << 20, 1 << 20)
assert extents(0, 8 << 20, nbd.CMD_FLAG_REQ_ONE)[0][1] == 0
assert len(extents(0, 8 << 20, nbd.CMD_FLAG_REQ_ONE)) == 1
assert sum(length for length, flags in extents(0, 8 << 20)) == 8 << 20
`;

/** nbdsh takes the first python3 it finds; the bindings belong to the system's. */
const NBDSH_ENVIRONMENT = { ...process.env, PATH: `/usr/bin:/bin:${process.env['PATH']}` };
const noNbdsh =
  spawnSync('nbdsh', ['--version'], { env: NBDSH_ENVIRONMENT }).status === 0
    ? false
    : 'needs nbdsh (Debian: libnbd-bin and python3-libnbd)';

void t.test('nbdsh: every command, as libnbd understands it', { skip: noNbdsh }, async t => {
  const plane = await Plane.start(t);
  const readOnly = plane.unix('ro', { volume: 'v', readOnly: true });
  await plane.configure([plane.unix('v'), readOnly]);
  await plane.volume('v', 8 * MiB);
  const nbdsh = (script: string): Promise<unknown> =>
    run('nbdsh', ['-c', PRELUDE + script], { env: NBDSH_ENVIRONMENT });
  const connect = (name: string): string => `h.connect_uri(${JSON.stringify(plane.uri(name))})\n`;
  const context = 'h.add_meta_context("base:allocation")\n';
  await t.resolves(nbdsh(context + connect('v') + EVERYTHING + STRUCTURED), 'structured replies');
  await t.resolves(
    nbdsh('h.set_request_structured_replies(False)\n' + connect('v') + EVERYTHING),
    'simple replies',
  );
  await t.resolves(
    nbdsh(
      connect('ro') +
        `assert h.is_read_only()
h.set_strict_mode(0)
refused(errno.EPERM, h.pwrite, b"x" * 512, 0)
refused(errno.EPERM, h.trim, 512, 0)
refused(errno.EPERM, h.zero, 512, 0)
h.pread(512, 0)
`,
    ),
    'read-only',
  );
  await t.resolves(
    nbdsh(`
h.set_opt_mode(True)
h.connect_unix(${JSON.stringify(plane.path('nbd.sock'))})
names = []
h.opt_list(lambda name, description: names.append(name) or 0)
assert sorted(names) == ["ro", "v"], names
h.set_export_name("nothing")
try:
    h.opt_info()
    raise AssertionError("not refused")
except nbd.Error:
    pass
h.set_export_name("v")
h.opt_info()
assert h.get_size() == 8 << 20
h.opt_go()
h.pread(512, 0)
`),
    'options, one after the other',
  );
});
