/**
 * What can only be judged by looking at the whole configuration: references, one disk with two writers, things
 * of the host claimed twice. Pure; the places of the problems are paths into the configuration, the caller
 * knows in which file they stand.
 *
 * One function per rule, each over all specs, so that a rule can be read alone. None is worse than
 * O(n log n): a configuration may have thousands of machines.
 */
import { posix } from 'node:path';
import type { Fault } from './fault.js';
import type { Kind, SwitchSpec } from './spec.js';
import { interfaceOf } from './switch/devices.js';
import { leaseFaults } from './switch/guard.js';
import { isReadOnly, tcpOf } from './storage/export.js';
import {
  clones,
  exportFaults,
  storageSizes,
  undoDisks,
  volumeClaims,
  volumePlaces,
} from './storage/faults.js';
import { portFaults, switchFaults } from './switch/words.js';
import type { Specs } from './resource.js';
import { keyOf } from './resource.js';
import { didYouMean, someOf } from './nearest.js';
import { durationOf_ms, sizeOf } from './meaning.js';
import { macOf } from './mac.js';
import {
  SOCKET_PATH_MAX_BYTES,
  exportSocket,
  machineSocketLength,
  nicPortName,
  poolDirectory,
} from './layout.js';
import type { Layout } from './layout.js';

export type { Fault } from './fault.js';

/** 802.1Q-2022 8.8.3. */
const AGEING_MIN_MS = 10_000;
const AGEING_MAX_MS = 1_000_000_000;
const MEMORY_UNIT_BYTES = 2 ** 20;
const MEMORY_MIN_BYTES = 16 * 2 ** 20;
const MEMORY_MAX_BYTES = 2 ** 44;
const STOP_TIMEOUT_MAX_MS = 3_600_000;

export interface World {
  layout: Layout;
  /** Names that stand in a file but could not be read: not missing, only faulty. */
  mentioned: ReadonlySet<string>;
}

type Rule = (specs: Specs, world: World) => Iterable<Fault>;

function value(path: (string | number)[], message: string): Fault {
  return { path, blame: 'value', message };
}

function missing(specs: Specs, kind: Kind, name: string): string {
  const there = [...specs[kind].keys()];
  const hint = didYouMean(name, there);
  const rest =
    hint !== ''
      ? hint
      : there.length === 0
        ? `; there is no ${kind} at all`
        : `; there are: ${someOf(there)}`;
  return `no ${kind} named "${name}"${rest}`;
}

function* references(specs: Specs, { mentioned }: World): Generator<Fault> {
  const lost = (kind: Kind, name: string): boolean =>
    !specs[kind].has(name) && !mentioned.has(keyOf(kind, name));
  for (const [name, volume] of specs.volume) {
    if (lost('pool', volume.pool)) yield value(['volume', name, 'pool'], missing(specs, 'pool', volume.pool));
    if (volume.mirror !== undefined && lost('pool', volume.mirror.pool))
      yield value(['volume', name, 'mirror', 'pool'], missing(specs, 'pool', volume.mirror.pool));
    if (volume.from !== undefined && lost('volume', volume.from.volume))
      yield value(['volume', name, 'from', 'volume'], missing(specs, 'volume', volume.from.volume));
    if (volume.image === undefined) continue;
    const image = specs.image.get(volume.image);
    const at = ['volume', name, 'image'];
    if (lost('image', volume.image)) yield value(at, missing(specs, 'image', volume.image));
    else if (image !== undefined && !('disk' in image))
      yield value(
        at,
        `image "${volume.image}" is a kernel to boot; a volume is filled from an image with "disk"`,
      );
  }
  for (const [name, { volume }] of specs.export)
    if (lost('volume', volume)) yield value(['export', name, 'volume'], missing(specs, 'volume', volume));
  for (const [name, machine] of specs.machine) {
    if (machine.image !== undefined) {
      const image = specs.image.get(machine.image);
      const at = ['machine', name, 'image'];
      if (lost('image', machine.image)) yield value(at, missing(specs, 'image', machine.image));
      else if (image !== undefined && 'disk' in image)
        yield value(
          at,
          `image "${machine.image}" is a disk; fill a volume from it (volume: image:) and boot from that volume`,
        );
    }
    for (const [index, disk] of machine.disks.entries())
      if (lost('volume', disk.volume))
        yield value(['machine', name, 'disks', index, 'volume'], missing(specs, 'volume', disk.volume));
    for (const [index, nic] of machine.nics.entries())
      if (lost('switch', nic.switch))
        yield value(['machine', name, 'nics', index, 'switch'], missing(specs, 'switch', nic.switch));
  }
}

