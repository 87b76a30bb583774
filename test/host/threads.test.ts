/** The whole folder in several workers at once: each loads koffi for itself, and errno is the thread's own. */
import t from 'tap';
import { Worker } from 'node:worker_threads';
import { O_RDWR, openFile } from '../../host/file.js';
import { mapAnonymous } from '../../host/memory.js';
import { createNetns } from '../../host/netns.js';
import * as raw from '../../host/raw.js';
import type { Job } from './threads.js';

await t.test('four workers', async t => {
  const namespace = process.getuid?.() === 0 ? createNetns() : -1;
  const job: Job = { namespace, rounds: 500 };
  const faults = await Promise.all(
    [0, 1, 2, 3].map(
      () =>
        new Promise<string[]>((resolve, reject) => {
          const worker = new Worker(new URL('threads.js', import.meta.url), { workerData: job });
          worker.once('message', resolve).once('error', reject);
          worker.once('exit', code => reject(new Error(`exit code ${code}`)));
        }),
    ),
  );
  t.same(faults, [[], [], [], []]);
  if (namespace >= 0) raw.close(namespace);
});

await t.test('an fd outlives the thread that opened it, and its number is never closed twice', async t => {
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     Promise.all([import(workerData + 'file.js'), import(workerData + 'raw.js')]).then(([file, raw]) => {
       const kept = file.openFile('/dev/zero', file.O_RDWR);
       const closed = file.openFile('/dev/zero', file.O_RDWR);
       raw.close(closed);
       parentPort.postMessage([kept, closed]);
     });`,
    { eval: true, workerData: new URL('../../host/', import.meta.url).href },
  );
  const exited = new Promise(resolve => worker.once('exit', resolve));
  const [kept, closed] = await new Promise<[number, number]>((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  );
  // Takes the number that the worker had closed, as another thread's fd would.
  const taken = [openFile('/dev/zero', O_RDWR)];
  while (taken.at(-1) !== closed && taken.length < 100) taken.push(openFile('/dev/zero', O_RDWR));
  await exited;
  const memory = mapAnonymous(8);
  for (const fd of [kept, ...taken]) {
    t.equal(raw.read(fd, memory.address, 8), 8, `fd ${fd}`);
    raw.close(fd);
  }
});
