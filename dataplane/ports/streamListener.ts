/**
 * The listening socket of a stream port. The socket file belongs to whom its directory belongs to (a guest's
 * user, usually) and is for that user alone. A file that a process left behind is replaced, one that is served
 * is refused.
 */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { EPOLLIN } from '../../host/epoll.js';
import { lstat } from '../../host/file.js';
import { ownIds } from '../../host/process.js';
import * as raw from '../../host/raw.js';
import { listenUnix } from '../../host/unix.js';
import { EAGAIN, EINTR } from '../../host/errno.js';
import type { Loop, Watcher } from '../engine/loop.js';
import { Timer } from '../engine/timers.js';

/** After accept failed for want of fds or memory: it would fail again at once, and epoll would not let us sleep. */
const PAUSE_MS = 1000;

export class StreamListener implements Watcher {
  readonly #loop: Loop;
  readonly #path: string;
  readonly #accepted: (fd: number) => void;
  readonly #fd: number;
  #token: number;
  readonly #resume: Timer;

  /** `owner`: another than the directory's. */
  constructor(
    loop: Loop,
    path: string,
    accepted: (fd: number) => void,
    owner?: { uid: number; gid: number },
  ) {
    this.#loop = loop;
    this.#path = path;
    this.#accepted = accepted;
    const directory = lstat(dirname(path));
    const given = owner ?? (directory === undefined ? undefined : { uid: directory.uid, gid: directory.gid });
    this.#fd = listenUnix(path, {
      mode: 0o600,
      replaceStale: true,
      ...(given !== undefined && ownIds().euid === 0 ? { owner: given } : {}),
    });
    this.#token = loop.watch(this.#fd, EPOLLIN, this);
    this.#resume = new Timer(() => (this.#token = loop.watch(this.#fd, EPOLLIN, this)));
  }

  ready(): void {
    let fd = raw.accept(this.#fd);
    for (; fd >= 0; fd = raw.accept(this.#fd)) this.#accepted(fd);
    if (fd === -EAGAIN || fd === -EINTR) return;
    this.#loop.unwatch(this.#token);
    this.#token = -1;
    this.#loop.timers.arm(this.#resume, this.#loop.now_ms + PAUSE_MS);
  }

  close(): void {
    this.#loop.timers.cancel(this.#resume);
    if (this.#token >= 0) this.#loop.unwatch(this.#token);
    raw.close(this.#fd);
    rmSync(this.#path, { force: true });
  }
}