function* sizes(specs: Specs): Generator<Fault> {
  for (const [name, { memory, stopTimeout }] of specs.machine) {
    const memory_bytes = sizeOf(memory);
    const at = ['machine', name, 'memory'];
    if (memory_bytes < MEMORY_MIN_BYTES) yield value(at, `"${memory}" is too small: the least is 16MiB`);
    else if (memory_bytes > MEMORY_MAX_BYTES) yield value(at, `"${memory}" is too big: the most is 16TiB`);
    else if (memory_bytes % MEMORY_UNIT_BYTES !== 0)
      yield value(at, `"${memory}" is not a whole number of MiB`);
    if (durationOf_ms(stopTimeout) > STOP_TIMEOUT_MAX_MS)
      yield value(['machine', name, 'stopTimeout'], `"${stopTimeout}" is too long: the most is 1h`);
  }
  for (const [name, { ageing }] of specs.switch) {
    const ageing_ms = durationOf_ms(ageing);
    if (ageing_ms < AGEING_MIN_MS || ageing_ms > AGEING_MAX_MS || ageing_ms % 1000 !== 0)
      yield value(
        ['switch', name, 'ageing'],
        `"${ageing}" is out of range: whole seconds from 10s to 1000000s (802.1Q)`,
      );
  }
}

function* bootable(specs: Specs): Generator<Fault> {
  for (const [name, machine] of specs.machine)
    if (machine.image === undefined && machine.disks.length === 0)
      yield {
        path: ['machine', name],
        blame: 'key',
        message: 'nothing to boot: give it an image (kernel or tiny), or a disk as the first of its disks',
      };
}

/** At most one writer for a volume: a second one's cache would destroy the first one's file system. */
function* writers(specs: Specs): Generator<Fault> {
  const writer = new Map<string, { who: string; machine: boolean }>();
  const attached = new Set<string>();
  for (const [name, machine] of specs.machine)
    for (const [index, disk] of machine.disks.entries()) {
      const at = ['machine', name, 'disks', index, 'volume'];
      const pair = `${name} ${disk.volume}`;
      if (attached.has(pair)) {
        yield value(at, `volume "${disk.volume}" is a disk of this machine already`);
        continue;
      }
      attached.add(pair);
      if (disk.readOnly) continue;
      const other = writer.get(disk.volume);
      if (other === undefined) writer.set(disk.volume, { who: `machine "${name}"`, machine: true });
      else yield value(at, twoWriters(disk.volume, other.who));
    }
  for (const [name, spec] of specs.export) {
    if (isReadOnly(spec)) continue;
    const other = writer.get(spec.volume);
    if (other?.machine === true) yield value(['export', name, 'volume'], twoWriters(spec.volume, other.who));
  }
}

function twoWriters(volume: string, other: string): string {
  return `volume "${volume}" is writable by ${other} already; two writers destroy each other's data: set readOnly: true on one`;
}

/** Names that only one of us can have, each with who has it. */
class Claims {
  readonly #held = new Map<string, string>();

  *claim(what: string, who: string, path: (string | number)[], words: string): Generator<Fault> {
    const holder = this.#held.get(what);
    if (holder === undefined) this.#held.set(what, who);
    else yield value(path, `${words} is used by ${holder} already`);
  }
}

/** A path of the user's must be absolute (a plane has no directory of its own), and none of weft's own. */
function* freePath(written: string, at: (string | number)[], { layout }: World): Generator<Fault> {
  const path = posix.normalize(written);
  if (!path.startsWith('/')) yield value(at, `"${written}" must be an absolute path`);
  else if (path.startsWith(`${layout.run}/`))
    yield value(at, `"${written}" lies among weft's own sockets (${layout.run}): choose another place`);
}

interface OuterEnd {
  port: SwitchSpec['ports'][string];
  at: string[];
  who: string;
}

/** What ports of switches are at their outer ends; of an aggregate, what its members are. */
function* outerEnds(specs: Specs): Generator<OuterEnd> {
  for (const [name, { ports }] of specs.switch)
    for (const [portName, port] of Object.entries(ports)) {
      const at = ['switch', name, 'ports', portName];
      const who = `port "${portName}" of switch "${name}"`;
      yield { port, at, who };
      for (const [memberName, member] of Object.entries(port.lag?.members ?? {}))
        yield {
          port: member,
          at: [...at, 'lag', 'members', memberName],
          who: `${who}, member "${memberName}"`,
        };
    }
}

