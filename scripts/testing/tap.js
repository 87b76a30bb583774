/**
 * Reads a TAP 14 stream as it comes and counts its leaves: assertions, not the lines that only sum up a subtest. A
 * subtest that failed without a failed leaf (a crash, an exit code, a broken plan) counts as one failure; one that was skipped whole
 * as one skip. A failed leaf marked TODO is no failure.
 *
 *   # Subtest: a            opens depth 1
 *       ok 1 - leaf         leaf
 *       not ok 2 - leaf     leaf, with diagnostics between --- and ...
 *       1..2
 *   not ok 1 - a            sums up depth 1: no leaf
 */
const POINT =
  /^(not )?ok\b(?: +(\d+))?(?: +- *| +)?(.*?)(?:\s+#\s*(SKIP|TODO)\b[:\s]*(.*?))?(?:\s+# time=([\d.]+)ms.*)?$/i;
const PLAN = /^(\d+)\.\.(\d+)(?:\s*#\s*(.*))?$/;
const MAX_DIAGNOSTIC_LINES = 200;

export const nothing = () => ({ passed: 0, failed: 0, skipped: 0, todo: 0 });

export class TapReader {
  counts = nothing();
  /** {path: string[], diagnostics: string[]} of each failure. */
  failures = [];
  /** {path: string[], reason: string} of each skip. */
  skips = [];
  /**
   * Called after each test point of depth 0 and its diagnostics: (name, counts, {ok, took_ms, failures}) with what was counted and
   * what failed below it; `took_ms` is null when it was not said.
   */
  onTop = () => undefined;

  #rest = '';
  /** For each depth: what was seen of it since its last test point. */
  #levels = [newLevel()];
  #diagnosticsEnd = null;
  #lastFailure = null;
  #sawAnything = false;
  /** The last test point of depth 0, until it is known that no more diagnostics of it come. */
  #top = null;
  #toldFailures = 0;

  push(text) {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line.replace(/\r$/, ''));
  }

  /** `problem`: how the program ended, when that was no success; null otherwise. */
  end(name, problem) {
    if (this.#rest !== '') this.#line(this.#rest);
    this.#rest = '';
    this.#tellTop();
    if (problem !== null && this.counts.failed === 0) this.#fail([name], [problem]);
    else if (!this.#sawAnything) this.#fail([name], ['it printed no test results']);
  }

  #line(line) {
    const indent = /^ */.exec(line)[0].length;
    const text = line.slice(indent);
    if (this.#diagnosticsEnd !== null) {
      if (text === '...' && indent === this.#diagnosticsEnd) this.#diagnosticsEnd = null;
      else if (this.#lastFailure !== null && this.#lastFailure.diagnostics.length < MAX_DIAGNOSTIC_LINES) {
        this.#lastFailure.diagnostics.push(line.slice(Math.min(indent, this.#diagnosticsEnd)));
      }
      return;
    }
    if (text === '---') {
      this.#diagnosticsEnd = indent;
      return;
    }
    this.#tellTop();
    if (text === '' || indent % 4 !== 0) return;
    const depth = indent / 4;
    if (text.startsWith('# Subtest')) {
      // The comment may stand at the parent's depth (TAP 14, as here) or at the child's.
      this.#level(depth).name = text.replace(/^# Subtest:? ?/, '');
      return;
    }
    if (text.startsWith('Bail out!')) {
      this.#fail(this.#path(depth), [text]);
      return;
    }
    const plan = PLAN.exec(text);
    if (plan !== null) {
      this.#sawAnything = true;
      this.#level(depth).used = true;
      if (plan[2] === '0' && depth === 0 && plan[3] !== undefined) {
        this.counts.skipped++;
        this.skips.push({ path: [], reason: plan[3].replace(/^skip:?\s*/i, '') });
      }
      return;
    }
    const point = POINT.exec(text);
    if (point !== null) this.#point(depth, point);
  }

  #point(depth, [, not, , escapedName, directive, reason, time]) {
    this.#sawAnything = true;
    const rawName = escapedName.replaceAll('\\#', '#');
    const level = this.#level(depth);
    level.used = true;
    const child = this.#levels[depth + 1];
    const sumsUp = child?.used === true;
    const before = level.before ?? nothing();
    const path = [...this.#path(depth), rawName];
    const counted = this.counts.passed + this.counts.failed + this.counts.skipped + this.counts.todo;
    const countedBefore = before.passed + before.failed + before.skipped + before.todo;
    if (!sumsUp || counted === countedBefore || (not !== undefined && this.counts.failed === before.failed)) {
      const kind = directive?.toUpperCase();
      if (kind === 'SKIP') {
        this.counts.skipped++;
        this.skips.push({ path, reason: reason ?? '' });
      } else if (kind === 'TODO') this.counts.todo++;
      else if (not !== undefined) this.#fail(path, []);
      // A subtest without assertions, such as one whose property would have thrown; a file without tests is none.
      else if (!sumsUp || !rawName.endsWith('.test.js')) this.counts.passed++;
    } else this.#lastFailure = null;
    this.#levels.length = depth + 1;
    level.name = null;
    level.before = { ...this.counts };
    if (depth === 0) {
      const took_ms = time === undefined ? null : Number(time);
      this.#top = { name: rawName, counts: difference(this.counts, before), ok: not === undefined, took_ms };
    }
  }

  #tellTop() {
    if (this.#top === null) return;
    const { name, counts, ok, took_ms } = this.#top;
    this.#top = null;
    const failures = this.failures.slice(this.#toldFailures);
    this.#toldFailures = this.failures.length;
    this.onTop(name, counts, { ok, took_ms, failures });
  }

  #fail(path, diagnostics) {
    this.counts.failed++;
    this.#lastFailure = { path, diagnostics: [...diagnostics] };
    this.failures.push(this.#lastFailure);
  }

  #level(depth) {
    while (this.#levels.length <= depth) this.#levels.push({ ...newLevel(), before: { ...this.counts } });
    return this.#levels[depth];
  }

  #path(depth) {
    return this.#levels.slice(0, depth).flatMap(({ name }) => (name === null ? [] : [name]));
  }
}

function newLevel() {
  return { name: null, used: false, before: null };
}

function difference(now, before) {
  return Object.fromEntries(Object.entries(now).map(([key, value]) => [key, value - before[key]]));
}

export function add(to, counts) {
  for (const key of Object.keys(to)) to[key] += counts[key];
}
