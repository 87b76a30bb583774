/**
 * The whole desired state of each plane, from the resources: pure, and the same for the same input, so that its
 * hash can be the generation by which a plane says whether it has our latest word. (A counter would have to be
 * remembered across weftd's death, and would tell nothing about equality.)
 */
import { createHash } from 'node:crypto';
import type { DataplaneConfig, PortConfig, SwitchConfig } from '../../dataplane/contract.js';
import { nicPortName } from '../model/layout.js';
import type { Layout } from '../model/layout.js';
import { macOf } from '../model/mac.js';
import { durationOf_ms } from '../model/meaning.js';
import type { Kind, SpecOf } from '../model/spec.js';
import { deviceToPlane } from '../model/switch/devices.js';
import { withOwnMac } from '../model/switch/guard.js';
import { portToPlane, switchToPlane } from '../model/switch/words.js';
import type { Sockets } from './boot.js';
import type { BootPlan, ObservedGuest } from '../vmm/host.js';
import { machineFact, shouldRun } from './desired.js';
import type { Desired } from './desired.js';
import { isActive } from './observed.js';
import type { Observed } from './observed.js';

/** 48 bits of the hash: a whole number that JSON carries exactly. */
export function generationOf(config: unknown): number {
  return createHash('sha256').update(JSON.stringify(config)).digest().readUIntBE(0, 6);
}

export function exportNameOf(name: string): string {
  return `export/${name}`;
}

export function diskExportName(machine: string, index: number): string {
  return `machine/${machine}/disk${index}`;
}

export function fillExportName(volume: string): string {
  return `fill/${volume}`;
}

export function fillSocket(layout: Layout, volume: string): string {
  return `${layout.run}/fill/${volume}.sock`;
}

/** Nobody connects there: while it is exported, the mirror that moves it is open. */
export function moveExportName(volume: string): string {
  return `move/${volume}`;
}

export function moveSocket(layout: Layout, volume: string): string {
  return `${layout.run}/fill/${volume}.move`;
}

/** Those in the configuration and those that are on their way out; the former first. */
export function* allMachines(desired: Desired): Generator<[name: string, spec: SpecOf['machine']]> {
  yield* desired.specs.machine;
  for (const [key, burial] of desired.burials)
    if (key.startsWith('machine/')) {
      const name = key.slice('machine/'.length);
      if (!desired.specs.machine.has(name)) yield [name, burial.spec as SpecOf['machine']];
    }
}

export function wanted(desired: Desired, name: string): boolean {
  const spec = desired.specs.machine.get(name);
  return (
    spec !== undefined &&
    !desired.burials.has(`machine/${name}`) &&
    shouldRun(spec, machineFact(desired, name))
  );
}

/** Specs of a kind, and those being deleted that something on its way out still needs. */
export function withNeeded<K extends Kind>(
  desired: Desired,
  kind: K,
  isNeeded: (name: string) => boolean,
): [string, SpecOf[K]][] {
  const all: [string, SpecOf[K]][] = [...(desired.specs[kind] as ReadonlyMap<string, SpecOf[K]>)];
  for (const [key, burial] of desired.burials) {
    if (!key.startsWith(`${kind}/`)) continue;
    const name = key.slice(kind.length + 1);
    if (!desired.specs[kind].has(name) && isNeeded(name)) all.push([name, burial.spec as SpecOf[K]]);
  }
  return all;
}

/** Whether we are starting it right now: then what counts is the spec, not the plan of the run before. */
export type IsStarting = (machine: string) => boolean;

/** The plan that a live QEMU was booted with. */
export function bootedWith(
  name: string,
  guest: ObservedGuest | undefined,
  isStarting: IsStarting,
): BootPlan | null {
  return isActive(guest) && !isStarting(name) ? guest.plan : null;
}

/** The plane dials either way: so it finds a guest again after its own restart, and no guest dials anything. */
function nicDevice(
  { transport, queues }: { transport?: 'vhost' | 'stream' | undefined; queues?: number | undefined },
  path: string,
): PortConfig['device'] {
  if (transport === 'stream') return { kind: 'stream', path, role: 'connect' };
  return { kind: 'vhost', path, role: 'client', queues: queues ?? 1 };
}

export function toDataplaneConfig(
  desired: Desired,
  observed: Observed,
  sockets: Sockets,
  isStarting: IsStarting,
): DataplaneConfig {
  const ports = new Map<string, PortConfig[]>();
  const portsOf = (name: string): PortConfig[] => {
    let list = ports.get(name);
    if (list === undefined) ports.set(name, (list = []));
    return list;
  };
  const neededSwitches = new Set<string>();
  for (const [name, spec] of allMachines(desired)) {
    const guest = observed.guests.get(name)?.guest;
    const active = isActive(guest);
    // A stopped machine has no ports: nobody would ever listen at the other end.
    if (!active && !wanted(desired, name)) continue;
    // A card that a running QEMU does not have comes with the next start.
    const plan = bootedWith(name, guest, isStarting);
    const count = plan?.nics.length ?? spec.nics.length;
    for (const [index, nic] of spec.nics.slice(0, count).entries()) {
      neededSwitches.add(nic.switch);
      portsOf(nic.switch).push({
        name: nicPortName(name, index),
        device: nicDevice(plan?.nics[index] ?? nic, sockets.nicSocket(name, index)),
        ...withOwnMac(portToPlane(nic), nic.guard, macOf(name, index, nic.mac)),
      });
    }
  }
  const switches: SwitchConfig[] = [];
  for (const [name, spec] of withNeeded(desired, 'switch', candidate => neededSwitches.has(candidate))) {
    // One that is on its way out serves its machines to their end; its own ports may be another's already.
    const ownPorts = desired.specs.switch.has(name) ? spec.ports : {};
    const own = Object.entries(ownPorts).map(([portName, port]): PortConfig => ({
      name: portName,
      device: deviceToPlane(port),
      ...portToPlane(port),
    }));
    switches.push({
      name,
      ageingTime_s: durationOf_ms(spec.ageing) / 1000,
      macLimit: spec.macLimit,
      ...(spec.address === undefined ? {} : { address: spec.address }),
      ...switchToPlane(spec),
      ports: [...own, ...(ports.get(name) ?? [])],
    });
  }
  return { generation: generationOf(switches), switches };
}