/** Both ends of a cable name each other: one that has a single end is a mistake. */
function* patchFaults(
  specs: Specs,
  patch: { switch: string; port: string },
  at: Fault['path'],
): Generator<Fault> {
  const [, own, , port] = at;
  const path = [...at, 'patch'];
  const there = `port "${patch.port}" of switch "${patch.switch}"`;
  if (patch.switch === own && patch.port === port) {
    yield value(path, 'the cable goes from this port to itself');
    return;
  }
  const other = specs.switch.get(patch.switch);
  if (other === undefined) {
    yield {
      path: [...path, 'switch'],
      blame: 'value',
      message: `there is no switch "${patch.switch}"${didYouMean(patch.switch, [...specs.switch.keys()])}`,
    };
    return;
  }
  const back = other.ports[patch.port]?.patch;
  if (back === undefined)
    yield {
      path: [...path, 'port'],
      blame: 'value',
      message: `${there} is not there, or is no patch: make it { patch: { switch: ${own}, port: ${port} } }`,
    };
  else if (back.switch !== own || back.port !== port)
    yield {
      path: [...path, 'port'],
      blame: 'value',
      message: `${there} is cabled to port "${back.port}" of switch "${back.switch}", not to this one`,
    };
}

function* hostThings(specs: Specs, world: World): Generator<Fault> {
  const claims = new Claims();
  for (const { port, at, who } of outerEnds(specs)) {
    const ifname = interfaceOf(port);
    if (ifname !== undefined) {
      const word = port.tap === undefined ? (port.packet === undefined ? 'xdp' : 'packet') : 'tap';
      yield* claims.claim(`interface ${ifname}`, who, [...at, word], `interface "${ifname}"`);
    }
    if (port.vxlan !== undefined) {
      const { vni, local = 'any address', port: udp } = port.vxlan;
      const text = `VNI ${vni} at ${local}, UDP port ${udp}`;
      yield* claims.claim(text, who, [...at, 'vxlan', 'vni'], text);
    }
    if (port.patch !== undefined) yield* patchFaults(specs, port.patch, at);
    for (const word of ['stream', 'vhost', 'dgram'] as const) {
      const path = port[word]?.path;
      if (path === undefined) continue;
      yield* freePath(path, [...at, word, 'path'], world);
      yield* claims.claim(`path ${posix.normalize(path)}`, who, [...at, word, 'path'], `socket "${path}"`);
    }
    if (port.pcap !== undefined) {
      yield* freePath(port.pcap, [...at, 'pcap'], world);
      yield* claims.claim(`path ${posix.normalize(port.pcap)}`, who, [...at, 'pcap'], `file "${port.pcap}"`);
    }
    for (const word of ['mtu', 'queues'] as const)
      if (port[word] !== undefined && port.tap === undefined)
        yield value([...at, word], `only a tap has ${word === 'mtu' ? 'an mtu' : 'queues'}`);
  }
}

function* exportNames(specs: Specs, world: World): Generator<Fault> {
  const { layout } = world;
  const claims = new Claims();
  for (const [name, spec] of specs.export) {
    if (spec.unix !== undefined && !posix.normalize(spec.unix).startsWith(`${layout.exports}/`))
      yield* freePath(spec.unix, ['export', name, 'unix'], world);
    const exportName = spec.exportName ?? name;
    const who = `export "${name}"`;
    const path = posix.normalize(exportSocket(layout, name, spec.unix));
    const called = `under the export name "${exportName}"`;
    yield* claims.claim(
      `unix ${path} ${exportName}`,
      who,
      ['export', name, ...(spec.unix === undefined ? [] : ['unix'])],
      `socket "${path}" ${called}`,
    );
    for (const { host, port } of tcpOf(spec))
      yield* claims.claim(
        `tcp ${host} ${port} ${exportName}`,
        who,
        ['export', name, 'tcp'],
        `${host}:${port} ${called}`,
      );
  }
}

function* poolDirectories(specs: Specs, { layout }: World): Generator<Fault> {
  const claims = new Claims();
  for (const [name, { directory, device, remote }] of specs.pool) {
    if (remote !== undefined) continue;
    if (device !== undefined) {
      const path = posix.normalize(device);
      yield* claims.claim(path, `pool "${name}"`, ['pool', name, 'device'], `device "${path}"`);
      continue;
    }
    const path = posix.normalize(poolDirectory(layout, name, directory)).replace(/\/+$/, '');
    const at = ['pool', name, ...(directory === undefined ? [] : ['directory'])];
    yield* claims.claim(path, `pool "${name}"`, at, `directory "${path}"`);
  }
}

