/**
 * What the stages said of a frame on trial, in words. The way itself is not here: a trial goes through switch/appPipeline.ts
 * as every frame does.
 */
import type { TraceView } from '../contract.js';
import { DROP, PORT_COUNTERS, placeOf } from '../switch/counters.js';
import type { PortCounter } from '../switch/counters.js';
import * as ethernet from '../wire/ethernet.js';
import * as vlan from '../wire/vlan.js';

type Stage = TraceView['stages'][number];

/** Where the stages that are not capabilities refuse, and why. */
const REFUSALS: Readonly<Partial<Record<PortCounter, readonly [stage: string, why: string]>>> = {
  dropTruncated: ['shape', 'shorter than a header'],
  dropOversized: ['shape', 'longer than any frame'],
  dropReservedGroup: ['control', 'to a reserved group address (802.1Q 8.6.3) that nothing here listens to'],
  dropPortFault: ['port', 'the port was taken out of service'],
  dropPortDiscarding: ['spanningTree', 'spanning tree does not let the port forward'],
  dropVlanReserved: ['vlan', 'VLAN 4095 is reserved'],
  dropVlanNotMember: ['vlan', 'the port is not a member of its VLAN'],
  dropUntagged: ['vlan', 'it has no VLAN in its tag, and the port gives it none (no native VLAN)'],
  dropDoubleTagged: ['vlan', 'two customer tags on an access port'],
  dropSamePort: ['lookup', 'its destination is behind the port that it came by'],
  dropNoReceiver: ['egress', 'nobody else may have it'],
  dropStaticNowhere: ['lookup', 'a static entry says that what goes to this station is dropped'],
  dropIsolated: ['egress', 'its port and the one of its destination may not speak with each other'],
  dropAddressLimit: ['addresses', 'the port has as many addresses as it may'],
  dropStationMoved: ['addresses', 'its source moves to this port too often'],
  dropStormBroadcast: ['storm', 'the rate of broadcasts is used up'],
  dropStormMulticast: ['storm', 'the rate of multicasts is used up'],
  dropStormUnknown: ['storm', 'the rate of frames to unknown stations is used up'],
};

export class Trial {
  readonly stages: Stage[] = [];

  /** `answer`: PASS, or a drop reason. */
  note(stage: string, answer: number, why?: string): void {
    if (answer > DROP) this.stages.push({ stage, verdict: 'pass', why: why ?? '' });
    else this.#drop(answer, stage, why);
  }

  say(stage: string, why: string): void {
    this.stages.push({ stage, verdict: 'note', why });
  }

  /** What came of it at last; a drop that no stage has noted is noted now. */
  end(outcome: number): void {
    if (outcome <= DROP && this.stages.at(-1)?.verdict !== 'drop') this.#drop(outcome);
  }

  #drop(reason: number, stage?: string, why?: string): void {
    const [of, words] = REFUSALS[counterOf(reason)] ?? [];
    const whole = [words ?? `refused (${counterOf(reason)})`, why].filter(part => part !== undefined);
    this.stages.push({ stage: stage ?? of ?? 'switch', verdict: 'drop', why: whole.join('; ') });
  }
}

export function counterOf(reason: number): PortCounter {
  return PORT_COUNTERS[placeOf(reason)]!;
}

const TAGS: Readonly<Record<number, string>> = {
  [vlan.TPID_CUSTOMER]: 'tag',
  [vlan.TPID_SERVICE]: 'service tag',
  [vlan.TPID_OLD_OUTER]: 'old outer tag',
};

/** The tags that a frame has once an edit is done to it, outermost first. */
export function tagsAfter(view: DataView, at: number, length_bytes: number, edit: number): string {
  const words: number[] = [];
  const end = at + length_bytes;
  for (let from = at + vlan.AT; from + vlan.LENGTH <= end; from += vlan.LENGTH) {
    if (TAGS[view.getUint16(from)] === undefined) break;
    words.push(view.getInt32(from));
  }
  if ((edit & vlan.EDIT_REMOVE) !== 0) words.shift();
  if ((edit & vlan.EDIT_ADD) !== 0) words.unshift(vlan.word(edit));
  if (words.length === 0) return 'untagged';
  return words
    .map(word => {
      const priority = (word >>> vlan.PCP_SHIFT) & 7;
      const name = `${TAGS[word >>> 16]!} ${word & vlan.VID_MASK}`;
      return priority === 0 ? name : `${name} priority ${priority}`;
    })
    .join(', ');
}

/** Who listens to which reserved group address (802.1Q-2022 table 8-1; 802.3 annex 57A; 802.1AB-2016 7.1). */
export function groupName(view: DataView, at: number): string {
  const last = view.getUint8(at + ethernet.ADDRESS_LENGTH - 1);
  const names: Readonly<Record<number, string>> = {
    0: 'spanning tree, LLDP',
    1: 'pause frames',
    2: 'slow protocols: LACP',
    3: '802.1X, LLDP',
    0xe: 'LLDP',
  };
  return names[last] ?? 'reserved';
}
