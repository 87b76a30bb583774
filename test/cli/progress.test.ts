/** Progress: plain lines that do not repeat themselves, lines in place on a terminal. */
/* oxlint-disable no-control-regex -- escape sequences are what this is about */
import t from 'tap';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { startProgress, withProgress } from '../../cli/progress.js';
import { Session, type OutputStream } from '../../cli/session.js';

interface SetUp {
  session: Session;
  said: () => string;
  /** Until rows are shown, which is not at once. */
  drawn: () => Promise<void>;
}

function setUp(tty: boolean, env: Record<string, string> = {}): SetUp {
  const stderr: PassThrough & OutputStream = new PassThrough();
  if (tty) Object.assign(stderr, { isTTY: true, columns: 30, rows: 6 });
  let text = '';
  stderr.setEncoding('utf8').on('data', piece => (text += String(piece)));
  const session = new Session({
    stdin: new PassThrough(),
    stdout: new PassThrough(),
    stderr,
    env: { LANG: 'C.UTF-8', NO_COLOR: '1', ...env },
    cwd: '/',
    uid: 1,
    home: '/',
    onSignal: () => () => undefined,
  });
  const drawn = async (): Promise<void> => {
    while (text === '') await sleep(10);
  };
  return { session, said: () => text, drawn };
}

/** What a terminal would show: cursor up and erase are all that progress uses. */
function screen(text: string): string[] {
  const lines: string[] = [''];
  for (const piece of text.split(/(\n|\u001b\[\d*[A-Z])/)) {
    const up = /^\u001b\[(\d+)A$/.exec(piece);
    if (piece === '\n') lines.push('');
    else if (up !== null) lines.splice(lines.length - 1 - Number(up[1]), Infinity, '');
    else if (piece !== '\u001b[J') lines[lines.length - 1] += piece;
  }
  return lines.filter(line => line !== '');
}

const busy = (key: string, text: string) => ({ key, state: 'busy' as const, text });
const ok = (key: string, text: string) => ({ key, state: 'ok' as const, text });

await t.test('not a terminal: a line when something has changed, none when not', async t => {
  const { session, said } = setUp(false);
  const progress = startProgress(session);
  progress.update([busy('a', 'a: starting'), busy('b', 'b: starting')]);
  progress.update([busy('a', 'a: starting'), { key: 'b', state: 'failed', text: 'b: no' }]);
  progress.note('a remark');
  progress.update([ok('a', 'a: ready'), { ...busy('c', 'c: nothing yet'), waiting: true }]);
  progress.end();
  t.equal(said(), 'a: starting\nb: starting\nfailed: b: no\na remark\na: ready\n');
});

await t.test('a terminal: lines in place, cut to its width, notes above', async t => {
  const { session, said, drawn } = setUp(true);
  const progress = startProgress(session);
  progress.update([busy('a', 'a: starting'), busy('b', `b: ${'long '.repeat(20)}`)]);
  await drawn();
  t.match(screen(said()), [/^[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏] a: starting$/, /^. b: (long )+lon…$/]);
  progress.note('a remark');
  progress.update([ok('a', 'a: ready'), ok('b', 'b: ready')]);
  t.same(screen(said()), ['a remark', '✓ a: ready', '✓ b: ready']);
  progress.end();
  t.same(screen(said()), ['a remark', '✓ a: ready', '✓ b: ready']);
});

await t.test('a terminal: what is said meanwhile, or begins meanwhile, goes above the rows', async t => {
  const { session, said, drawn } = setUp(true);
  const progress = startProgress(session);
  progress.update([busy('a', 'a: starting')]);
  await drawn();
  session.say('weftd died');
  t.equal(await withProgress(session, 'starting it again', async () => 1), 1);
  t.match(screen(said()), ['weftd died', 'starting it again', /. a: starting/]);
  progress.end();
  session.say('after');
  t.match(screen(said()).at(-1), 'after');
});

await t.test('a terminal: more rows than lines: what is done makes way', async t => {
  const { session, said, drawn } = setUp(true);
  const progress = startProgress(session);
  const rows = 'abcdefgh'.split('').map((key, i) => (i < 4 ? ok(key, key) : busy(key, key)));
  progress.update(rows);
  await drawn();
  t.equal(screen(said()).length, 4);
  t.match(screen(said()).join(''), /e.*f.*g.*h/);
  progress.end({ wipe: true });
  t.same(screen(said()), []);
});

await t.test('what is over soon leaves no trace on a terminal', async t => {
  const { session, said } = setUp(true);
  t.equal(await withProgress(session, 'quick', async () => 7), 7);
  t.equal(said(), '');
});

await t.test('a dumb terminal gets plain lines, a terminal without UTF-8 gets ASCII', async t => {
  const dumb = setUp(true, { TERM: 'dumb' });
  const progress = startProgress(dumb.session);
  progress.update([busy('a', 'x')]);
  progress.end();
  t.equal(dumb.said(), 'x\n');
  const ascii = setUp(true, { LANG: 'C' });
  const spinning = startProgress(ascii.session);
  spinning.update([busy('a', 'x')]);
  await ascii.drawn();
  spinning.end();
  t.match(ascii.said(), /^[\x00-\x7f]*$/);
});
