/** A vhost port, a driver at its other end, and a memory port behind it: what one brings the other sends. */
import type { Test } from 'tap';
import * as raw from '../../../../host/raw.js';
import { listenUnix } from '../../../../host/unix.js';
import { Link } from '../../../../dataplane/engine/link.js';
import type { Sink } from '../../../../dataplane/engine/link.js';
import type { MemoryPort } from '../../../../dataplane/ports/memory.js';
import { VhostPort } from '../../../../dataplane/ports/vhost/port.js';
import type { VhostSettings } from '../../../../dataplane/ports/vhost/port.js';
import { memoryLink } from '../../engine/rig.js';
import { makeRealRig } from '../realRig.js';
import type { RealRig } from '../realRig.js';
import { Driver } from './driver.js';
import type { DriverOptions } from './driver.js';

export interface Joined {
  rig: RealRig;
  link: Link;
  memory: MemoryPort;
  memoryLink: Link;
  /** The edit that frames towards the guest get. */
  edit: { toGuest: number };
  dial(options?: Partial<DriverOptions>): Driver;
}

export const VERSION_1 = 1n << 32n;
export const MRG_RXBUF = 1n << 15n;
export const EVENT_IDX = 1n << 29n;
export const INDIRECT_DESC = 1n << 28n;

/** The port is QEMU's client, as machines have it. */
export function join(t: Test, settings: Partial<VhostSettings> = {}): Joined {
  const rig = makeRealRig(t);
  const path = `${rig.directory}/guest.sock`;
  const edit = { toGuest: 0 };
  const pass = (to: () => Link, how: () => number): Sink => ({
    input: (_, __, first, end) => {
      for (let frame = first; frame < end; frame++) to().send(frame, how());
    },
  });
  const link = new Link(
    rig.loop,
    'guest',
    pass(
      () => other,
      () => 0,
    ),
    0,
  );
  const [other, memory] = memoryLink(
    rig.loop,
    'memory',
    pass(
      () => link,
      () => edit.toGuest,
    ),
  );
  const listener = listenUnix(path);
  link.port = new VhostPort(link, { path, role: 'client', ...settings });
  link.port.open();
  const drivers: Driver[] = [];
  t.teardown(() => {
    link.port?.close();
    raw.close(listener);
    for (const driver of drivers) driver.close();
  });
  const dial = (options: Partial<DriverOptions> = {}): Driver => {
    let fd = raw.accept(listener);
    for (let i = 0; fd < 0 && i < 10; i++) {
      rig.clock.now_ms += 600;
      rig.settle();
      fd = raw.accept(listener);
    }
    if (fd < 0) throw new Error('the port does not dial');
    const driver = new Driver(fd, {
      features: VERSION_1 | MRG_RXBUF,
      pairs: settings.queues ?? 1,
      turn: () => rig.settle(),
      ...options,
    });
    drivers.push(driver);
    return driver;
  };
  return { rig, link, memory, memoryLink: other, edit, dial };
}
