/** A smoke run of every target with a seed of the day's run, and proof that the harness notices faults. */
import t from 'tap';
import assert from 'node:assert';
import { inputAt, loadTarget, runOne, targetNames } from './harness.js';
import type { Target } from './harness.js';
import { Random } from './random.js';
import { firstSeed } from '../seed.js';

const ITERATIONS = 100;
const SEED = Number(process.env['WEFT_FUZZ_SEED'] ?? firstSeed);

t.comment(`seed ${SEED}; WEFT_FUZZ_SEED=${SEED} repeats it`);

for (const name of targetNames())
  await t.test(name, async t => {
    const target = await loadTarget(name);
    t.ok(target.says.length > 0 && !target.says.includes('\n'));
    t.ok(target.samples.length > 0, 'has samples');
    let fault = '';
    for (let iteration = 0; iteration < ITERATIONS + target.samples.length && fault === ''; iteration++)
      try {
        runOne(target, SEED, iteration);
      } catch (error) {
        fault = `npm run fuzz -- ${name} ${SEED} @${iteration}: ${String(error)}`;
      }
    t.equal(fault, '');
  });

await t.test('an iteration is the same again', async t => {
  const [name] = targetNames();
  const target = await loadTarget(name!);
  for (let iteration = 0; iteration < 50; iteration++) {
    const [one, two] = [inputAt(target, 7, iteration), inputAt(target, 7, iteration)];
    t.same(one.input, two.input);
    t.equal(one.random.u32(), two.random.u32());
  }
  t.notSame(inputAt(target, 7, 1000).input, inputAt(target, 8, 1000).input);
});

await t.test('a fault behind a length field is found', async t => {
  // Trusts the length in front of it, as bad parsers do.
  const target: Target = {
    says: 'a planted fault',
    samples: [Uint8Array.of(0, 4, 1, 2, 3, 4)],
    run(input) {
      if (input.length < 2) return;
      const length = (input[0]! << 8) | input[1]!;
      assert(length <= input.length - 2 || length > 1000, 'read beyond the end');
    },
  };
  let found = false;
  for (let iteration = 0; iteration < 2000 && !found; iteration++)
    try {
      runOne(target, SEED, iteration);
    } catch {
      found = true;
    }
  t.ok(found);
});

await t.test('random numbers are spread', async t => {
  const counts = Array.from({ length: 16 }, () => 0);
  for (let iteration = 0; iteration < 16_000; iteration++) counts[new Random(1, iteration).below(16)]!++;
  t.ok(
    counts.every(count => count > 700 && count < 1300),
    counts.join(' '),
  );
});
