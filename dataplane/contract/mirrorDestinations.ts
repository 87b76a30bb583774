/** Apart from mirrors.ts, since the engine asks this, and its thread is to start without the schemas' library. */
import type { MirrorSession } from './mirrors.js';

/** Names of the ports that copies go to: they carry nothing else. */
export function mirrorDestinations(sessions: readonly MirrorSession[] = []): string[] {
  return sessions.flatMap(({ destination }) => ('port' in destination ? [destination.port] : []));
}
