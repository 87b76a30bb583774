/**
 * What a raw call costs here: `node dist/test/host/measure.js`. Prints the table of host/README.md.
 * Best of several rounds, since everything else on the machine only adds.
 */
import * as fs from 'node:fs';
import { Epoll, EPOLLIN } from '../../host/epoll.js';
import { EventFd } from '../../host/eventfd.js';
import { O_CREAT, O_RDWR, closeFile, openFile } from '../../host/file.js';
import { IoUring } from '../../host/ioUring.js';
import { IoVector } from '../../host/iovec.js';
import { mapAnonymous } from '../../host/memory.js';
import { monotonicNow_ms } from '../../host/timerfd.js';
import * as raw from '../../host/raw.js';
import { unixPair } from '../../host/unix.js';

const ROUNDS = 7;
const CALLS = 256_000;

function measure(name: string, call: (index: number) => number, perCall = 1): void {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < ROUNDS; round++) {
    const start = process.hrtime.bigint();
    let sum = 0;
    for (let index = 0; index < CALLS; index++) sum += call(index);
    const spent = Number(process.hrtime.bigint() - start) / (CALLS * perCall);
    if (sum === 0.5) throw new Error('unreachable: keeps the calls from being dropped');
    best = Math.min(best, spent);
  }
  console.log(`| ${name} | ${best.toFixed(0)} ns |`);
}

const memory = mapAnonymous(1 << 20);
const A = memory.address;
const zero = openFile('/dev/zero', O_RDWR);
const [a, b] = unixPair();
const vector = new IoVector(8);
for (let i = 0; i < 8; i++) vector.set(i, A + i * 8192, 512);
const directory = fs.mkdtempSync('/var/tmp/host-measure-');
const file = openFile(`${directory}/f`, O_RDWR | O_CREAT);
for (let i = 0; i < 16; i++) raw.pwrite(file, A, 1 << 20, i << 20);
const epoll = new Epoll();
const wake = EventFd.create();
epoll.add(wake.fd, EPOLLIN, 1);
const pick = (index: number) => ((index * 7919) & 4095) * 4096;

measure('`write` 64 bytes to /dev/zero (a call that does nothing)', () => raw.write(zero, A, 64));
measure('`read` that fails with -EAGAIN', () => raw.recv(b, A, 64, 0));
measure(
  '`send` and `recv` of 64 bytes, Unix stream, both',
  () => raw.send(a, A, 64, 0) + raw.recv(b, A, 64, 0),
);
measure(
  '`writev` of 8 x 512 bytes and `recv`, Unix stream, both',
  () => raw.writev(a, vector.address, 8) + raw.recv(b, A, 4096, 0),
);
measure('`IoVector.set`', index => {
  vector.set(index & 7, A + index, 512);
  return 0;
});
measure('`pread` 4 KiB, cached', index => raw.pread(file, A, 4096, pick(index)));
measure('`fs.readSync` 4 KiB, cached (for comparison)', index =>
  fs.readSync(file, memory.bytes, 0, 4096, pick(index)),
);
measure('`epoll.wait(0)`, nothing ready', () => epoll.wait(0));
measure('`eventfd` signal and drain, both', () => {
  wake.signal();
  return wake.drain();
});
measure('`monotonicNow_ms`', () => monotonicNow_ms());

const can = IoUring.available();
if (!can.available) console.log(`| io_uring | ${can.reason} |`);
else
  for (const batch of [1, 32, 128]) {
    const ring = new IoUring(128);
    let bytes = 0;
    const done = (_token: number, result: number) => {
      bytes += result;
    };
    measure(`io_uring \`read\` 4 KiB, cached, in batches of ${batch}`, index => {
      if (!ring.prepRead(0, file, A, 4096, pick(index))) throw new Error('the ring is full');
      if (index % batch === batch - 1) {
        ring.submit();
        ring.reap(done);
      }
      return bytes;
    });
    ring.close();
  }

for (const fd of [zero, a, b]) raw.close(fd);
closeFile(file);
fs.rmSync(directory, { recursive: true });
epoll.close();
wake.close();
