/**
 * What is offered where, inside the data thread: exports, and for each listener the list that its clients see.
 * Pure bookkeeping; connections hold on to their export through it.
 */
import type { ServedOffer } from './connection.js';
import type { OfferList } from './negotiation.js';
import { NO_RULES, admits, type OfferRules, type Peer } from './rules.js';
import { AT_EXPORT } from './counters.js';
import { NBD_OPT, NBD_REP, optionReply, serverRecord } from './wire.js';
import type { Volume } from '../volume/volume.js';

export class Offered implements ServedOffer {
  readonly id: number;
  readonly name: string;
  readonly volume: Volume;
  readonly volumeId: number;
  readonly readOnly: boolean;
  readonly counters: Float64Array;
  readonly rules: OfferRules;
  /** Where it is offered, or will be once it is listened there. */
  listenerIds: readonly number[] = [];

  constructor(parts: {
    id: number;
    name: string;
    volume: Volume;
    volumeId: number;
    readOnly: boolean;
    counters: Float64Array;
    rules?: OfferRules | undefined;
  }) {
    this.id = parts.id;
    this.name = parts.name;
    this.volume = parts.volume;
    this.volumeId = parts.volumeId;
    this.readOnly = parts.readOnly;
    this.counters = parts.counters;
    this.rules = parts.rules ?? NO_RULES;
  }

  /** As it is now: an export may have grown since it was offered. Whole blocks of it. */
  get size_bytes(): number {
    const { size_bytes } = this.volume;
    return size_bytes - (size_bytes % this.rules.minimumBlock_bytes);
  }
  get description(): string {
    return this.rules.description;
  }
  get minimumBlock_bytes(): number {
    return this.rules.minimumBlock_bytes;
  }
  get full(): boolean {
    return this.counters[AT_EXPORT.connections]! >= this.rules.connectionLimit;
  }
  contexts(): readonly string[] {
    return this.volume.meta?.contexts() ?? [];
  }
}

export class ListenerOffers implements OfferList<Offered> {
  #byName = new Map<string, Offered>();
  #listReply: Uint8Array | null = null;

  get count(): number {
    return this.#byName.size;
  }

  find(name: string): Offered | null {
    return this.#byName.get(name) ?? null;
  }

  add(offered: Offered): void {
    this.#byName.set(offered.name, offered);
    this.#listReply = null;
  }

  remove(offered: Offered): void {
    if (this.#byName.get(offered.name) !== offered) return;
    this.#byName.delete(offered.name);
    this.#listReply = null;
  }

  listReply(): Uint8Array {
    this.#listReply ??= listOf([...this.#byName.values()]);
    return this.#listReply;
  }

  /** What one client may see of it; `refused` is called when it asks for more. `identity`: what TLS has proven; null: nothing. */
  seenBy(peer: Peer, refused: () => void, identity: string | null = null): OfferList<Offered> {
    const mayUse = (offered: Offered): boolean => admits(offered.rules, peer, identity);
    return {
      find: name => {
        const offered = this.find(name);
        if (offered === null || mayUse(offered)) return offered;
        refused();
        return null;
      },
      listReply: () => {
        const all = [...this.#byName.values()];
        return all.every(mayUse) ? this.listReply() : listOf(all.filter(mayUse));
      },
    };
  }
}

function listOf(offers: readonly Offered[]): Uint8Array {
  return concatenate(
    offers.map(({ name, description }) =>
      optionReply(NBD_OPT.LIST, NBD_REP.SERVER, serverRecord(name, description)),
    ),
  );
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
