import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import {
  characterDevice,
  directory,
  emitCpio,
  file,
  link,
  parseCpio,
  type CpioEntry,
} from '../../../control/image/cpio.js';

const name = fc
  .string({ minLength: 1, maxLength: 30, unit: 'grapheme' })
  .filter(text => !text.includes('\0') && text !== 'TRAILER!!!');

const entry: fc.Arbitrary<CpioEntry> = fc.record({
  path: name,
  mode: fc.integer({ min: 0, max: 0o177777 }),
  data: fc.uint8Array({ maxLength: 300 }),
  rdevMajor: fc.nat(255),
  rdevMinor: fc.nat(255),
});

await t.test('what is written is read back', async t => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 8 }), entries => {
      t.same(parseCpio(emitCpio(entries)), entries);
    }),
  );
});

await t.test('odd bytes are no archive, and no exception', async t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), bytes => {
      t.equal(parseCpio(bytes), undefined);
    }),
  );
  const good = emitCpio([file('a', new Uint8Array(100))]);
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.nat(255), (at, value) => {
      const bytes = good.slice();
      bytes[at] = value;
      parseCpio(bytes);
      parseCpio(good.subarray(0, at));
    }),
  );
  t.throws(() => emitCpio([file('', new Uint8Array(0))]), RangeError);
  t.throws(() => emitCpio([file('a\0b', new Uint8Array(0))]), RangeError);
});

const hasCpio = spawnSync('cpio', ['--version']).status === 0;

await t.test(
  'cpio(1) reads it as it was meant',
  { skip: hasCpio ? false : 'cpio is not installed' },
  async t => {
    const place = mkdtempSync(join(tmpdir(), 'weft-cpio-'));
    t.teardown(() => rmSync(place, { recursive: true }));
    const bytes = emitCpio([
      directory('bin'),
      file('bin/tool', new TextEncoder().encode('hello\n'), 0o755),
      link('bin/other', 'tool'),
    ]);
    execFileSync('cpio', ['-id', '--quiet'], { cwd: place, input: bytes });
    t.equal(readFileSync(join(place, 'bin/other'), 'utf8'), 'hello\n');
    const listed = execFileSync('cpio', ['-itv', '--quiet'], {
      input: emitCpio([characterDevice('dev/console', 5, 1)]),
    });
    t.match(listed.toString(), /^crw-------.* 5, +1 .* dev\/console$/m);
  },
);
