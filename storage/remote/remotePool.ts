/**
 * A pool of volumes that are exports of another NBD server: what is known of them, and how they are opened. Their sizes are
 * the server's to tell, so each is asked for before its first use; one that cannot be learned is asked for again when
 * `learn` is called again, and meanwhile it is not ready. Nothing is made, grown or destroyed there.
 */
import { StorageError } from '../volume/errors.js';
import type { RemoteOpening, TlsOpening } from '../volume/opening.js';
import { connect, type Session } from './session.js';

/** An export is served by so many connections where neither side says otherwise. */
const CONNECTIONS = 4;
const PATIENCE_MS = 30_000;
/** To learn a size. */
const TIMEOUT_MS = 5000;

export interface RemotePoolParts {
  readonly name: string;
  readonly server: RemoteOpening['server'];
  readonly tls: TlsOpening | null;
  readonly connections?: number | undefined;
  readonly patience_ms?: number | undefined;
}

interface Known {
  readonly size_bytes: number;
  readonly readOnly: boolean;
  readonly connections: number;
}

export class RemotePool {
  #parts: RemotePoolParts;
  #tls: TlsOpening | null;
  #known = new Map<string, Known>();
  /** Why it is not known, by export name. */
  #reasons = new Map<string, string>();
  #asking = new Map<string, Promise<void>>();

  constructor(parts: RemotePoolParts) {
    this.#parts = parts;
    this.#tls = parts.tls;
  }

  /** Asks for what is not known of the export. Never rejects; see `reason`. */
  learn(exportName: string): Promise<void> {
    if (this.#known.has(exportName)) return Promise.resolve();
    let asking = this.#asking.get(exportName);
    if (asking === undefined) {
      asking = this.#ask(exportName).finally(() => this.#asking.delete(exportName));
      this.#asking.set(exportName, asking);
    }
    return asking;
  }

  /** From now on. */
  renewTls(tls: TlsOpening): void {
    this.#tls = tls;
  }

  /** Ask again: it may have been grown. What is open is not changed by it. */
  forget(exportName: string): void {
    this.#known.delete(exportName);
    this.#reasons.delete(exportName);
  }

  /** The export is so long by now, as was learned otherwise. True: that is news. */
  grew(exportName: string, size_bytes: number): boolean {
    const known = this.#known.get(exportName);
    if (known === undefined || known.size_bytes >= size_bytes) return false;
    this.#known.set(exportName, { ...known, size_bytes });
    return true;
  }

  /** null: not known, see `reason`. */
  size_bytes(exportName: string): number | null {
    return this.#known.get(exportName)?.size_bytes ?? null;
  }

  /** In words; null: nothing is wrong, or it was not asked for. */
  reason(exportName: string): string | null {
    return this.#reasons.get(exportName) ?? null;
  }

  /** The server refuses writes to it. */
  isReadOnly(exportName: string): boolean {
    return this.#known.get(exportName)?.readOnly ?? false;
  }

  /** Throws REMOTE_UNREACHABLE while the size is not known. */
  opening(exportName: string): RemoteOpening {
    const known = this.#known.get(exportName);
    if (known === undefined)
      throw new StorageError(
        'REMOTE_UNREACHABLE',
        `export "${exportName}" is not there yet: ${this.reason(exportName) ?? 'its server was not asked yet'}`,
      );
    const { name, server, patience_ms = PATIENCE_MS } = this.#parts;
    const { size_bytes, connections } = known;
    const tls = this.#tls;
    return { kind: 'remote', server, exportName, size_bytes, connections, patience_ms, tls, pool: name };
  }

  async #ask(exportName: string): Promise<void> {
    let session: Session;
    try {
      session = await connect(this.#parts.server, exportName, this.#tls, { timeout_ms: TIMEOUT_MS });
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      this.#reasons.set(exportName, error.message);
      return;
    }
    const { size_bytes, readOnly, multiConn } = session;
    await session.close();
    this.#reasons.delete(exportName);
    // Without multi-conn a flush on one connection says nothing of what was written on another.
    const connections = multiConn ? (this.#parts.connections ?? CONNECTIONS) : 1;
    this.#known.set(exportName, { size_bytes, readOnly, connections });
  }
}
