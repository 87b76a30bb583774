/**
 * Where the engine's thread asks for shortcuts, and waits for nothing: the answer comes with a later turn. One per
 * engine; engine/main.ts says where the questions go.
 */
import { close } from '../../../host/raw.js';
import type { ShortcutAsk, ShortcutReply } from './messages.js';
import type { ShortcutRequest } from './shortcut.js';

export type Opened = (reply: ShortcutReply) => void;

export class ShortcutDesk {
  #nextId = 1;
  readonly #waiting = new Map<number, Opened>();
  /** Undefined: nobody opens shortcuts here (a test, an engine by itself). */
  send: ((ask: ShortcutAsk) => void) | undefined;

  /** 0 when nobody would answer. `opened` is called once, unless the shortcut is closed before. */
  open(request: ShortcutRequest, opened: Opened): number {
    if (this.send === undefined) {
      if (request.netns !== undefined) close(request.netns);
      return 0;
    }
    const id = this.#nextId++;
    this.#waiting.set(id, opened);
    this.send({ op: 'open', id, request });
    return id;
  }

  /** Also one that is not open yet. */
  close(id: number): void {
    this.#waiting.delete(id);
    this.send?.({ op: 'close', id });
  }

  take(reply: ShortcutReply): void {
    const opened = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (opened !== undefined) opened(reply);
    else if ('filter' in reply && reply.filter !== undefined) close(reply.filter);
  }
}

export const desk = new ShortcutDesk();
