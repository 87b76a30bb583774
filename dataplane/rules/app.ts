/**
 * Flow rules of a switch: joins the classifier to the engine. What a rule does is compiled here, from names to the
 * numbers of ports, meters and sessions; counters are kept by the rule's name as long as the rule says the same.
 *
 *   frame -> classify (classifier.ts) -> per rule of the chain: count, meter, mirror, change -> verdict
 *
 * When rules, ports or sessions change, what was compiled is thrown away and made anew before the next frame: every
 * frame is decided by one set of rules, and none is lost. All rules see the frame as it came; changes are made
 * while the chain is gone through.
 */
import type { FlowActions, FlowRule, FlowRules, RulesView, SwitchConfig } from '../contract.js';
import { coveredRules } from '../contract/ruleCover.js';
import { parseMac } from '../../host/ip.js';
import { SLOT_ROOM_BYTES } from '../engine/arena.js';
import { AT, FRAME_WORDS, ROOM, SLOT } from '../engine/frames.js';
import { dropReason } from '../switch/counters.js';
import { PASS } from '../switch/feature.js';
import type { Feature, FeaturePort, SwitchHost } from '../switch/feature.js';
import type { Packet } from '../switch/packet.js';
import { F_RULES } from '../switch/stages.js';
import type { RulesStage, Stages } from '../switch/stages.js';
import { Classifier } from './classifier.js';
import { describe } from './describe.js';
import * as edit from './edit.js';
import { Meters } from './meters.js';

const DROP_RULE = dropReason('dropRule');
const DROP_DEFAULT = dropReason('dropRuleDefault');
const DROP_METER = dropReason('dropRuleMeter');
const DROP_MALFORMED = dropReason('dropRulesMalformed');
const DROP_NO_ROOM = dropReason('dropRuleNoBuffer');

/** Numbers of ports that may be asked about; a switch has 4096 at most, and reuses them. */
const PORTS_END = 8192;
const LOG_EVERY_MS = 1000;
/** Events of all rules of a switch together. */
const LOGS_PER_SECOND = 10;
const NONE = -1;

const VERDICT_ALLOW = 0;
const VERDICT_DROP = 1;
const VERDICT_OUTPUT = 2;
const VERDICT_CONTINUE = 3;
const VERDICTS = {
  allow: VERDICT_ALLOW,
  drop: VERDICT_DROP,
  output: VERDICT_OUTPUT,
  continue: VERDICT_CONTINUE,
};

/** What a rule does, in numbers; NONE where it does nothing. */
interface Action {
  readonly verdict: number;
  readonly output: Int32Array;
  readonly mirrors: number;
  readonly vlan: number;
  readonly priority: number;
  readonly dscp: number;
  readonly meter: number;
  readonly exceedDscp: number;
  readonly hasSource: boolean;
  readonly sourceHigh: number;
  readonly sourceLow: number;
  readonly hasDestination: boolean;
  readonly destinationHigh: number;
  readonly destinationLow: number;
  readonly log: boolean;
  readonly problem: string | null;
}

/** Totals of one rule, kept by name. */
interface Tally {
  rule: string;
  frames: number;
  octets: number;
  hit_ms: number;
  logged_ms: number;
}

interface Compiled {
  classifier: Classifier;
  actions: Action[];
  tallies: Tally[];
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

export class RulesApp implements Feature, RulesStage {
  /** Ports that the frame in hand leaves by instead of where the database says; undefined: the ordinary way. */
  output: Int32Array | undefined;
  readonly takesTrials = true;
  /** Names of the rules that acted on the last trial. */
  #acted: string[] = [];
  readonly #host: SwitchHost;
  readonly #stages: Stages;
  #isOn = false;
  #rules: FlowRules | undefined;
  #sessions: readonly string[] = [];
  #compiled: Compiled | undefined;
  #meters = new Meters([], 0);
  #tallies = new Map<string, Tally>();
  #unmatchedFrames = 0;
  #unmatchedOctets = 0;
  #defaultVerdict = PASS;
  #logsLeft = LOGS_PER_SECOND;
  #logSecond_ms = 0;

