/**
 * The guest's proof of its disk, run here on a file: it must find what is wrong, or it proves nothing. Our
 * facts go to standard output instead of a console.
 */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { parseFact, type Fact } from '../../../control/image/facts.js';

const SCRIPTS = fileURLToPath(new URL('../../../../control/image/guest/', import.meta.url));
const RECORD_BYTES = 4096;
const SLOTS = 1024;
const BATCH = 16;
const skip = spawnSync('busybox', ['awk', 'BEGIN {}']).status === 0 ? false : 'busybox is not installed';

class Work {
  readonly file: string;
  readonly #directory: string;

  constructor(t: Test) {
    const directory = fs.mkdtempSync(join(tmpdir(), 'weft-work-'));
    t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));
    this.#directory = directory;
    this.file = join(directory, 'ring');
    const script = fs
      .readFileSync(join(SCRIPTS, 'work.sh'), 'utf8')
      .replace('. /weft/fact.sh', `fact() { echo "WEFT {\\"fact\\":\\"$1\\",$2}"; }`)
      .replace('echo 3 >/proc/sys/vm/drop_caches', ':')
      .replaceAll('/run/', `${directory}/`);
    fs.writeFileSync(join(directory, 'work.sh'), script);
  }

  /** Runs it until it has said what is waited for; gives everything it said. */
  async until(fits: (fact: Fact) => boolean): Promise<Fact[]> {
    const child = spawn('busybox', ['sh', join(this.#directory, 'work.sh'), this.file], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const facts: Fact[] = [];
    let rest = '';
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          const fact = parseFact(line);
          if (fact === undefined) continue;
          facts.push(fact);
          if (fits(fact)) resolve();
        }
      });
      child.on('error', reject);
      child.on('exit', () => reject(new Error('work.sh ended by itself')));
    });
    child.removeAllListeners('exit');
    const ended = new Promise(resolve => child.once('close', resolve));
    child.kill('SIGKILL');
    await ended;
    return facts;
  }

  async verified(): Promise<Extract<Fact, { fact: 'verified' }>> {
    const [first] = await this.until(fact => fact.fact === 'verified');
    if (first?.fact !== 'verified') throw new Error('it verifies first');
    return first;
  }

  /** Where a record lies. */
  at(number: number): number {
    return ((number - 1) % SLOTS) * RECORD_BYTES;
  }

  overwrite(number: number, bytes: Uint8Array): void {
    const fd = fs.openSync(this.file, 'r+');
    fs.writeSync(fd, bytes, 0, bytes.length, this.at(number));
    fs.closeSync(fd);
  }

  read(number: number): Buffer {
    return fs.readFileSync(this.file).subarray(this.at(number), this.at(number) + RECORD_BYTES);
  }
}

await t.test('what was written is found, and what was lost is, too', { skip }, async t => {
  const work = new Work(t);
  await work.until(fact => fact.fact === 'written' && fact.upto >= 200);
  const { upto, bad } = await work.verified();
  t.ok(upto >= 200);
  t.equal(bad, 0);
  t.equal(upto % BATCH, 0);

  const good = work.read(20);
  work.overwrite(20, Buffer.concat([good.subarray(0, 2000), Buffer.from([good[2000]! ^ 1])]));
  t.match(await work.verified(), { bad: 1 }, 'one bit');
  work.overwrite(20, good);
  t.match(await work.verified(), { bad: 0 });

  const other = work.read(21);
  work.overwrite(20, other);
  t.match(await work.verified(), { bad: 1 }, 'a record in the wrong place');
  work.overwrite(20, Buffer.alloc(RECORD_BYTES));
  // A record that does not end shifts those behind it: how many are bad is not exact then, that some are is.
  t.ok((await work.verified()).bad > 0, 'zeros');
});

await t.test(
  'after the ring has gone round: an older record than acknowledged is found',
  { skip },
  async t => {
    const work = new Work(t);
    await work.until(fact => fact.fact === 'written' && fact.upto >= 320);
    const stale = work.read(300);
    await work.until(fact => fact.fact === 'written' && fact.upto >= SLOTS + 400);
    const { upto, bad } = await work.verified();
    t.ok(upto >= SLOTS + 400);
    t.equal(bad, 0);
    t.equal(Number.parseInt(work.read(SLOTS + 300).toString('latin1', 0, 20), 10), SLOTS + 300);
    work.overwrite(300, stale);
    t.match(await work.verified(), { bad: 1 }, 'a write that was acknowledged and lost');
    const torn = work.read(SLOTS + 300);
    work.overwrite(300, torn);
  },
);

await t.test(
  'a batch that was being written when the plug was pulled is not held against the disk',
  { skip },
  async t => {
    const work = new Work(t);
    await work.until(fact => fact.fact === 'written' && fact.upto >= 160);
    const { upto } = await work.verified();
    // The verification above was followed by more writing: look at what there is now.
    const now = await work.verified();
    work.overwrite(now.upto + 3, Buffer.alloc(100, 'x'));
    t.match(await work.verified(), { bad: 0 });
    t.ok(now.upto >= upto);
  },
);
