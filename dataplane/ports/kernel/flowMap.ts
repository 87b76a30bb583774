/**
 * The flows of one switch that the kernel forwards, as the engine's thread writes and reads them: a hash of flows
 * and the word that says which generation counts. No call here waits.
 */
import * as bpf from '../../../host/bpf.js';
import { ENOENT } from '../../../host/errno.js';
import { close } from '../../../host/raw.js';
import * as layout from './layout.js';
import type { FlowAction, FlowKey } from './layout.js';
import type { Maps } from './program.js';

/** Flows that are read with one system call. */
const BATCH_COUNT = 256;

export class FlowMap {
  readonly #flows: bpf.BpfMap;
  readonly #generation: bpf.BpfMap;
  readonly #batch: bpf.BpfBatch;
  /** Of the flow read last. */
  frames = 0;
  octets = 0;
  superFrames = 0;

  /** Throws HostError. */
  constructor(flowsMax: number) {
    this.#flows = new bpf.BpfMap({
      type: bpf.MAP_TYPE_HASH,
      key_bytes: layout.KEY_BYTES,
      value_bytes: layout.VALUE_BYTES,
      entries: flowsMax,
      flags: bpf.MAP_NO_PREALLOC,
      name: 'weft_flows',
    });
    try {
      this.#generation = new bpf.BpfMap({
        type: bpf.MAP_TYPE_ARRAY,
        key_bytes: 4,
        value_bytes: 8,
        entries: 1,
        name: 'weft_generation',
      });
    } catch (error) {
      this.#flows.close();
      throw error;
    }
    this.#batch = new bpf.BpfBatch(this.#flows, Math.min(BATCH_COUNT, flowsMax));
  }

  get maps(): Maps {
    return { flows: this.#flows.fd, generation: this.#generation.fd };
  }

  /** From now on only flows of this generation count. */
  setGeneration(generation: number): void {
    this.#generation.key.setUint32(0, 0, true);
    this.#generation.value.setUint32(0, generation, true);
    this.#generation.update();
  }

  /** Its counters begin at zero, also when it was there. `slot` comes back when all are read. False: no room. */
  put(key: FlowKey, action: FlowAction, slot: number): boolean {
    layout.putKey(this.#flows.key, 0, key);
    layout.putAction(this.#flows.value, 0, action);
    this.#flows.value.setUint32(layout.VALUE_SLOT, slot, true);
    return this.#flows.update() === 0;
  }

  /** Its counters are in `frames`, `octets` and `superFrames` then. False: it is not there. */
  read(key: FlowKey): boolean {
    layout.putKey(this.#flows.key, 0, key);
    if (this.#flows.lookup() !== 0) return false;
    this.#take(this.#flows.value, 0);
    return true;
  }

  delete(key: FlowKey): void {
    layout.putKey(this.#flows.key, 0, key);
    this.#flows.delete();
  }

  /** Each flow in turn, with its counters in the fields. */
  readAll(each: (slot: number) => void): void {
    const batch = this.#batch;
    batch.rewind();
    for (;;) {
      const count = batch.next();
      if (count < 0 && count !== -ENOENT) return;
      for (let i = 0; i < count; i++) {
        const at = i * layout.VALUE_BYTES;
        this.#take(batch.values, at);
        each(batch.values.getUint32(at + layout.VALUE_SLOT, true));
      }
      if (batch.isLast) return;
    }
  }

  #take(view: DataView, at: number): void {
    this.frames = layout.counterAt(view, at + layout.VALUE_FRAMES);
    this.octets = layout.counterAt(view, at + layout.VALUE_OCTETS);
    this.superFrames = layout.counterAt(view, at + layout.VALUE_SUPER_FRAMES);
  }

  close(): void {
    this.#batch.close();
    this.#flows.close();
    this.#generation.close();
  }
}

/** What shortcuts.ts made for a packet socket. False when the socket takes none. */
export function tieFilter(socket: number, filter: number): boolean {
  try {
    bpf.attachFilter(socket, filter);
    return true;
  } catch {
    return false;
  } finally {
    close(filter);
  }
}

/** The socket sees all frames again. */
export function untieFilter(socket: number): void {
  try {
    bpf.detachFilter(socket);
  } catch {
    // It has none, or is gone: as wished.
  }
}
