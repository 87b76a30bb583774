/**
 * Port security of a switch: joins the inspector to the engine. A port with a guard has a policy; ports without one
 * are not asked. Leases live as long as this switch does, and are shown; refusals are counted by reason and told, at
 * most one event per port and reason in ten seconds.
 *
 * A port that only has MAC addresses to say keeps its place in the kernel's short cut: the kernel's flows know the
 * source address. Whatever else is guarded needs to see every frame, since a flow there has no type: ARP would go
 * along with what was allowed to pass as IP. Frames to a guarded port, and those of a trusted one, are not touched
 * by this, except that a trusted port's frames are read where leases are learned.
 */
import type { GuardView, SwitchConfig } from '../contract.js';
import { formatIp } from '../../host/ip.js';
import { SINK_COUNTERS_AT } from '../engine/counters.js';
import { Timer } from '../engine/timers.js';
import { PORT_COUNTERS, placeOf } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import type { Feature, FeaturePort, IngressStage, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import { F_GUARD } from '../switch/stages.js';
import type { Stages } from '../switch/stages.js';
import * as ethernet from '../wire/ethernet.js';
import { Inspector, REASONS } from './inspector.js';
import { LEASES_MAX_COUNT, MAPPED } from './leases.js';
import type { Lease } from './leases.js';
import { Policy } from './policy.js';

const SWEEP_EVERY_MS = 1000;
const TELL_EVERY_MS = 10_000;

const WORDS: Readonly<Record<(typeof REASONS)[number], string>> = {
  dropGuardMac: 'a source MAC address that may not speak here',
  dropGuardAddress: 'an IP address that may not speak here',
  dropGuardMalformed: 'a packet that is malformed, or hides what it carries',
  dropGuardArp: 'ARP in the name of another',
  dropGuardArpRate: 'more ARP than the rate allows',
  dropGuardNd: 'neighbour discovery in the name of another',
  dropGuardNdRate: 'more neighbour discovery than the rate allows',
  dropGuardDhcpServer: 'an answer of a DHCP server, where none may be',
  dropGuardDhcp: 'DHCP in the name of another',
  dropGuardRouter: 'a router advertisement or redirect, where no router may be',
};

export class GuardApp implements Feature, IngressStage {
  readonly takesTrials = true;
  readonly #host: SwitchHost;
  readonly #stages: Stages;
  readonly #inspector = new Inspector();
  readonly #policies: (Policy | undefined)[] = [];
  readonly #ports = new Map<number, FeaturePort>();
  /** `port reason`: when it was told last. */
  readonly #told_ms = new Map<string, number>();
  readonly #sweep: Timer;
  #learnsLeases = false;

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#stages = stages;
    this.#sweep = new Timer(now_ms => {
      this.#inspector.leases.sweep(now_ms);
      host.loop.timers.arm(this.#sweep, now_ms + SWEEP_EVERY_MS);
    });
  }

  configure(_config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#ports.clear();
    for (const port of ports) this.#ports.set(port.port, port);
    this.#learnsLeases = ports.some(({ config }) => config.guard?.leases === true);
    let changed = false;
    for (const { port, config } of ports) {
      const wanted = config.guard;
      const before = this.#policies[port]?.config;
      if (JSON.stringify(wanted) !== JSON.stringify(before)) {
        changed = true;
        if (before?.leases === true && wanted?.leases !== true) this.#inspector.leases.forgetPort(port);
        this.#policies[port] = wanted === undefined ? undefined : new Policy(wanted, port);
      }
      // A trusted port has nothing to be asked unless there are leases to learn.
      const isAsked = wanted !== undefined && (!wanted.trusted || this.#learnsLeases);
      this.#host.setFlag(port, F_GUARD, isAsked);
    }
    const isOn = this.#policies.some(policy => policy !== undefined);
    this.#stages.guard = isOn ? this : undefined;
    if (isOn && !this.#sweep.isArmed)
      this.#host.loop.timers.arm(this.#sweep, this.#host.loop.now_ms + SWEEP_EVERY_MS);
    if (!isOn) this.#host.loop.timers.cancel(this.#sweep);
    if (changed) this.#host.decisionsChanged();
  }

  portRemoved({ port }: FeaturePort): void {
    this.#ports.delete(port);
    this.#policies[port] = undefined;
    this.#inspector.leases.forgetPort(port);
    for (const reason of REASONS) this.#told_ms.delete(`${port} ${reason}`);
  }

  close(): void {
    this.#host.loop.timers.cancel(this.#sweep);
    this.#stages.guard = undefined;
  }

  admit(packet: Packet): number {
    const policy = this.#policies[packet.port];
    if (policy === undefined) return PASS;
    const answer = this.#inspector.admit(packet, policy);
    if (answer !== PASS) {
      if (!packet.isTrial) this.#refused(packet, answer);
    } else if (policy.config.trusted) packet.isLayer2Decision &&= !this.#learnsLeases;
    return answer;
  }

  explain(packet: Packet): string | undefined {
    const policy = this.#policies[packet.port];
    if (policy === undefined) return undefined;
    return policy.config.trusted ? 'the port is trusted' : 'rates of ARP and neighbour discovery not asked';
  }

  #refused(packet: Packet, answer: number): void {
    const reason = PORT_COUNTERS[placeOf(answer)] as (typeof REASONS)[number];
    const name = `${packet.port} ${reason}`;
    const told_ms = this.#told_ms.get(name);
    if (told_ms !== undefined && packet.now_ms - told_ms < TELL_EVERY_MS) return;
    this.#told_ms.set(name, packet.now_ms);
    const source = ethernet.addressAt(packet.view, packet.at + ethernet.SOURCE);
    const port = this.#ports.get(packet.port)?.link.name ?? null;
    this.#host.tell({
      type: 'switchEvent',
      what: 'guard',
      port,
      message: `refused ${WORDS[reason]} (${reason}), from ${source} in VLAN ${packet.vlan}`,
    });
  }

  show(what: string): GuardView | undefined {
    if (what !== 'guard') return undefined;
    const now_ms = this.#host.loop.now_ms;
    const ports: GuardView['ports'] = [];
    for (const [number, { link }] of this.#ports) {
      const config = this.#policies[number]?.config;
      if (config === undefined) continue;
      const counters = REASONS.map(
        reason => [reason, link.counters[SINK_COUNTERS_AT + PORT_COUNTERS.indexOf(reason)]!] as const,
      );
      ports.push({
        port: link.name,
        trusted: config.trusted,
        macs: config.macs ?? [],
        addresses: (config.addresses ?? []).map(({ prefix, mac }) =>
          mac === undefined ? prefix : `${prefix} ${mac}`,
        ),
        leases: config.leases,
        refused: Object.fromEntries(counters.filter(([, count]) => count > 0)),
      });
    }
    const leases = [...this.#inspector.leases].map(lease => ({
      address: addressOf(lease),
      mac: ethernet.formatAddress(lease.macHigh, lease.macLow),
      vlan: lease.vlan,
      port: this.#ports.get(lease.port)?.link.name ?? '',
      expiresIn_s:
        lease.expires_ms === Infinity ? null : Math.max(0, Math.round((lease.expires_ms - now_ms) / 1000)),
    }));
    return { ports, leases, leasesMax: LEASES_MAX_COUNT };
  }
}

function addressOf({ address }: Lease): string {
  const view = new DataView(new ArrayBuffer(16));
  for (const [i, word] of address.entries()) view.setInt32(4 * i, word);
  const isIpv4 = address[0] === 0 && address[1] === 0 && address[2] === MAPPED;
  return formatIp(new Uint8Array(view.buffer, isIpv4 ? 12 : 0));
}
