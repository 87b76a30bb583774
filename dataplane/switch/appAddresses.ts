/**
 * What the configuration says of the filtering database: static entries, private VLANs, and how many addresses a port
 * may bring and how often stations may move to it.
 */
import type { PortAddresses, SwitchConfig } from '../contract.js';
import * as ethernet from '../wire/ethernet.js';
import { Recovery } from './appRecovery.js';
import { dropReason } from './counters.js';
import { PASS } from './feature.js';
import type { Feature, FeaturePort, SwitchHost } from './feature.js';
import { FilteringDatabase, LEARN_PORT_FULL, NOWHERE } from './filteringDatabase.js';
import type { Packet } from './packet.js';
import type { Relay } from './relay.js';
import { F_ADDRESSES } from './stages.js';

const DROP_FULL = dropReason('dropAddressLimit');
const DROP_MOVED = dropReason('dropStationMoved');
/** Stations whose moves are remembered per switch at most; beyond it, all are forgotten and counted anew. */
const MOVERS_MAX_COUNT = 4096;

interface Mover {
  count: number;
  since_ms: number;
}

export class AddressesApp implements Feature {
  readonly #host: SwitchHost;
  readonly #relay: Relay;
  readonly #recovery: Recovery;
  readonly #ports: (PortAddresses | undefined)[] = [];
  /** Keys of the static entries that are in the database, by their text. */
  readonly #statics = new Map<string, [key0: number, key1: number]>();
  readonly #movers = new Map<number, Mover>();
  #private = '[]';

  constructor(host: SwitchHost, relay: Relay) {
    this.#host = host;
    this.#relay = relay;
    this.#recovery = new Recovery(host, 'addressLimit');
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#configurePrivate(config);
    for (const { port, config: words } of ports) {
      const { addresses } = words;
      if (JSON.stringify(addresses) === JSON.stringify(this.#ports[port])) continue;
      this.#ports[port] = addresses;
      this.#recovery.bringBack(port);
      this.#relay.database.limitPort(port, addresses?.limit ?? 0);
      this.#host.setFlag(port, F_ADDRESSES, addresses !== undefined);
    }
    this.#configureStatics(config);
  }

  #configurePrivate({ privateVlans = [] }: SwitchConfig): void {
    const text = JSON.stringify(privateVlans);
    if (text === this.#private) return;
    this.#private = text;
    // Keys are made with the FID: what is there was put in under other ones.
    this.#removeStatics(() => true);
    this.#relay.vlans.setPrivate(privateVlans);
    this.#relay.database.flush();
    this.#host.decisionsChanged();
  }

  #configureStatics({ staticAddresses = [] }: SwitchConfig): void {
    const wanted = new Map<string, [key0: number, key1: number, port: number]>();
    const view = new DataView(new ArrayBuffer(ethernet.ADDRESS_LENGTH));
    for (const { mac, vlan, port: name } of staticAddresses) {
      const port = name === null ? NOWHERE : this.#host.portNamed(name)?.port;
      // A card of a machine that does not run has no port yet.
      if (port === undefined || !ethernet.emitAddress(view, 0, mac)) continue;
      const key0 = FilteringDatabase.key0(this.#relay.vlans.fid(vlan), view.getUint16(0));
      wanted.set(`${key0} ${view.getInt32(2)} ${port}`, [key0, view.getInt32(2), port]);
    }
    this.#removeStatics(text => !wanted.has(text));
    for (const [text, [key0, key1, port]] of wanted) {
      if (this.#statics.has(text)) continue;
      this.#relay.database.addStatic(key0, key1, port);
      this.#statics.set(text, [key0, key1]);
      this.#host.decisionsChanged();
    }
  }

  #removeStatics(isMeant: (text: string) => boolean): void {
    for (const [text, [key0, key1]] of this.#statics) {
      if (!isMeant(text)) continue;
      this.#relay.database.removeStatic(key0, key1);
      this.#statics.delete(text);
      this.#host.decisionsChanged();
    }
  }

  portRemoved({ port }: FeaturePort): void {
    this.#recovery.bringBack(port);
    this.#ports[port] = undefined;
    this.#relay.database.limitPort(port, 0);
    this.#removeStatics(text => text.endsWith(` ${port}`));
  }

  /** After the source was learned, or was not: PASS or a drop reason. */
  learned(packet: Packet): number {
    const { learned } = this.#relay;
    const addresses = this.#ports[packet.port];
    if (addresses === undefined) return PASS;
    if (learned === LEARN_PORT_FULL) {
      if (addresses.onFull === 'flood') return PASS;
      if (addresses.onFull === 'shutdown' && !packet.isTrial)
        this.#putDown(packet, `more than ${addresses.limit} addresses came in here`, addresses);
      return DROP_FULL;
    }
    if (learned < 0 || addresses.moves === null) return PASS;
    return this.#moved(packet, learned, addresses);
  }

  #moved(packet: Packet, from: number, addresses: PortAddresses): number {
    const { moves } = addresses;
    const key1 = packet.view.getInt32(packet.at + ethernet.SOURCE + 2);
    if (packet.isTrial) {
      const known = this.#movers.get(key1);
      const isRecent = known !== undefined && packet.now_ms - known.since_ms <= moves!.within_s * 1000;
      return isRecent && known.count >= moves!.most ? DROP_MOVED : PASS;
    }
    if (this.#movers.size >= MOVERS_MAX_COUNT) this.#movers.clear();
    let mover = this.#movers.get(key1);
    if (mover === undefined || packet.now_ms - mover.since_ms > moves!.within_s * 1000)
      this.#movers.set(key1, (mover = { count: 0, since_ms: packet.now_ms }));
    if (++mover.count <= moves!.most) return PASS;
    const high = packet.view.getUint16(packet.at + ethernet.SOURCE);
    if (moves!.action === 'hold') {
      const key0 = FilteringDatabase.key0(this.#relay.vlans.fid(packet.vlan), high);
      this.#relay.database.moveBack(key0, key1, from);
    } else {
      const mac = ethernet.formatAddress(high, key1);
      this.#putDown(
        packet,
        `${mac} moved here more than ${moves!.most} times in ${moves!.within_s} s`,
        addresses,
      );
    }
    return DROP_MOVED;
  }

  #putDown(packet: Packet, why: string, { recovery_s }: PortAddresses): void {
    const link = this.#host.link(packet.port);
    const port = link === undefined ? undefined : this.#host.portNamed(link.name);
    if (port !== undefined) this.#recovery.putDown(port, why, recovery_s);
  }

  close(): void {
    this.#recovery.close();
  }
}