function* macs(specs: Specs): Generator<Fault> {
  const holder = new Map<string, string>();
  for (const [name, { nics }] of specs.machine)
    for (const [index, nic] of nics.entries()) {
      const mac = macOf(name, index, nic.mac);
      const other = holder.get(mac);
      if (other === undefined) holder.set(mac, `nic ${index} of machine "${name}"`);
      else if (nic.mac !== undefined)
        yield value(['machine', name, 'nics', index, 'mac'], `${mac} is the address of ${other} already`);
      else
        yield value(
          ['machine', name, 'nics', index],
          `the address derived for this card, ${mac}, is that of ${other} already; choose one with mac:`,
        );
    }
}

function* socketPaths(specs: Specs, { layout }: World): Generator<Fault> {
  const tooLong = (what: string, length: number): string =>
    `the path of its ${what} would be ${length} bytes long, a Unix socket's is at most ${SOCKET_PATH_MAX_BYTES}: shorten the name or move the state directory (${layout.state})`;
  for (const name of specs.machine.keys()) {
    const length = machineSocketLength(layout, name);
    if (length > SOCKET_PATH_MAX_BYTES)
      yield { path: ['machine', name], blame: 'key', message: tooLong('sockets', length) };
  }
  for (const [name, { unix }] of specs.export) {
    const length = Buffer.byteLength(exportSocket(layout, name, unix));
    if (length > SOCKET_PATH_MAX_BYTES)
      yield { path: ['export', name], blame: 'key', message: tooLong('socket', length) };
  }
}

/** What the planes' contracts can hold; more would be refused as a whole. */
const SWITCHES_MAX = 1024;
const PORTS_MAX = 4096;
const POOLS_MAX = 256;
const EXPORTS_MAX = 20_000;

function* counts(specs: Specs): Generator<Fault> {
  const tooMany = (path: (string | number)[], count: number, what: string, most: number): Fault => ({
    path,
    blame: 'key',
    message: `${count} ${what} are too many: the most is ${most}`,
  });
  const lastOf = (kind: Kind): (string | number)[] => [kind, [...specs[kind].keys()].at(-1) ?? ''];
  if (specs.switch.size > SWITCHES_MAX)
    yield tooMany(lastOf('switch'), specs.switch.size, 'switches', SWITCHES_MAX);
  if (specs.pool.size > POOLS_MAX) yield tooMany(lastOf('pool'), specs.pool.size, 'pools', POOLS_MAX);
  const ports = new Map<string, number>();
  for (const [name, spec] of specs.switch) ports.set(name, Object.keys(spec.ports).length);
  let exportCount = specs.export.size + specs.volume.size;
  for (const { nics, disks } of specs.machine.values()) {
    exportCount += disks.length;
    for (const nic of nics) ports.set(nic.switch, (ports.get(nic.switch) ?? 0) + 1);
  }
  for (const [name, count] of ports)
    if (count > PORTS_MAX)
      yield tooMany(['switch', name], count, "ports (with the machines' cards)", PORTS_MAX);
  if (exportCount > EXPORTS_MAX)
    yield tooMany(lastOf('volume'), exportCount, 'volumes, exports and disks of machines', EXPORTS_MAX);
}

function* capabilities(specs: Specs): Generator<Fault> {
  const ports = new Map([...specs.switch].map(([name, spec]) => [name, new Set(Object.keys(spec.ports))]));
  for (const [name, { nics }] of specs.machine)
    for (const [index, nic] of nics.entries()) ports.get(nic.switch)?.add(nicPortName(name, index));
  for (const [name, spec] of specs.switch)
    for (const fault of switchFaults(spec, ports.get(name) ?? new Set()))
      yield {
        ...fault,
        path: ['switch', name, ...fault.path],
        ...(fault.other === undefined
          ? {}
          : { other: { ...fault.other, path: ['switch', name, ...fault.other.path] } }),
      };
}

/** What stands on a card, judged as on a port. */
function* cards(specs: Specs): Generator<Fault> {
  for (const [name, { nics }] of specs.machine)
    for (const [index, nic] of nics.entries())
      for (const fault of portFaults(nic))
        yield { ...fault, path: ['machine', name, 'nics', index, ...fault.path] };
}

const RULES: readonly Rule[] = [
  references,
  sizes,
  bootable,
  writers,
  hostThings,
  exportNames,
  poolDirectories,
  macs,
  socketPaths,
  counts,
  capabilities,
  cards,
  leaseFaults,
  storageSizes,
  volumePlaces,
  volumeClaims,
  clones,
  undoDisks,
  exportFaults,
];

export function validate(specs: Specs, world: World): Fault[] {
  return RULES.flatMap(rule => [...rule(specs, world)]);
}
