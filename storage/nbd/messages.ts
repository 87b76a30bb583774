/**
 * What the main thread and the data thread say to each other. Ids are the main thread's. A file descriptor is a
 * number that both threads share; the message that carries it hands it over where it says so.
 */
import type { MirrorStatus } from '../volume/mirrorParts.js';
import type { LayersOpening, LimitsOpening, TlsOpening, VolumeOpening } from '../volume/opening.js';
import type { VolumeState } from '../volume/volume.js';
import type { OfferRules } from './rules.js';

export type LayersHow =
  'look' | 'snapshot' | 'replace' | 'expect' | 'expectCut' | 'content' | 'secondSnapshot' | 'secondReplace';

/** A listener of vhost-user instead of NBD: the disk that one guest finds there. */
export interface GuestDisk {
  readonly queues: number;
  /** VIRTIO_BLK_T_GET_ID: 20 bytes of it. */
  readonly serial: string;
}

export type ToLoop =
  /** Its fds stay the sender's; they may be closed after `closeVolume` is done. */
  | { type: 'openVolume'; volumeId: number; opening: VolumeOpening }
  /**
   * Other layers from now on, of all these volumes in one turn of the loop: what was written before is below, what is
   * written after is above, for all of them at one instant.
   *   look      nothing changes: -EBUSY when the first side of a mirror among them lacks what was written last
   *   snapshot  the new chains are the old ones with an empty layer on top. Done when what the frozen layers hold is
   *             durable; they are put in order after that, see finishLayers
   *   replace   the same content by other layers (some were merged). The layer that took up another keeps its uuid and has
   *             another map now: what is remembered of frozen layers' maps and of who has a block is read again. Done when
   *             no fd of a layer that is in no new chain is used any more
   *   expect    nothing is changed yet: a mirror among them takes note that `content` will follow; done when that is durable.
   *             -EBUSY: its first side is not the good one
   *   expectCut   as expect, of content that is the same but for its end
   *   content   other content (rollback): the sender has seen to it that no client is connected. Done likewise
   *   secondSnapshot, secondReplace   as without `second`, of the second side of a mirror
   */
  | {
      type: 'changeLayers';
      how: LayersHow;
      changes: { volumeId: number; base: LayersOpening }[];
      reply: number;
    }
  /** Done when none of these layers, by uuid, is being put in order after a snapshot or a crash: then others may write to them. */
  | { type: 'finishLayers'; layers: readonly string[]; reply: number }
  | { type: 'limitVolume'; volumeId: number; limits: LimitsOpening | null }
  /** The file is so long already, durably. */
  | { type: 'growVolume'; volumeId: number; size_bytes: number }
  /** Where the server of that name is by now, before volumes are opened that need it, and whenever it changes. */
  | { type: 'hostAddresses'; host: string; addresses: readonly string[] }
  /** What connections to a remote pool's server begin TLS with from now on, before volumes of it are opened and whenever it changes. */
  | { type: 'remoteTls'; pool: string; tls: TlsOpening }
  /** No export uses it any more. Done when nothing of it is with the kernel. */
  | { type: 'closeVolume'; volumeId: number; reply: number }
  /** A listening, non-blocking socket, given away. With `tls` nobody is served there who does not begin it. */
  | {
      type: 'listen';
      listenerId: number;
      fd: number;
      tcp: boolean;
      tls?: TlsOpening | null;
      guest?: GuestDisk;
    }
  /** What new clients of a listener with TLS begin it with from now on. */
  | { type: 'renewTls'; listenerId: number; tls: TlsOpening }
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
      /** Left out: none. */
      rules?: OfferRules;
      listenerIds: number[];
      /** Those of vhost-user; each shows one export. Left out: none. */
      guestListenerIds?: number[];
    }
  /** Not offered any more; its clients are drained. Done when they are gone. */
  | { type: 'withdraw'; exportId: number; reply: number }
  /** Everything is drained and flushed; done is the last message. */
  | { type: 'stop'; reply: number };

export type FromLoop =
  | { type: 'ready'; ioUring: boolean; ioUringReason: string | null }
  /** Handshakes failed since this was told last: the newest of them, and how many others. */
  | { type: 'tlsFailed'; listenerId: number; peer: string | null; reason: string; others: number }
  /** What is wrong with a guest's queues, or with what its QEMU said; null: nothing any more. */
  | { type: 'guestFault'; listenerId: number; reason: string | null }
  /** `result`: 0 or -errno, where something could fail. */
  | { type: 'done'; reply: number; result?: number }
  | {
      type: 'volumeState';
      volumeId: number;
      state: VolumeState;
      reason: string | null;
      checksumErrors: number;
      /** null: it is no mirror. Told again while what is left becomes less. */
      mirror: MirrorStatus | null;
      /** Of an export of another server: as long as that server says; null: it is none, or it has not said it. */
      serverSize_bytes: number | null;
    };

/** What the data thread tells of a volume when it changes. */
export type VolumeTold = Extract<FromLoop, { type: 'volumeState' }>;
