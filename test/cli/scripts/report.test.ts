/** scripts/testing/report.js: what a run says of what failed, at once and at its end. */
import t from 'tap';

interface Failure {
  file: string;
  path: string[];
  diagnostics: string[];
}

interface Report {
  fileLine: (
    file: string,
    counts: object,
    how: { ok: boolean; took_ms: number | null; failures: Failure[] },
  ) => string;
  failureLines: (failure: Failure) => string[];
  summaryLines: (all: Failure[]) => string[];
  slowLines: (files: { file: string; took_ms: number }[]) => string[];
}

const { fileLine, failureLines, summaryLines, slowLines } = (await import(
  new URL('../../../../scripts/testing/report.js', import.meta.url).href
)) as Report;

const API = 'dist/test/control/api/api.test.js';

/** As tap prints it. */
const DIFFERS: Failure = {
  file: API,
  path: [API, 'not settled', 'its disk is served still'],
  diagnostics: `diff: |
  --- expected
  +++ actual
  @@ -1,1 +1,1 @@
  -1
  +0
at:
  fileName: test/control/api/api.test.ts
  lineNumber: 233
  columnNumber: 5
  generated:
    fileName: dist/test/control/api/api.test.js
    lineNumber: 200
stack: |
  Test.<anonymous> (test/control/api/api.test.ts:233:5)
source: |
  t.equal(1, 0)`.split('\n'),
};

const ENDED: Failure = {
  file: 'dist/test/a.test.js',
  path: ['dist/test/a.test.js'],
  diagnostics: ['exitCode: null', 'signal: SIGKILL', 'at:', '  lineNumber: 3'],
};

const counts = { passed: 188, failed: 1, skipped: 0, todo: 0 };

await t.test('the line of a file says what failed in it', async t => {
  const told = (failures: Failure[]): string => fileLine(API, counts, { ok: false, took_ms: 1234, failures });
  t.equal(
    told([DIFFERS]),
    'FAILED test/control/api/api: 188 passed, 1 failed (1.2 s): "not settled > its disk is served still"',
  );
  t.match(told(Array.from({ length: 20 }, () => DIFFERS)), /still", 15 more$/);
  t.equal(
    fileLine('dist/test/a.test.js', counts, { ok: false, took_ms: null, failures: [ENDED] }),
    'FAILED test/a: 188 passed, 1 failed: "the file"',
  );
  t.equal(
    fileLine(API, { ...counts, failed: 0 }, { ok: true, took_ms: 20_400, failures: [] }),
    'ok     test/control/api/api: 188 passed (20 s)',
  );
});

await t.test('at the end each failure once more: name, place, difference', async t => {
  t.same(summaryLines([DIFFERS, ENDED, { ...DIFFERS, diagnostics: [] }]), [
    'FAILED test/control/api/api',
    '    not settled > its disk is served still   test/control/api/api.test.ts:233',
    '        -1',
    '        +0',
    '    not settled > its disk is served still',
    'FAILED test/a',
    '    the file',
    '        exitCode: null',
    '        signal: SIGKILL',
  ]);
  t.same(summaryLines([]), []);
});

await t.test('what is long is cut', async t => {
  const long = Array.from({ length: 200 }, (_, i) => `  +line ${i}`);
  const failure = { ...DIFFERS, diagnostics: ['diff: |', ...long, ...DIFFERS.diagnostics.slice(6)] };
  t.equal(failureLines(failure).length, 42);
  const brief = summaryLines([failure]);
  t.equal(brief.length, 2 + 12 + 1);
  t.match(brief[1], /api\.test\.ts:233$/, 'its place is told all the same');
});

await t.test('the slowest files, slowest first, without those that took no time', async t => {
  t.same(
    slowLines([
      { file: 'dist/test/quick.test.js', took_ms: 900 },
      { file: 'dist/test/b.test.js', took_ms: 2500 },
      { file: 'dist/test/lab/a.test.js', took_ms: 132_400 },
    ]),
    ['   132 s  test/lab/a', '   2.5 s  test/b'],
  );
});
