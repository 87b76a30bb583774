import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import t from 'tap';
import { canTellCached, isCached, sendFile } from '../../host/sendFile.js';
import { mapAnonymous } from '../../host/memory.js';
import { close, recv } from '../../host/raw.js';
import { unixPair } from '../../host/unix.js';

const EAGAIN = -11;
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-host-sendfile-'));
t.teardown(() => fs.rmSync(directory, { recursive: true }));

const bytes = Buffer.alloc(1024 * 1024);
for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + (i >>> 8)) & 0xff;
const file = path.join(directory, 'f');
fs.writeFileSync(file, bytes);
const fd = fs.openSync(file, 'r+');
t.teardown(() => fs.closeSync(fd));
const memory = mapAnonymous(1024 * 1024);

await t.test('sendFile: a range of the file arrives, whatever its alignment', async t => {
  const [a, b] = unixPair();
  for (const [offset, length] of [
    [0, 4096],
    [1, 4095],
    [4095, 70_000],
    [bytes.length - 10, 10],
  ] as const) {
    let sent = 0;
    let received = 0;
    while (received < length) {
      if (sent < length) {
        const n = sendFile(a, fd, offset + sent, length - sent);
        t.ok(n > 0 || n === EAGAIN);
        if (n > 0) sent += n;
      }
      const n = recv(b, memory.address + received, length - received, 0);
      if (n > 0) received += n;
    }
    t.equal(
      Buffer.compare(memory.bytes.slice(0, length), bytes.subarray(offset, offset + length)),
      0,
      `${length} at ${offset}`,
    );
  }
  t.equal(sendFile(a, fd, bytes.length, 4096), 0, 'the end of the file');
  let full = 0;
  for (let n = 0; (n = sendFile(a, fd, 0, bytes.length)) > 0;) full += n;
  t.equal(sendFile(a, fd, 0, 4096), EAGAIN, `full after ${full} bytes`);
  close(b);
  t.ok(sendFile(a, fd, 0, 4096) < 0, 'the peer is gone');
  close(a);
});

await t.test('isCached', { skip: canTellCached(fd) ? false : 'needs Linux 6.5 (cachestat)' }, async t => {
  fs.readFileSync(file);
  t.equal(isCached(fd, 0, bytes.length), 1);
  t.equal(isCached(fd, 4095, 2), 1);
  fs.ftruncateSync(fd, bytes.length + 65_536);
  t.equal(isCached(fd, bytes.length, 4096), 0, 'a hole that nobody read');
  t.equal(isCached(fd, bytes.length - 1, 2), 0, 'one page of two');
  t.equal(isCached(fd, bytes.length - 4096, 4096), 1);
});
