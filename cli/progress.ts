/**
 * Progress of anything that takes longer than a second. On a terminal: lines in place, with a spinner. Elsewhere:
 * a plain line whenever something has changed, so that a log reads well. It goes to stderr; answers go to stdout.
 */
import type { Session } from './session.js';
import { truncate } from './width.js';

export interface ProgressRow {
  key: string;
  state: 'busy' | 'ok' | 'failed';
  text: string;
  /** Nothing has happened yet: worth a place on a terminal, not a line in a log. */
  waiting?: boolean;
}

export interface Progress {
  /** The rows as they are now, in the order to show them. */
  update(rows: readonly ProgressRow[]): void;
  /** A line that stays, above the rows. */
  note(line: string): void;
  /** Leaves the last rows standing (or wipes them), and is silent from here on. */
  end(options?: { wipe?: boolean }): void;
}

const FRAMES = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
const ASCII_FRAMES = ['|', '/', '-', '\\'];
const TURN_MS = 100;
/** Nothing is drawn for what is over sooner. */
const PATIENCE_MS = 400;

export function startProgress(session: Session): Progress {
  const live = session.io.stderr.isTTY === true && session.io.env['TERM'] !== 'dumb';
  // One thing at a time is drawn in place; what begins meanwhile says its lines above it.
  return live && session.drawing === null ? new LiveProgress(session) : new PlainProgress(session);
}

/** For one thing with one line. */
export async function withProgress<T>(
  session: Session,
  text: string,
  work: (say: (text: string) => void) => Promise<T>,
): Promise<T> {
  const progress = startProgress(session);
  progress.update([{ key: 'one', state: 'busy', text }]);
  try {
    const result = await work(next => progress.update([{ key: 'one', state: 'busy', text: next }]));
    progress.end({ wipe: true });
    return result;
  } catch (error) {
    progress.end({ wipe: true });
    throw error;
  }
}

class PlainProgress implements Progress {
  readonly #session: Session;
  readonly #said = new Map<string, string>();

  constructor(session: Session) {
    this.#session = session;
  }

  update(rows: readonly ProgressRow[]): void {
    for (const row of rows) {
      const line = `${row.state === 'failed' ? 'failed: ' : ''}${row.text}`;
      if (row.waiting === true || this.#said.get(row.key) === line) continue;
      this.#said.set(row.key, line);
      this.#session.say(line);
    }
  }

  note(line: string): void {
    this.#session.say(line);
  }

  end(): void {
    this.#said.clear();
  }
}

class LiveProgress implements Progress {
  readonly #session: Session;
  readonly #timer: NodeJS.Timeout;
  readonly #frames: readonly string[];
  #rows: readonly ProgressRow[] = [];
  #turn = 0;
  #drawn = 0;

  constructor(session: Session) {
    this.#session = session;
    const locale = session.io.env['LC_ALL'] ?? session.io.env['LC_CTYPE'] ?? session.io.env['LANG'] ?? '';
    this.#frames = /utf-?8/i.test(locale) ? FRAMES : ASCII_FRAMES;
    this.#timer = setInterval(() => {
      this.#turn++;
      if (this.#turn * TURN_MS >= PATIENCE_MS) this.#draw();
    }, TURN_MS);
    this.#timer.unref();
    session.drawing = this;
  }

  update(rows: readonly ProgressRow[]): void {
    this.#rows = rows;
    if (this.#drawn > 0) this.#draw();
  }

  note(line: string): void {
    const wasDrawn = this.#drawn > 0;
    this.#session.io.stderr.write(`${this.#erase()}${line}\n`);
    this.#drawn = 0;
    if (wasDrawn) this.#draw();
  }

  end(options: { wipe?: boolean } = {}): void {
    clearInterval(this.#timer);
    this.#session.drawing = null;
    const shown = this.#drawn > 0 && options.wipe !== true;
    this.#session.io.stderr.write(this.#erase());
    this.#drawn = 0;
    if (shown)
      this.#session.io.stderr.write(
        this.#lines(Infinity)
          .map(line => `${line}\n`)
          .join(''),
      );
    this.#rows = [];
  }

  #draw(): void {
    const room = Math.max(1, (this.#session.io.stderr.rows ?? 24) - 2);
    const lines = this.#lines(room);
    this.#session.io.stderr.write(this.#erase() + lines.map(line => `${line}\n`).join(''));
    this.#drawn = lines.length;
  }

  #erase(): string {
    return this.#drawn === 0 ? '' : `\u001b[${this.#drawn}A\u001b[J`;
  }

  #lines(room: number): string[] {
    const style = this.#session.err;
    const columns = (this.#session.io.stderr.columns ?? 80) - 1;
    // What is done makes way when there is not room for all.
    const rows =
      this.#rows.length <= room
        ? this.#rows
        : [
            ...this.#rows.filter(row => row.state !== 'ok'),
            ...this.#rows.filter(row => row.state === 'ok'),
          ].slice(0, room);
    return rows.map(row => {
      const text = truncate(row.text.replaceAll('\n', ' '), columns - 2);
      if (row.state === 'ok') return `${style.green(this.#frames === FRAMES ? '✓' : '+')} ${text}`;
      if (row.state === 'failed') return `${style.red(this.#frames === FRAMES ? '✗' : 'x')} ${text}`;
      return `${style.cyan(this.#frames[this.#turn % this.#frames.length] ?? '')} ${text}`;
    });
  }
}
