/** The state directory: made with the modes of ARCHITECTURE.md, and locked, so that one weftd has it. */
import * as fs from 'node:fs';
import { dirname } from 'node:path';
import { HostError } from '../../host/errno.js';
import { O_CREAT, O_RDWR, flock, openFile } from '../../host/file.js';
import { layoutOf } from '../model/layout.js';
import type { Layout } from '../model/layout.js';
import { StoreError } from './errors.js';

/** As root the guests' users pass through to their own directories. */
const PASSABLE = 0o711;
const PRIVATE = 0o700;

/**
 * Step by step: mkdir's own `recursive` never returns where a parent exists and still takes no directories (as
 * /proc).
 */
function makeWithParents(path: string, mode: number): void {
  if (fs.existsSync(path)) return;
  if (dirname(path) !== path) makeWithParents(dirname(path), mode);
  fs.mkdirSync(path, { mode });
}

function make(path: string, mode: number): void {
  makeWithParents(path, mode);
  const { mode: is, uid } = fs.statSync(path);
  // An older one, or one made under another umask.
  if ((is & 0o777) !== mode && uid === process.geteuid?.()) fs.chmodSync(path, mode);
}

export function openStateDirectory(state: string): Layout {
  const layout = layoutOf(state);
  const passable = process.geteuid?.() === 0 ? PASSABLE : PRIVATE;
  try {
    make(layout.state, passable);
    make(layout.run, passable);
    make(layout.machines, passable);
    make(layout.images, passable);
    for (const path of [layout.store, layout.pools, layout.logs, layout.exports, `${layout.run}/fill`])
      make(path, PRIVATE);
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    throw new StoreError(
      'STORE_IO',
      `cannot use the state directory ${state}: ${words}; choose another with --state DIR or WEFT_STATE`,
      { cause: error },
    );
  }
  return layout;
}

/** Held until the process ends; the fd is close-on-exec, so no plane and no guest inherits it. */
export function lockStateDirectory(layout: Layout): void {
  const fd = openFile(layout.lock, O_RDWR | O_CREAT, 0o600);
  try {
    flock(fd, true, layout.lock);
  } catch (error) {
    if (!(error instanceof HostError) || error.code !== 'EAGAIN') throw error;
    const pid = fs.readFileSync(layout.lock, 'utf8').trim();
    throw new StoreError(
      'STORE_LOCKED',
      `another weftd (process ${pid === '' ? 'unknown' : pid}) runs on ${layout.state}: one state directory has one weftd. Use that one, or choose another directory with --state DIR`,
      { cause: error },
    );
  }
  fs.ftruncateSync(fd, 0);
  fs.writeSync(fd, `${process.pid}\n`, 0);
}