  constructor(host: SwitchHost, stages: Stages) {
    this.#host = host;
    this.#stages = stages;
  }

  configure(config: SwitchConfig, ports: readonly FeaturePort[]): void {
    this.#take(config);
    for (const { port } of ports) this.#host.setFlag(port, F_RULES, this.#isOn);
  }

  #take(config: SwitchConfig): void {
    const sessions = (config.mirrors ?? []).map(({ name }) => name);
    if (same(config.rules, this.#rules) && same(sessions, this.#sessions)) return;
    this.#sessions = sessions;
    this.#rules = config.rules;
    const rules = config.rules;
    // Without a rule, and with all allowed, there is nothing to ask.
    this.#isOn = rules !== undefined && (rules.rules.length > 0 || rules.default === 'drop');
    this.#stages.rules = this.#isOn ? this : undefined;
    this.#defaultVerdict = rules?.default === 'drop' ? DROP_DEFAULT : PASS;
    this.#meters = new Meters(rules?.meters ?? [], this.#host.loop.now_ms, this.#meters);
    this.#tallies = keptTallies(rules?.rules ?? [], this.#tallies);
    this.#compiled = undefined;
    this.#host.decisionsChanged();
  }

  portAdded(port: FeaturePort): void {
    this.#host.setFlag(port.port, F_RULES, this.#isOn);
    this.#portsChanged(port);
  }

  portRemoved(port: FeaturePort): void {
    this.#portsChanged(port);
  }

  /** Numbers of ports are used again: what names this one must learn its number anew. */
  #portsChanged(port: FeaturePort): void {
    const name = port.config.name;
    const isNamed = this.#rules?.rules.some(
      ({ match, actions }) =>
        match.inPorts?.includes(name) === true || actions.output?.includes(name) === true,
    );
    if (isNamed !== true) return;
    this.#compiled = undefined;
    this.#host.decisionsChanged();
  }

  close(): void {
    this.#compiled = undefined;
    this.#stages.rules = undefined;
  }

  admit(packet: Packet): number {
    this.output = undefined;
    if (packet.isTrial) this.#acted = [];
    const compiled = this.#compiled ?? this.#compile();
    const classifier = compiled.classifier;
    const chain = classifier.classify(packet);
    if (packet.isMalformed && classifier.looksAtIp) return DROP_MALFORMED;
    if (chain !== 0 || !classifier.isLayer2(packet.port)) packet.isLayer2Decision = false;
    const count = compiled.actions.length;
    if (chain !== 0) {
      if (chain <= count) {
        const outcome = this.#act(compiled, chain - 1, packet);
        if (outcome <= PASS) return outcome;
      } else {
        const ranks = classifier.chain(chain);
        for (let i = 0; i < ranks.length; i++) {
          const outcome = this.#act(compiled, ranks[i]!, packet);
          if (outcome <= PASS) return outcome;
        }
      }
    }
    if (packet.isTrial) return this.#defaultVerdict;
    this.#unmatchedFrames++;
    this.#unmatchedOctets += packet.length_bytes;
    return this.#defaultVerdict;
  }

  explain(): string {
    if (this.#acted.length === 0) return `no rule matches: default ${this.#rules?.default ?? 'allow'}`;
    return `rule ${this.#acted.join(', ')}`;
  }

  /** PASS, a drop reason, or VERDICT_CONTINUE: ask the next. */
  #act(compiled: Compiled, rank: number, packet: Packet): number {
    const action = compiled.actions[rank]!;
    const tally = compiled.tallies[rank]!;
    if (packet.isTrial) {
      this.#acted.push(`"${compiled.classifier.rules[rank]!.name}"`);
      return this.#change(action, action.dscp, packet);
    }
    tally.frames++;
    tally.octets += packet.length_bytes;
    tally.hit_ms = packet.now_ms;
    let dscp = action.dscp;
    if (action.meter !== NONE && !this.#meters.conforms(action.meter, packet.length_bytes, packet.now_ms)) {
      if (action.exceedDscp === NONE) return DROP_METER;
      dscp = action.exceedDscp;
    }
    if (action.log) this.#log(compiled.classifier.rules[rank]!, tally, packet);
    if (action.mirrors !== 0) this.#stages.mirrors?.take(packet, action.mirrors);
    return this.#change(action, dscp, packet);
  }

