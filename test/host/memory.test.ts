import t from 'tap';
import { Worker } from 'node:worker_threads';
import { O_CREAT, O_RDWR, ftruncate, openFile } from '../../host/file.js';
import { MAPPING_MAX_BYTES, hideFromChildren, mapAnonymous, mapFile, viewAt } from '../../host/memory.js';
import * as raw from '../../host/raw.js';

await t.test('bytes, words and the kernel see the same memory', async t => {
  const mapping = mapAnonymous(8192);
  t.equal(mapping.length_bytes, 8192);
  t.equal(mapping.i32.length, 2048);
  mapping.view.setUint32(4, 0x01020304, true);
  t.same([...mapping.bytes.subarray(4, 8)], [4, 3, 2, 1]);
  t.equal(mapping.i32[1], 0x01020304);
  Atomics.store(mapping.i32, 5, -7);
  const zero = openFile('/dev/zero', O_RDWR);
  t.equal(raw.read(zero, mapping.address + 4, 2), 2);
  raw.close(zero);
  t.same([...mapping.bytes.subarray(4, 8)], [0, 0, 2, 1]);
  t.equal(Atomics.load(mapping.i32, 5), -7);
  const again = viewAt(mapping.address + 16, 16);
  t.equal(again.i32[1], -7, 'a view into the middle');
  again.unmap();
  t.equal(mapping.i32[5], -7, 'unmapping a view leaves the memory');
  mapping.unmap();
});

await t.test('a length that is no multiple of four', async t => {
  const mapping = mapAnonymous(7);
  t.equal(mapping.bytes.length, 7);
  t.equal(mapping.i32.length, 1);
  mapping.unmap();
});

await t.test('what would abort or crash the process is refused', async t => {
  for (const length of [0, -1, 1.5, Number.NaN, MAPPING_MAX_BYTES + 1, 2 ** 33])
    t.throws(() => mapAnonymous(length), { code: 'EINVAL' }, String(length));
  for (const address of [0, 8, -1, 2 ** 60, Number.NaN])
    t.throws(() => viewAt(address, 8), { code: 'EINVAL' });
  t.throws(() => mapFile(-1, 0, 4096, { write: false }), { code: 'EBADF', syscall: 'mmap' });
});

await t.test('after unmap nothing is reachable through the mapping', async t => {
  const mapping = mapAnonymous(4096);
  mapping.unmap();
  t.ok(mapping.unmapped);
  t.equal(mapping.address, 0);
  t.equal(mapping.length_bytes, 0);
  mapping.bytes[0] = 1;
  mapping.i32[0] = 1;
  t.equal(mapping.bytes[0], undefined);
  t.throws(() => mapping.view.getUint8(0), RangeError);
  mapping.unmap();
});

await t.test('options are accepted', async t => {
  const mapping = mapAnonymous(4 << 20, { shared: true, hugePages: true, populate: true });
  mapping.bytes.fill(0x5a);
  t.equal(mapping.bytes[(4 << 20) - 1], 0x5a);
  hideFromChildren(mapping);
  mapping.unmap();
});

await t.test('a file window is shared with the file', async t => {
  const path = `${t.testdir({})}/file`;
  const fd = openFile(path, O_RDWR | O_CREAT);
  ftruncate(fd, 3 * 4096);
  const window = mapFile(fd, 4096, 4096, { write: true });
  window.bytes.set([1, 2, 3], 10);
  const scratch = mapAnonymous(4096);
  t.equal(raw.pread(fd, scratch.address, 3, 4096 + 10), 3);
  t.same([...scratch.bytes.subarray(0, 3)], [1, 2, 3]);
  window.unmap();
  t.throws(() => mapFile(fd, 100, 4096, { write: false }), { code: 'EINVAL' }, 'not a page boundary');
  scratch.unmap();
  raw.close(fd);
});

await t.test('another thread sees it by viewAt', async t => {
  const mapping = mapAnonymous(4096);
  mapping.i32[0] = 41;
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     import(workerData.memory).then(({ viewAt }) => {
       const there = viewAt(workerData.address, 4096);
       Atomics.add(there.i32, 0, 1);
       there.unmap();
       parentPort.postMessage('done');
     });`,
    {
      eval: true,
      workerData: { memory: new URL('../../host/memory.js', import.meta.url).href, address: mapping.address },
    },
  );
  await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
  await worker.terminate();
  t.equal(Atomics.load(mapping.i32, 0), 42);
  mapping.unmap();
});
