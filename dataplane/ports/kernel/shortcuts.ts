/**
 * Opens and closes shortcuts as the engine asks, in the thread beside it. The first question makes what all share:
 * the claim on a name, and the sweeping up of what a killed process left behind.
 */
import { EINVAL, EPERM, HostError } from '../../../host/errno.js';
import { close } from '../../../host/raw.js';
import { Conduits } from './conduits.js';
import type { ShortcutAsk, ShortcutReply } from './messages.js';
import { Shortcut } from './shortcut.js';

export class Shortcuts {
  readonly #open = new Map<number, Shortcut>();
  readonly #warn: (message: string) => void;
  #conduits: Conduits | undefined;

  constructor(warn: (message: string) => void) {
    this.#warn = warn;
  }

  /** At the start of the process. An ordinary user may remove nothing, and left nothing. */
  removeLeftovers(): void {
    try {
      const removed = this.#shared().removeLeftovers();
      if (removed.length > 0) this.#warn(`removed what a killed weft-dataplane left: ${removed.join(', ')}`);
    } catch (error) {
      if (!(error instanceof HostError) || error.errno !== EPERM) this.#warn(`left-overs: ${wordsOf(error)}`);
    }
  }

  #shared(): Conduits {
    this.#conduits ??= new Conduits(() => Math.random());
    return this.#conduits;
  }

  /** Null for what needs no answer. */
  take(ask: ShortcutAsk): ShortcutReply | null {
    if (ask.op === 'close') {
      this.#close(ask.id);
      return null;
    }
    const { id, request } = ask;
    try {
      const shortcut = new Shortcut(request, this.#shared());
      this.#open.set(id, shortcut);
      return { id, way: shortcut.way, filter: shortcut.takeFilter() };
    } catch (error) {
      return { id, reason: whyNot(error) };
    } finally {
      if (request.netns !== undefined) close(request.netns);
    }
  }

  #close(id: number): void {
    try {
      this.#open.get(id)?.close();
    } catch (error) {
      this.#warn(`taking back a shortcut: ${wordsOf(error)}`);
    }
    this.#open.delete(id);
  }

  /** At the end of the process, which closes the hooks; those of conduits have gone with these, all at once. */
  close(): void {
    this.#open.clear();
    try {
      this.#conduits?.removeAll();
    } catch (error) {
      if (!(error instanceof HostError) || error.errno !== EPERM) this.#warn(`conduits: ${wordsOf(error)}`);
    }
    this.#conduits?.close();
    this.#conduits = undefined;
  }
}

const wordsOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** In words for people, who look at a port and want to know. */
export function whyNot(error: unknown): string {
  if (error instanceof HostError) {
    if (error.errno === EPERM)
      return 'weft-dataplane lacks CAP_BPF or CAP_NET_ADMIN (and CAP_SYS_ADMIN for other network namespaces)';
    if (error.errno === EINVAL && error.syscall === 'BPF_LINK_CREATE')
      return 'this kernel has no tcx hooks (Linux 6.6 and newer have)';
  }
  return wordsOf(error);
}
