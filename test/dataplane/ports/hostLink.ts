/**
 * A port on one end of a veth, in a network namespace that ends with the test; at the other end a packet socket
 * of the test's, which sees frames as the wire has them.
 */
import type { Test } from 'tap';
import { mapAnonymous } from '../../../host/memory.js';
import { addVeth, setLink } from '../../../host/netlink.js';
import { createNetns, inNetns } from '../../../host/netns.js';
import { openPacketSocket } from '../../../host/packet.js';
import * as raw from '../../../host/raw.js';
import { Link } from '../../../dataplane/engine/link.js';
import type { Port } from '../../../dataplane/engine/port.js';
import type { MemoryPort } from '../../../dataplane/ports/memory.js';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import { memoryLink } from '../engine/rig.js';
import { makeRealRig } from './realRig.js';
import type { RealRig } from './realRig.js';

/** IEEE 802 local experimental: nobody else in the namespace speaks it. */
export const TYPE = 0x88b5;
export const ALL = 'ff:ff:ff:ff:ff:ff';

export function frame(length = 60, type = TYPE, fill = 7): Uint8Array {
  const bytes = new Uint8Array(length).fill(fill);
  ethernet.emit(new DataView(bytes.buffer), 0, { destination: ALL, source: '02:00:00:00:00:01', type });
  return bytes;
}

/** The same with a tag. */
export const tagged = (bytes: Uint8Array, tci: number, tpid = 0x8100): Uint8Array =>
  new Uint8Array([...bytes.slice(0, 12), tpid >> 8, tpid & 255, tci >> 8, tci & 255, ...bytes.slice(12)]);

export function inside(t: Test, run: () => void): void {
  const namespace = createNetns();
  t.teardown(() => raw.close(namespace));
  inNetns(namespace, run);
}

export interface Wired {
  rig: RealRig;
  link: Link;
  /** The other port: what the port under test received is sent there. */
  memory: MemoryPort;
  /** Of what the port brings, our own frames. */
  came: () => Uint8Array[];
  /** Every frame to the port is edited so. */
  edit: number;
}

/** port <-> memory, both ways as they come. */
export function wire(t: Test, make: (link: Link, rig: RealRig) => Port, chunks?: number): Wired {
  const rig = makeRealRig(t, 256, chunks);
  const link = new Link(
    rig.loop,
    'port',
    {
      input: (_, __, first, end) => {
        for (let i = first; i < end; i++) other.send(i, 0);
      },
    },
    0,
  );
  const [other, memory] = memoryLink(rig.loop, 'memory', {
    input: (_, __, first, end) => {
      for (let i = first; i < end; i++) link.send(i, wired.edit);
    },
  });
  link.port = make(link, rig);
  t.teardown(() => link.port?.close());
  const wired: Wired = {
    rig,
    link,
    memory,
    came: () =>
      memory.sent
        .splice(0)
        .map(({ bytes }) => bytes)
        .filter(bytes => {
          const view = new DataView(bytes.buffer, bytes.byteOffset);
          return view.getUint16(12) === TYPE || view.getUint16(16) === TYPE;
        }),
    edit: 0,
  };
  return wired;
}

/** Two ends of a cable, both up. */
export function cable(near: string, far: string, mtu_bytes?: number): void {
  addVeth(near, far);
  for (const name of [near, far])
    setLink(name, { up: true, ...(mtu_bytes === undefined ? {} : { mtu_bytes }) });
}

const memory = mapAnonymous(1 << 17);

/** The far end. Tags that the kernel takes out are not seen by it. */
export const farEnd = (ifname: string): number =>
  openPacketSocket({ ifname, receive: true, ignoreOutgoing: true });

export function send(fd: number, bytes: Uint8Array): void {
  memory.bytes.set(bytes);
  const n = raw.send(fd, memory.address, bytes.length, 0);
  if (n !== bytes.length) throw new Error(`send: ${n}`);
}

/** What came, of one type, without what the host's own stack says. */
export function received(fd: number, type = TYPE): Uint8Array[] {
  const frames: Uint8Array[] = [];
  for (;;) {
    const n = raw.recv(fd, memory.address, memory.length_bytes, raw.MSG_DONTWAIT);
    if (n < 0) return frames;
    if (memory.view.getUint16(12) === type) frames.push(memory.bytes.slice(0, n));
  }
}

/** For comparing many frames: comparing arrays of bytes one by one takes seconds. */
export const hex = (frames: readonly Uint8Array[]): string =>
  frames.map(each => Buffer.from(each).toString('hex')).join('\n');
