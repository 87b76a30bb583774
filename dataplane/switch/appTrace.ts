/**
 * A frame on trial: decided like any other by the switch, but nothing is learned, counted, told or sent. What is said
 * of it on the way is collected here, and what would become of it at the ports that it would leave by.
 */
import type { TraceView } from '../contract.js';
import type { Link } from '../engine/link.js';
import { Trial, counterOf, groupName, tagsAfter } from '../trace/trial.js';
import * as ethernet from '../wire/ethernet.js';
import { DROP, dropReason } from './counters.js';
import { PASS } from './feature.js';
import type { FeaturePort, IngressStage } from './feature.js';
import { LEARN_FULL, LEARN_NEW, LEARN_PORT_FULL, LEARN_STATIC } from './filteringDatabase.js';
import type { Packet } from './packet.js';
import type { Relay } from './relay.js';
import * as stages from './stages.js';
import type { Stages } from './stages.js';

const NO_RECEIVER = dropReason('dropNoReceiver');

/** What of its switch a trial looks at. */
export interface Tried {
  readonly relay: Relay;
  readonly packet: Packet;
  readonly stages: Stages;
  readonly flags: number;
  link(port: number): Link | undefined;
  /** A port, FLOOD (then to `receivers`), or a drop reason. */
  decide(): number;
  receivers(): Int32Array;
}

export class Trace extends Trial {
  readonly #tried: Tried;

  constructor(tried: Tried) {
    super();
    this.#tried = tried;
  }

  /** In the place of `stage.admit`. */
  ask(name: string, stage: IngressStage): number {
    const { packet } = this.#tried;
    if (stage.takesTrials !== true) {
      this.say(name, 'not asked: it takes no trials');
      return PASS;
    }
    const answer = stage.admit(packet);
    this.note(name, answer, stage.explain?.(packet));
    return answer;
  }

  /** In the place of `relay.learn`. */
  learn(): void {
    const { relay, packet } = this.#tried;
    relay.wouldLearn(packet.view, packet.at, packet.port, packet.now_ms);
    this.note('learning', PASS, this.#learningWords(relay));
  }

  #learningWords({ learned, sourceNotLearnable }: Relay): string {
    if (sourceNotLearnable) return 'its source is no address of a station: not learned';
    if (learned >= 0) return `its source would move here from port ${this.nameOf(learned)}`;
    if (learned === LEARN_NEW) return 'its source would be learned';
    if (learned === LEARN_FULL) return 'its source is not learned: the switch has as many as it may';
    if (learned === LEARN_PORT_FULL) return 'its source is not learned: the port has as many as it may';
    if (learned === LEARN_STATIC) return 'its source is not learned: a static entry has it elsewhere';
    return 'its source is known here';
  }

  nameOf(port: number): string {
    return this.#tried.link(port)?.name ?? `number ${port}`;
  }

  /** Everything, of the frame that is in the packet. */
  run({ port, link }: FeaturePort): TraceView {
    const { packet, flags, stages: asked } = this.#tried;
    const seen: TraceView = {
      port: link.name,
      length_bytes: packet.length_bytes,
      vlan: null,
      priority: null,
      stages: this.stages,
      outcome: 'dropped',
      reason: null,
      egress: [],
      withheld: [],
      isOffloadable: false,
    };
    if (this.#isForTheSwitch()) {
      const whose = groupName(packet.view, packet.at);
      this.say('control', `${whose}: for the switch itself, never forwarded (802.1Q 8.6.3)`);
      return { ...seen, outcome: 'control' };
    }
    const decided = this.#tried.decide();
    if (packet.vlan !== 0) {
      seen.vlan = packet.vlan;
      seen.priority = packet.priority;
    }
    const isUnicast = decided >= 0;
    if (isUnicast) this.#leave(seen, decided);
    else if (decided > DROP)
      for (const receiver of this.#tried.receivers()) if (receiver !== port) this.#leave(seen, receiver);
    const outcome = decided > DROP && seen.egress.length === 0 ? NO_RECEIVER : decided;
    this.end(outcome);
    if (outcome <= DROP) return { ...seen, reason: counterOf(outcome) };
    if ((flags & stages.F_MIRROR) !== 0) this.say('mirrors', 'what comes in by this port is mirrored');
    return {
      ...seen,
      outcome: isUnicast ? 'forwarded' : 'flooded',
      isOffloadable: isUnicast && packet.isLayer2Decision && asked.offload?.accepts(link) === true,
    };
  }

  #isForTheSwitch(): boolean {
    const { packet, flags } = this.#tried;
    if (packet.length_bytes < ethernet.LENGTH || (flags & stages.F_FAULT) !== 0) return false;
    return ethernet.isReservedGroup(packet.view, packet.at);
  }

  #leave(seen: TraceView, port: number): void {
    const { packet, relay, stages: asked } = this.#tried;
    const name = this.nameOf(port);
    const egress = this.#tried.link(port);
    const withhold = (why: string): number => seen.withheld.push({ port: name, why });
    if (relay.blocked[port] !== 0) withhold('spanning tree or a fault does not let it forward');
    else if (relay.isApart(packet.port, port)) withhold('both ports are isolated');
    else if (egress === undefined || !egress.isUp) withhold('it is not up');
    else {
      const edit = relay.edit(port);
      seen.egress.push({
        port: name,
        tags: tagsAfter(packet.view, packet.at, packet.length_bytes, edit),
        queue: egress.scheduler?.queueOf?.(egress.loop.frames, packet.frame, edit) ?? null,
      });
      if (asked.mirrors?.isSource(port) === true)
        this.say('mirrors', `what leaves by port ${name} is mirrored`);
    }
  }
}
