/** Memory of WebAssembly that the kernel reads and writes. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { pread, pwrite } from '../../../host/raw.js';
import { Checksum } from '../../../storage/checksum/checksum.js';
import { Arena, newChecksum } from '../../../storage/dataThread/arena.js';

await t.test('the kernel fills it, and its sum is made where it lies', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'weft-arena-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'file');
  const data = Uint8Array.from({ length: 8192 }, (_, i) => (i * 7) & 255);
  writeFileSync(file, data);
  const fd = openSync(file, 'r+');
  t.teardown(() => closeSync(fd));
  const checksum = newChecksum();
  const arena = new Arena(checksum);
  const chunk = arena.allocate(266_240);
  t.equal(chunk.bytes.buffer, checksum.bytes.buffer, 'it is part of that memory');
  t.equal(chunk.length_bytes, 266_240);
  t.equal(pread(fd, chunk.address + 100, 8192, 0), 8192);
  t.equal(Buffer.compare(chunk.bytes.subarray(100, 8292), data), 0);
  t.equal(chunk.view.getUint8(101), 7);
  t.equal(checksum.sum('products', chunk, 100), new Checksum().sum('products', { bytes: data }, 0));
  chunk.bytes.fill(0x5a, 0, 10);
  t.equal(pwrite(fd, chunk.address, 10, 4), 10);
  t.equal(readFileSync(file)[13], 0x5a);

  chunk.unmap();
  const again = arena.allocate(266_240);
  t.equal(again.address, chunk.address, 'what was given back is given again');
  t.ok(
    again.bytes.every(byte => byte === 0),
    'its pages were given back to the kernel',
  );
  t.not(arena.allocate(266_240).address, chunk.address);
});

await t.test('beyond what is reserved it is mapped', async t => {
  const checksum = new Checksum(64 * 1024);
  const arena = new Arena(checksum);
  const chunk = arena.allocate(1024 * 1024);
  t.not(chunk.bytes.buffer, checksum.bytes.buffer);
  chunk.bytes[5] = 1;
  t.type(checksum.sum('products', chunk, 0), 'number');
  chunk.unmap();
});
