/**
 * What the main thread and the data thread say to each other. Ids are the main thread's. A file descriptor is a
 * number that both threads share; the message that carries it hands it over where it says so.
 */
import type { VolumeState } from '../volume/volume.js';

export type ToLoop =
  /** The fd stays the sender's; it may be closed after `closeVolume` is done. */
  | { type: 'openVolume'; volumeId: number; fd: number; size_bytes: number }
  /** The file is so long already, durably. */
  | { type: 'growVolume'; volumeId: number; size_bytes: number }
  /** No export uses it any more. Done when nothing of it is with the kernel. */
  | { type: 'closeVolume'; volumeId: number; reply: number }
  /** A listening, non-blocking socket, given away. */
  | { type: 'listen'; listenerId: number; fd: number; tcp: boolean }
  /** Its socket is closed and its clients are drained. */
  | { type: 'unlisten'; listenerId: number; reply: number }
  /** A new export, or new listeners for a known one. */
  | {
      type: 'offer';
      exportId: number;
      nbdName: string;
      volumeId: number;
      readOnly: boolean;
      counters: Float64Array;
      listenerIds: number[];
    }
  /** Not offered any more; its clients are drained. Done when they are gone. */
  | { type: 'withdraw'; exportId: number; reply: number }
  /** Everything is drained and flushed; done is the last message. */
  | { type: 'stop'; reply: number };

export type FromLoop =
  | { type: 'ready'; ioUring: boolean; ioUringReason: string | null }
  | { type: 'done'; reply: number }
  | { type: 'volumeState'; volumeId: number; state: VolumeState; reason: string | null };
