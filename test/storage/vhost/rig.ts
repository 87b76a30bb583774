/** The real loop with guests' door, a volume in memory, and a clock wound by hand. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Test } from 'tap';
import { EventFd } from '../../../host/eventfd.js';
import { mapAnonymous } from '../../../host/memory.js';
import { connectUnix, listenUnix } from '../../../host/unix.js';
import {
  AT_EXPORT,
  EXPORT_COUNTERS,
  SERVER_COUNTERS,
  newCounters,
  type ExportCounter,
} from '../../../storage/nbd/counters.js';
import { Loop } from '../../../storage/nbd/loop.js';
import type { FromLoop, ToLoop } from '../../../storage/nbd/messages.js';
import { NO_RULES } from '../../../storage/nbd/rules.js';
import { Guests } from '../../../storage/vhost/guests.js';
import type { Later } from '../../../storage/volume/later.js';
import type { Volume } from '../../../storage/volume/volume.js';

export interface RigOptions {
  readonly readOnly?: boolean;
  readonly queues?: number;
  readonly minimumBlock_bytes?: number;
}

export class Rig {
  readonly path: string;
  readonly counters = newCounters(EXPORT_COUNTERS);
  readonly posted: FromLoop[] = [];
  readonly loop: Loop;
  now_ms = 1000;
  #mail = EventFd.create();
  #inbox: ToLoop[] = [];

  constructor(t: Test, volume: Volume, later: Later, options: RigOptions = {}) {
    const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'weft-vhost-'));
    t.teardown(() => fs.rmSync(directory, { recursive: true }));
    this.path = path.join(directory, 's');
    this.loop = new Loop({
      mail: this.#mail,
      receiveMail: () => this.#inbox.shift(),
      post: message => this.posted.push(message),
      serverCounters: newCounters(SERVER_COUNTERS),
      later,
      ring: null,
      ringSignal: null,
      now_ms: () => this.now_ms,
      openVolume: () => ({
        volume,
        busy: false,
        grow: () => undefined,
        shut: done => done(0),
      }),
      closedVolume: () => undefined,
      changeLayers: () => ({ result: 0, over: () => true }),
      isFinishing: () => false,
      limitVolume: () => undefined,
      allocate: mapAnonymous,
      tick: () => undefined,
      guests: (reactor, pool, budget) =>
        new Guests({
          reactor,
          pool,
          budget,
          onFault: (listenerId, reason) => this.posted.push({ type: 'guestFault', listenerId, reason }),
        }),
    });
    this.tell({
      type: 'openVolume',
      volumeId: 1,
      opening: {
        base: { kind: 'file', fd: -1, size_bytes: 0, writable: true },
        encryptionKey: null,
        limits: null,
      },
    });
    this.listen(options);
    this.offer(options);
  }

  listen({ queues = 4 }: RigOptions = {}): void {
    const fd = listenUnix(this.path, { replaceStale: true });
    this.tell({ type: 'listen', listenerId: 7, fd, tcp: false, guest: { queues, serial: 'weft-disk' } });
  }

  offer({ readOnly = false, minimumBlock_bytes = 1 }: RigOptions = {}): void {
    this.tell({
      type: 'offer',
      exportId: 3,
      nbdName: 'x',
      volumeId: 1,
      readOnly,
      counters: this.counters,
      rules: { ...NO_RULES, minimumBlock_bytes },
      listenerIds: [],
      guestListenerIds: [7],
    });
  }

  tell(message: ToLoop): void {
    this.#inbox.push(message);
    this.#mail.signal();
    this.turn();
  }

  turn = (): void => {
    // So that the loop never sleeps.
    this.#mail.signal();
    this.now_ms += 0.01;
    this.loop.turn();
  };

  connect(): number {
    return connectUnix(this.path);
  }

  count(name: ExportCounter): number {
    return this.counters[AT_EXPORT[name]]!;
  }

  /** What was told last of the guest's queues. */
  get fault(): string | null {
    return this.posted.filter(one => one.type === 'guestFault').at(-1)?.reason ?? null;
  }

  /** Until that answer comes. */
  done(reply: number, turns = 1000): boolean {
    for (let i = 0; i < turns; i++) {
      if (this.posted.some(one => one.type === 'done' && one.reply === reply)) return true;
      this.turn();
    }
    return false;
  }
}
