/** Storm control of a switch: asked for each frame that is about to be flooded from a port that has limits. */
import type { FeaturePort, SwitchHost, Feature } from '../switch/feature.js';
import type { PortStorm, StormLimit, SwitchConfig } from '../contract.js';
import { Recovery } from '../switch/appRecovery.js';
import { dropReason } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import { F_STORM } from '../switch/stages.js';
import type { Stages, StormStage } from '../switch/stages.js';
import { Bucket } from './bucket.js';

const KINDS = ['broadcast', 'multicast', 'unknown'] as const;
const DROPS = KINDS.map(kind =>
  dropReason(
    kind === 'broadcast'
      ? 'dropStormBroadcast'
      : kind === 'multicast'
        ? 'dropStormMulticast'
        : 'dropStormUnknown',
  ),
);
const WORDS = ['broadcasts', 'multicasts', 'frames to unknown stations'] as const;

interface Watched {
  port: FeaturePort;
  config: PortStorm;
  text: string;
  limits: (StormLimit | undefined)[];
  buckets: (Bucket | undefined)[];
}

export class StormApp implements Feature, StormStage {
  readonly #host: SwitchHost;
  readonly #recovery: Recovery;
  readonly #ports: (Watched | undefined)[] = [];

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#recovery = new Recovery(host, 'storm');
    stages.storm = this;
  }

  configure(_config: SwitchConfig, ports: readonly FeaturePort[]): void {
    for (const port of ports) {
      const { storm } = port.config;
      const text = JSON.stringify(storm);
      if (this.#ports[port.port]?.text === text) continue;
      this.#recovery.bringBack(port.port);
      this.#host.setFlag(port.port, F_STORM, storm !== undefined);
      this.#ports[port.port] = storm === undefined ? undefined : this.#watch(port, storm, text);
    }
  }

  #watch(port: FeaturePort, config: PortStorm, text: string): Watched {
    const limits = KINDS.map(kind => config[kind]);
    const { now_ms } = this.#host.loop;
    const buckets = limits.map(limit =>
      limit === undefined ? undefined : new Bucket(limit.rate_per_s, limit.burst, now_ms),
    );
    return { port, config, text, limits, buckets };
  }

  portRemoved({ port }: FeaturePort): void {
    this.#recovery.bringBack(port);
    this.#ports[port] = undefined;
  }

  /** What is unicast to a known station never comes here: its flows may be offloaded. */
  admit(packet: Packet, kind: number): number {
    const watched = this.#ports[packet.port];
    const bucket = watched?.buckets[kind];
    if (watched === undefined || bucket === undefined) return PASS;
    const isBits = watched.limits[kind]!.unit === 'bits';
    if (packet.isTrial) return bucket.hasAny(packet.now_ms) ? PASS : DROPS[kind]!;
    if (bucket.takes(isBits ? packet.length_bytes * 8 : 1, packet.now_ms)) return PASS;
    if (watched.config.action === 'shutdown') {
      const { rate_per_s, unit } = watched.limits[kind]!;
      const why = `storm control: more ${WORDS[kind]} than ${rate_per_s} ${unit} a second came in here`;
      this.#recovery.putDown(watched.port, why, watched.config.recovery_s);
    }
    return DROPS[kind]!;
  }

  close(): void {
    this.#recovery.close();
  }
}