  /** What the rule changes, and its verdict. */
  #change(action: Action, dscp: number, packet: Packet): number {
    if (action.verdict === VERDICT_DROP) return DROP_RULE;
    if (dscp !== NONE || action.hasSource || action.hasDestination) {
      if (!this.#makeOwn(packet)) return DROP_NO_ROOM;
      if (dscp !== NONE) edit.setDscp(packet, dscp);
      if (action.hasSource) edit.setSourceMac(packet, action.sourceHigh, action.sourceLow);
      if (action.hasDestination)
        edit.setDestinationMac(packet, action.destinationHigh, action.destinationLow);
    }
    if (action.vlan !== NONE) {
      packet.vlan = action.vlan;
      packet.isRetagged = true;
    }
    if (action.priority !== NONE) {
      packet.priority = action.priority;
      packet.isRetagged = true;
    }
    if (action.verdict === VERDICT_CONTINUE) return VERDICT_CONTINUE;
    if (action.verdict === VERDICT_OUTPUT) this.output = action.output;
    return PASS;
  }

  /**
   * Puts the frame into a slot of its own unless nobody else holds the one it is in: others in the same slot may be
   * copies of it, or wait to be sent. False: there is no room.
   */
  #makeOwn(packet: Packet): boolean {
    const { pool, frames } = this.#host.loop;
    const words = frames.words;
    const w = packet.frame * FRAME_WORDS;
    const slot = words[w + SLOT]!;
    if (pool.holds(slot) === 1) return true;
    const own = pool.take();
    if (own < 0) return false;
    const at = pool.arena.slotAt(own) + SLOT_ROOM_BYTES;
    const from = packet.at;
    pool.arena.bytes.copyWithin(at, from, from + packet.length_bytes);
    words[w + SLOT] = own;
    words[w + AT] = at;
    words[w + ROOM] = SLOT_ROOM_BYTES;
    pool.release(slot);
    const moved = at - from;
    packet.at = at;
    packet.l3At += moved;
    packet.end += moved;
    if (packet.l4At !== 0) packet.l4At += moved;
    return true;
  }

  #log(rule: FlowRule, tally: Tally, packet: Packet): void {
    const now_ms = packet.now_ms;
    if (now_ms - tally.logged_ms < LOG_EVERY_MS) return;
    if (now_ms - this.#logSecond_ms >= LOG_EVERY_MS) {
      this.#logSecond_ms = now_ms;
      this.#logsLeft = LOGS_PER_SECOND;
    }
    if (this.#logsLeft === 0) return;
    this.#logsLeft--;
    tally.logged_ms = now_ms;
    const port = this.#host.link(packet.port)?.name ?? null;
    this.#host.tell({
      type: 'switchEvent',
      what: 'rule',
      port,
      message: `rule "${rule.name}" (${rule.actions.verdict}): ${describe(packet)}; ${tally.frames} frames so far`,
    });
  }

  #compile(): Compiled {
    const host = this.#host;
    const rules = this.#rules?.rules ?? [];
    const numberOf = (name: string): number | undefined => host.portNamed(name)?.port;
    const classifier = new Classifier(rules, numberOf, PORTS_END);
    const meters = new Map(this.#meters.list.map((meter, index) => [meter.name, index]));
    const compiled = {
      classifier,
      actions: classifier.rules.map(({ actions }) => this.#action(actions, meters, numberOf)),
      tallies: classifier.rules.map(rule => this.#tallies.get(rule.name) ?? blankTally(rule)),
    };
    this.#compiled = compiled;
    return compiled;
  }

  #action(
    actions: FlowActions,
    meters: ReadonlyMap<string, number>,
    numberOf: (name: string) => number | undefined,
  ): Action {
    const { output = [], mirror, meter } = actions;
    const ports = output.flatMap(name => numberOf(name) ?? []);
    const session = mirror === undefined ? NONE : this.#sessions.indexOf(mirror);
    const index = meter === undefined ? NONE : (meters.get(meter) ?? NONE);
    const exceed = index === NONE ? 'drop' : this.#meters.list[index]!.exceed;
    const source = macOf(actions.setSourceMac);
    const destination = macOf(actions.setDestinationMac);
    const problem =
      ports.length < output.length
        ? `no port ${output.filter(name => numberOf(name) === undefined).join(', ')} here at present`
        : mirror !== undefined && session < 0
          ? `no mirror session ${mirror} here`
          : meter !== undefined && index < 0
            ? `no meter ${meter} here`
            : null;
    return {
      verdict: VERDICTS[actions.verdict],
      output: Int32Array.from(ports),
      mirrors: session < 0 ? 0 : 1 << session,
      vlan: actions.setVlan ?? NONE,
      priority: actions.setPriority ?? NONE,
      dscp: actions.setDscp ?? NONE,
      meter: index,
      exceedDscp: exceed === 'drop' ? NONE : exceed.setDscp,
      hasSource: actions.setSourceMac !== undefined,
      sourceHigh: source.high,
      sourceLow: source.low,
      hasDestination: actions.setDestinationMac !== undefined,
      destinationHigh: destination.high,
      destinationLow: destination.low,
      log: actions.log === true,
      problem,
    };
  }

  show(what: string): RulesView | undefined {
    if (what !== 'rules') return undefined;
    const { classifier, actions, tallies } = this.#compiled ?? this.#compile();
    const now_ms = this.#host.loop.now_ms;
    const { list, ...meters } = this.#meters;
    const covered = new Map(
      coveredRules(classifier.rules).map(({ rule, by }) => [
        rule,
        `never asked: rule ${classifier.rules[by]!.name} takes all that it could match`,
      ]),
    );
    return {
      default: this.#rules?.default ?? 'allow',
      unmatched: { frames: this.#unmatchedFrames, octets: this.#unmatchedOctets },
      rules: classifier.rules.map((rule, rank) => {
        const { frames, octets, hit_ms } = tallies[rank]!;
        return {
          name: rule.name,
          priority: rule.priority,
          verdict: rule.actions.verdict,
          frames,
          octets,
          lastHit_ms: frames === 0 ? null : now_ms - hit_ms,
          problem: classifier.problems[rank] ?? actions[rank]!.problem ?? covered.get(rank) ?? null,
        };
      }),
      meters: list.map(({ name, rate_bps, burst_bytes }, index) => ({
        name,
        rate_bps,
        burst_bytes,
        conformedFrames: meters.conformedFrames[index]!,
        conformedOctets: meters.conformedOctets[index]!,
        exceededFrames: meters.exceededFrames[index]!,
        exceededOctets: meters.exceededOctets[index]!,
      })),
      classifier: {
        tuples: classifier.space.tupleCount,
        entries: classifier.space.entryCount,
        cacheFlows: classifier.cache.count,
        cacheHits: classifier.cache.hits + classifier.exact.hits,
        cacheMisses: classifier.cache.misses,
      },
    };
  }
}

function blankTally(rule: FlowRule): Tally {
  // No frame comes before time began.
  return { rule: JSON.stringify(rule), frames: 0, octets: 0, hit_ms: 0, logged_ms: -LOG_EVERY_MS };
}

function keptTallies(rules: readonly FlowRule[], before: ReadonlyMap<string, Tally>): Map<string, Tally> {
  return new Map(
    rules.map(rule => {
      const old = before.get(rule.name);
      return [rule.name, old !== undefined && old.rule === JSON.stringify(rule) ? old : blankTally(rule)];
    }),
  );
}

function macOf(text: string | undefined): { high: number; low: number } {
  const octets = text === undefined ? undefined : parseMac(text);
  if (octets === undefined) return { high: 0, low: 0 };
  const view = new DataView(octets.buffer);
  return { high: view.getUint16(0), low: view.getInt32(2) };
}
