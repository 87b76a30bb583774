/**
 * What tiny guests say of themselves on their serial lines, and what should be true of them by their configuration. Pure: lines
 * and resources in, rows out. What is shown by `npm start` is what the guests saw, never what our tables claim.
 *
 *   WEFT {"fact":"boot","id":"…"}
 *   WEFT {"fact":"ping","peer":"10.0.10.2","reached":true,…}
 *   WEFT {"fact":"disk","device":"/dev/vda","formatted":true,"new":false,"boots":2,"intact":true}
 */
import type { Resource } from '../control/api/contract.js';
import type { ProgressRow } from './progress.js';
import { readiness } from './resources.js';
import { withoutCause } from './settle.js';
import { harmless } from './width.js';

export type Fact = Readonly<Record<string, unknown>> & { readonly fact: string };

const MARK = 'WEFT {';
const MAX_LINE_CHARS = 4096;

export function parseFact(line: string): Fact | undefined {
  const at = line.indexOf(MARK);
  if (at < 0 || line.length > MAX_LINE_CHARS) return undefined;
  try {
    const value: unknown = JSON.parse(line.slice(at + MARK.length - 1).trim());
    if (typeof value !== 'object' || value === null || !('fact' in value) || typeof value.fact !== 'string') {
      return undefined;
    }
    return value as Fact;
  } catch {
    // A guest that is cut off in mid-line: not a fact.
    return undefined;
  }
}

/** Cuts a serial line's text into lines, whatever pieces it comes in. */
export class LineSplitter {
  #rest = '';

  push(text: string): string[] {
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    // A line without end is not ours to keep.
    this.#rest = (lines.pop() ?? '').slice(-MAX_LINE_CHARS);
    return lines;
  }
}

interface Ping {
  reached: boolean;
  /** Of the facts, in the order in which they came to us. */
  order: number;
}

interface Seen {
  bootId: string;
  bootOrder: number;
  pings: Map<string, Ping>;
  disks: Map<string, Fact>;
}

/** All that the guests have said, since their last boots. */
export class Witness {
  readonly #machines = new Map<string, Seen>();
  #order = 0;

