/** scripts/testing/tap.js: what `npm test` counts. The stream is one that tap itself has printed. */
import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';

interface Counts {
  passed: number;
  failed: number;
  skipped: number;
  todo: number;
}

interface Failure {
  path: string[];
  diagnostics: string[];
}

interface How {
  ok: boolean;
  took_ms: number | null;
  failures: Failure[];
}

interface Reader {
  counts: Counts;
  failures: Failure[];
  skips: { path: string[]; reason: string }[];
  onTop: (name: string, counts: Counts, how: How) => void;
  push(text: string): void;
  end(name: string, problem: string | null): void;
}

const { TapReader } = (await import(new URL('../../../../scripts/testing/tap.js', import.meta.url).href)) as {
  TapReader: new () => Reader;
};

const STREAM = `TAP version 14
1..5
# Subtest: a.test.js
    # Subtest: x
        ok 1 - should be equal
        ok 2 - sk # SKIP why
        not ok 3 - td # TODO later
        # Subtest: deep
            ok 1 - an ok { name with \\# signs
            1..1
        ok 4 - deep # time=1.817ms
        
        1..4
    ok 1 - x # time=7.559ms
    
    ok 2 - skipped whole # SKIP no root
    # Subtest: empty
        1..0
    ok 3 - empty # time=0.239ms
    
    1..3
    # time=19.779ms
ok 1 - a.test.js # time=19.779ms

# Subtest: b.test.js
    # Subtest: bad
        not ok 1 - should be equal
          ---
          source: |
            ok 9 - not a result but a line of source
            not ok 10 - neither
          diff: |
            -2
            +1
          ...
        
        1..1
    not ok 1 - bad # time=27.378ms
      ---
      at: somewhere
      ...
    
    not ok 2 - boom
      ---
      tapCaught: unhandledRejection
      ...
    
    1..2
not ok 2 - b.test.js # time=356.087ms
  ---
  exitCode: 1
  ...

# Subtest: d.test.js
    not tap at all
    1..0 # no tests found
not ok 3 - d.test.js # time=1358.844ms
  ---
  signal: SIGKILL
  ...

# Subtest: e.test.js
    1..0 # needs root
ok 4 - e.test.js # SKIP needs root

# Subtest: c.test.js
    ok 1 - should be equal
    1..1
not ok 5 - c.test.js # time=12.082ms
  ---
  exitCode: 3
  ...

# No coverage generated
# { total: 12, pass: 4, fail: 4, todo: 1, skip: 3 }
`;

function read(text: string, size = text.length, problem: string | null = null): Reader {
  const reader = new TapReader();
  for (let at = 0; at < text.length; at += size) reader.push(text.slice(at, at + size));
  reader.end('file', problem);
  return reader;
}

await t.test('leaves are counted, crashes and exit codes count as failures', async t => {
  const tops: [string, Counts, How][] = [];
  const reader = new TapReader();
  reader.onTop = (...args) => tops.push(args);
  reader.push(STREAM);
  reader.end('tap', 'it ended with exit code 1');
  t.same(reader.counts, { passed: 4, failed: 4, skipped: 3, todo: 1 });
  t.same(
    tops.map(([name, counts, { ok, took_ms, failures }]) => [name, counts, ok, took_ms, failures.length]),
    [
      ['a.test.js', { passed: 3, failed: 0, skipped: 2, todo: 1 }, true, 19.779, 0],
      ['b.test.js', { passed: 0, failed: 2, skipped: 0, todo: 0 }, false, 356.087, 2],
      ['d.test.js', { passed: 0, failed: 1, skipped: 0, todo: 0 }, false, 1358.844, 1],
      ['e.test.js', { passed: 0, failed: 0, skipped: 1, todo: 0 }, true, null, 0],
      ['c.test.js', { passed: 1, failed: 1, skipped: 0, todo: 0 }, false, 12.082, 1],
    ],
  );
  t.same(tops[2]?.[2].failures[0]?.diagnostics, ['signal: SIGKILL'], 'a file is told with all that it says');
  t.same(
    reader.failures.map(({ path }) => path.join(' > ')),
    ['b.test.js > bad > should be equal', 'b.test.js > boom', 'd.test.js', 'c.test.js'],
  );
  t.match(reader.failures[0]?.diagnostics.join('\n'), '-2');
  t.match(reader.failures[2]?.diagnostics.join('\n'), 'signal: SIGKILL');
  t.same(
    reader.skips.map(({ reason }) => reason),
    ['why', 'no root', 'needs root'],
  );
});

await t.test('where the stream is cut makes no difference', async () => {
  const whole = read(STREAM).counts;
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), size => assert.deepEqual(read(STREAM, size).counts, whole)),
  );
});

await t.test('a file run by itself', async t => {
  t.same(read('TAP version 14\n# Subtest: a\n    ok 1 - x\n    1..1\nok 1 - a\n1..1\n').counts.passed, 1);
  t.match(read('TAP version 14\n1..0 # SKIP needs root\n'), {
    counts: { skipped: 1, failed: 0 },
    skips: [{ reason: 'needs root' }],
  });
});

await t.test('what must never count as a success', async t => {
  t.equal(read('').counts.failed, 1, 'no output');
  t.equal(read('hello\n').counts.failed, 1, 'no results');
  t.equal(read('ok 1 - a\n', 100, 'it was ended by SIGKILL').counts.failed, 1, 'killed after a success');
  t.equal(read('ok 1 - a\nBail out! no more\n').counts.failed, 1, 'bailed out');
  t.same(
    read('not ok 1 - a\n', 100, 'exit code 1').counts,
    { passed: 0, failed: 1, skipped: 0, todo: 0 },
    'once, not twice',
  );
});
