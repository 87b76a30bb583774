/**
 * What the engine's thread asks of the thread beside it, and the answers: hooks are tied and untied there
 * (shortcut.ts), as the kernel may take its time. Fds are the process's, so their numbers travel.
 */
import type { ShortcutRequest, WayOut } from './shortcut.js';

export type ShortcutAsk =
  /** `request.netns`, where there is one, now belongs to who is asked. */
  { op: 'open'; id: number; request: ShortcutRequest } | { op: 'close'; id: number };

export type ShortcutReply =
  /** `filter`: a program for the port's packet socket, which now belongs to who asked. */
  { id: number; way: WayOut; filter: number | undefined } | { id: number; reason: string };