  take(machine: string, fact: Fact): void {
    this.#order++;
    let seen = this.#machines.get(machine);
    if (fact.fact === 'boot') {
      const bootId = String(fact['id']);
      // The same boot told again (a log read twice) takes nothing back.
      if (seen?.bootId === bootId) return;
      this.#machines.set(machine, { bootId, bootOrder: this.#order, pings: new Map(), disks: new Map() });
      return;
    }
    if (seen === undefined) {
      seen = { bootId: '', bootOrder: this.#order, pings: new Map(), disks: new Map() };
      this.#machines.set(machine, seen);
    }
    if (fact.fact === 'ping') {
      seen.pings.set(String(fact['peer']), { reached: fact['reached'] === true, order: this.#order });
    } else if (fact.fact === 'disk') seen.disks.set(String(fact['device']), fact);
  }

  /** It was started anew, or stopped: what it said before says nothing of now. */
  forget(machine: string): void {
    this.#machines.delete(machine);
  }

  booted(machine: string): boolean {
    return this.#machines.has(machine);
  }

  /**
   * Whether `machine` reaches `address`, the address of `peer`. Unreached is believed only when it was said after the
   * peer's boot: before it, nobody could have answered.
   */
  reaches(machine: string, address: string, peer: string): boolean | undefined {
    const ping = this.#machines.get(machine)?.pings.get(address);
    const bootOrder = this.#machines.get(peer)?.bootOrder;
    if (ping === undefined || bootOrder === undefined) return undefined;
    return ping.reached || ping.order > bootOrder ? ping.reached : undefined;
  }

  disk(machine: string, device: string): Fact | undefined {
    return this.#machines.get(machine)?.disks.get(device);
  }
}

/** A machine with a tiny guest, by its configuration. */
interface Guest {
  name: string;
  resource: Resource;
  /** Of its first card; null when it has none. */
  address: string | null;
  network: { switch: string; vlan: number } | null;
  peers: string[];
  disks: string[];
}

export function guestsOf(resources: readonly Resource[]): Guest[] {
  return resources.filter(({ kind, deleting }) => kind === 'machine' && !deleting).map(guestOf);
}

function guestOf(resource: Resource): Guest {
  const { spec, name } = resource;
  const words = typeof spec['cmdline'] === 'string' ? spec['cmdline'].split(/\s+/) : [];
  const listOf = (key: string) =>
    (words.find(word => word.startsWith(`${key}=`))?.slice(key.length + 1) ?? '').split(',').filter(Boolean);
  const nics: unknown[] = Array.isArray(spec['nics']) ? spec['nics'] : [];
  const nic = nics[0];
  const network =
    typeof nic === 'object' && nic !== null && 'switch' in nic
      ? { switch: String(nic.switch), vlan: 'vlan' in nic ? Number(nic.vlan) : 1 }
      : null;
  const address = listOf('weft.address')[0]?.split('/')[0] ?? null;
  return { name, resource, address, network, peers: listOf('weft.peers'), disks: listOf('weft.disk') };
}

/** What the guests should say, and whether they have. */
export function factRows(resources: readonly Resource[], witness: Witness): ProgressRow[] {
  const guests = guestsOf(resources);
  return [
    ...guests.map(guest => runningRow(guest, witness)),
    ...pairsOf(guests).map(([a, b]) => reachRow(a, b, witness)),
    ...guests.flatMap(guest => guest.disks.map(device => diskRow(guest, device, witness))),
  ];
}

function runningRow({ name, resource, address, network }: Guest, witness: Witness): ProgressRow {
  const { observed } = resource.status;
  const key = `running ${name}`;
  const state = readiness(resource);
  if (state.ready === 'True' && observed['state'] === 'running' && witness.booted(name)) {
    const accel = typeof observed['accel'] === 'string' ? observed['accel'] : '';
    const facts = [accel, address ?? '', network === null ? '' : `VLAN ${network.vlan}`].filter(Boolean);
    return { key, state: 'ok', text: `${name} runs (${facts.join(', ')})` };
  }
  if (observed['state'] === 'stopped' && state.ready === 'True') {
    return { key, state: 'busy', text: `${name} was stopped: npx weft machine start ${name}` };
  }
  const why =
    observed['state'] === 'running' && state.ready === 'True'
      ? 'runs; its guest boots'
      : state.reason === 'DependencyNotReady'
        ? withoutCause(state.message)
        : [state.reason, state.message].filter(Boolean).join(': ') || 'not yet';
  return { key, state: 'busy', text: `${name}: ${harmless(why)}` };
}

/** Pairs of guests of which one at least asks for the other. */
function pairsOf(guests: readonly Guest[]): [Guest, Guest][] {
  return guests.flatMap((a, i) =>
    guests.slice(i + 1).flatMap((b): [Guest, Guest][] => (asks(a, b) || asks(b, a) ? [[a, b]] : [])),
  );
}

function asks(a: Guest, b: Guest): boolean {
  return b.address !== null && a.peers.includes(b.address);
}

function reachRow(a: Guest, b: Guest, witness: Witness): ProgressRow {
  const together =
    a.network !== null && a.network.switch === b.network?.switch && a.network.vlan === b.network.vlan;
  const key = `reach ${a.name} ${b.name}`;
  const answers = [
    ...(asks(a, b) ? [{ from: a, to: b }] : []),
    ...(asks(b, a) ? [{ from: b, to: a }] : []),
  ].map(({ from, to }) => ({ from, to, reached: witness.reaches(from.name, to.address ?? '', to.name) }));
  const wrong = answers.find(({ reached }) => reached !== undefined && reached !== together);
  const vlans = together ? `VLAN ${a.network?.vlan}` : `VLANs ${a.network?.vlan} and ${b.network?.vlan}`;
  const pair = `${a.name} and ${b.name}`;
  if (wrong !== undefined) {
    const said = `${wrong.from.name} ${wrong.reached === true ? 'reaches' : 'does not reach'} ${wrong.to.name} (${vlans})`;
    // An answer that is still on its way is not a failure; one that should never come is.
    return { key, state: together ? 'busy' : 'failed', text: said };
  }
  if (answers.some(({ reached }) => reached === undefined)) {
    return {
      key,
      state: 'busy',
      text: `${pair}: ${together ? 'to reach each other' : 'to be kept apart'} (${vlans})`,
      waiting: true,
    };
  }
  return { key, state: 'ok', text: `${pair} ${together ? 'reach each other' : 'are kept apart'} (${vlans})` };
}

function diskRow({ name }: Guest, device: string, witness: Witness): ProgressRow {
  const key = `disk ${name} ${device}`;
  const fact = witness.disk(name, device);
  const disk = `disk ${device.replace('/dev/', '')} of ${name}`;
  if (fact === undefined) return { key, state: 'busy', text: `${disk}: nothing said yet`, waiting: true };
  const error = typeof fact['error'] === 'string' ? harmless(fact['error']) : '';
  if (fact['formatted'] !== true || fact['intact'] !== true) {
    const what = fact['formatted'] === true ? 'its data are not what was written' : 'no file system';
    return { key, state: 'failed', text: `${disk}: ${error === '' ? what : error}` };
  }
  const boots = Number(fact['boots']);
  const text = boots > 1 ? `found again, data intact; boot ${boots}` : 'formatted, written, read back';
  return { key, state: 'ok', text: `${disk}: ${text}${error === '' ? '' : `: ${error}`}` };
}
