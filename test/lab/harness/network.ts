/**
 * Network namespaces and the wires between them, by iproute2: another program than the one under test, so
 * that the two can disagree. All of it goes when the lab closes; links go with their namespace.
 */
import { readFileSync } from 'node:fs';
import { ownedName } from './owner.js';
import { killSync, run, runSync, start } from './processes.js';
import type { Ended, RunOptions, RunningProgram } from './processes.js';
import type { Undo } from './undo.js';

export class Namespace {
  readonly label: string;
  readonly name: string;
  readonly path: string;
  readonly #undo: Undo;
  readonly #env: Readonly<Record<string, string>>;
  /** Keeps a process inside, whose /proc/PID/net shows the namespace to us without entering it. */
  readonly #anchor: RunningProgram;

  private constructor(
    undo: Undo,
    env: Readonly<Record<string, string>>,
    label: string,
    name: string,
    anchor: RunningProgram,
  ) {
    this.#undo = undo;
    this.#env = env;
    this.label = label;
    this.name = name;
    this.path = `/run/netns/${name}`;
    this.#anchor = anchor;
  }

  /**
   * A namespace with its loopback up. Without IPv6, unless it is asked for: nothing travels in it but what the
   * test sends. `env` marks whatever is started in it.
   */
  static async make(
    undo: Undo,
    label: string,
    env: Readonly<Record<string, string>>,
    { ipv6 = false }: { ipv6?: boolean } = {},
  ): Promise<Namespace> {
    const name = ownedName(label);
    undo.push(`remove namespace ${name}`, () => removeNamespace(name));
    await run(['ip', 'netns', 'add', name]);
    const netns = `/run/netns/${name}`;
    const quieten =
      'for f in all default; do f=/proc/sys/net/ipv6/conf/$f/disable_ipv6; [ ! -e $f ] || echo 1 > $f; done';
    if (!ipv6) await run(['sh', '-c', quieten], { netns });
    const anchor = start(undo, ['cat'], { netns, env });
    const namespace = new Namespace(undo, env, label, name, anchor);
    await namespace.ip('link', 'set', 'lo', 'up');
    return namespace;
  }

  async ip(...args: string[]): Promise<Ended> {
    return run(['ip', '-n', this.name, ...args]);
  }

  async run(argv: readonly string[], options: RunOptions = {}): Promise<Ended> {
    return run(argv, { ...options, netns: this.path });
  }

  start(argv: readonly string[], env: Readonly<Record<string, string>> = {}): RunningProgram {
    return start(this.#undo, argv, { netns: this.path, env: { ...this.#env, ...env } });
  }

  /** Give an interface of this namespace to another; it arrives down and without addresses. */
  async moveLink(ifname: string, to: Namespace): Promise<void> {
    await this.ip('link', 'set', ifname, 'netns', to.name);
  }

  /** Addresses with their prefix length. An IPv6 one is used at once, whoever else may have it. */
  async up(ifname: string, ...addresses: string[]): Promise<void> {
    for (const address of addresses) {
      const atOnce = address.includes(':') ? ['nodad'] : [];
      await this.ip('address', 'add', address, 'dev', ifname, ...atOnce);
    }
    await this.ip('link', 'set', ifname, 'up');
  }

  async macOf(ifname: string): Promise<string> {
    const links = JSON.parse((await this.ip('-j', 'link', 'show', ifname)).stdout) as { address: string }[];
    return links[0]?.address ?? '';
  }

  /** A counter of the namespace's own stack, such as `Tcp`, `InCsumErrors`. */
  snmp(protocol: string, name: string): number {
    return snmpCounter(readFileSync(`/proc/${this.#anchor.pid}/net/snmp`, 'latin1'), protocol, name);
  }

  /** proc_net_dev(5): packets that `ifname` received since it was made. Costs no process. */
  receivedPackets(ifname: string): number {
    const text = readFileSync(`/proc/${this.#anchor.pid}/net/dev`, 'latin1');
    for (const line of text.split('\n')) {
      const colon = line.indexOf(':');
      if (colon < 0 || line.slice(0, colon).trim() !== ifname) continue;
      return Number(
        line
          .slice(colon + 1)
          .trim()
          .split(/\s+/)[1],
      );
    }
    throw new Error(`no interface ${ifname} in namespace ${this.label}`);
  }
}

/** proc_net_snmp(5): two lines for each protocol, names and numbers. */
function snmpCounter(text: string, protocol: string, name: string): number {
  const [names, numbers] = text
    .split('\n')
    .filter(line => line.startsWith(`${protocol}: `))
    .map(line => line.split(' '));
  const value = Number(numbers?.[names?.indexOf(name) ?? -1]);
  if (Number.isNaN(value)) throw new Error(`the kernel counts no ${protocol} ${name}`);
  return value;
}

/** A cable between two namespaces. */
export async function addVeth(a: Namespace, ifA: string, b: Namespace, ifB: string): Promise<void> {
  const peer = ['peer', 'name', ifB, 'netns', b.name];
  await run(['ip', 'link', 'add', 'name', ifA, 'netns', a.name, 'type', 'veth', ...peer]);
}

/** Its processes are ended first: else the namespace would live on without a name. */
export function removeNamespace(name: string): void {
  for (const pid of runSync(['ip', 'netns', 'pids', name]).stdout.split('\n')) {
    if (pid !== '') killSync(Number(pid));
  }
  const { status, stderr } = runSync(['ip', 'netns', 'delete', name]);
  if (status !== 0 && !stderr.includes('No such file')) throw new Error(stderr.trim());
}
