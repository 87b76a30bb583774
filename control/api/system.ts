/** What the API needs of weftd: main.ts puts it together, tests do with doubles. */
import type { DataplaneStatus } from '../../dataplane/contract.js';
import type { StorageStatus } from '../../storage/contract.js';
import type { Clock } from '../clock.js';
import type { ImageHost } from '../image/host.js';
import type { Layout } from '../model/layout.js';
import type { Reconciler } from '../reconcile/loop.js';
import type { MachineVerbs } from '../reconcile/verbs.js';
import type { Journal } from '../store/journal.js';
import type { Keeper } from '../store/keeper.js';
import type { PlaneClient } from '../supervise/http/process.js';
import type { PlaneInfo } from '../supervise/process.js';
import type { Transfers } from '../transfer/transfers.js';
import type { GuestHost } from '../vmm/host.js';
import type { Doctor, ShutdownRequest } from './contract.js';

export interface PlaneAccess<Status> {
  readonly info: PlaneInfo;
  readonly client: PlaneClient;
  status(): Promise<Status>;
}

export interface System {
  version: string;
  pid: number;
  layout: Layout;
  clock: Clock;
  keeper: Keeper;
  journal: Journal;
  reconciler: Reconciler;
  verbs: MachineVerbs;
  guests: GuestHost;
  images: ImageHost;
  dataplane: PlaneAccess<DataplaneStatus>;
  storage: PlaneAccess<StorageStatus>;
  transfers: Transfers;
  doctor(): Promise<Doctor>;
  /** Resolves when what was to end has ended, but weftd itself, which ends right after the answer. */
  shutdown(request: ShutdownRequest): Promise<void>;
  figures(): { residentMemory_bytes: number; cpu_s: number };
  log: { info(fields: object, message: string): void; error(fields: object, message: string): void };
}
