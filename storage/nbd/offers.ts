/**
 * What is offered where, inside the data thread: exports, and for each listener the list that its clients see.
 * Pure bookkeeping; connections hold on to their export through it.
 */
import type { ServedOffer } from './connection.js';
import type { OfferList } from './negotiation.js';
import { NBD_OPT, NBD_REP, optionReply, serverRecord } from './wire.js';
import type { Volume } from '../volume/volume.js';

export class Offered implements ServedOffer {
  readonly id: number;
  readonly name: string;
  readonly volume: Volume;
  readonly volumeId: number;
  readonly readOnly: boolean;
  readonly counters: Float64Array;
  /** Where it is offered, or will be once it is listened there. */
  listenerIds: readonly number[] = [];

  constructor(parts: {
    id: number;
    name: string;
    volume: Volume;
    volumeId: number;
    readOnly: boolean;
    counters: Float64Array;
  }) {
    this.id = parts.id;
    this.name = parts.name;
    this.volume = parts.volume;
    this.volumeId = parts.volumeId;
    this.readOnly = parts.readOnly;
    this.counters = parts.counters;
  }

  /** As it is now: an export may have grown since it was offered. */
  get size_bytes(): number {
    return this.volume.size_bytes;
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
    this.#listReply ??= concatenate(
      [...this.#byName.keys()].map(name => optionReply(NBD_OPT.LIST, NBD_REP.SERVER, serverRecord(name))),
    );
    return this.#listReply;
  }
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
