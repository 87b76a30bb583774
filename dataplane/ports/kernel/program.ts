/**
 * The programs that forward decided flows in the kernel, as instructions. Pure; shortcut.ts loads them and ties
 * them to hooks. All of one kind are alike but for numbers: each begins with the same key and the same look-up.
 *
 *            frame at a hook                     not for us: the ordinary way, through the switch's own port
 *                 |                                        ^
 *   key: addresses, tag, port  ----- no such flow ---------+  (a second tag, 802.1ad: likewise)
 *                 |                                        |
 *   of this generation? fits the way out? ------ no -------+
 *                 |
 *   gate:     on to the conduit, at whose end in the switch's namespace `forward` looks it up again
 *   forward:  count, edit the tag, redirect
 *   filter:   0, "not for this socket": the hook behind it forwards the frame
 *
 * `forward` behind a conduit asks nothing about the generation: a frame that passed the gate is forwarded as long
 * as its flow stands in the map, which it does for a while after it has ended. So none is lost on the way when a
 * flow ends. What has no flow there did not come by the gate, and is dropped.
 */
import { BpfAssembler, R0, R1, R10, R2, R3, R4, R6, R7, R8, R9, reg } from '../../../host/bpfAssembler.js';
import type { Register } from '../../../host/bpfAssembler.js';
import * as vlan from '../../wire/vlan.js';
import * as layout from './layout.js';

// linux/bpf.h: struct __sk_buff.
const SKB_LEN = 0;
const SKB_VLAN_PRESENT = 20;
const SKB_VLAN_TCI = 24;
const SKB_VLAN_PROTO = 28;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
const SKB_GSO_SIZE = 176;

// linux/bpf.h: enum bpf_func_id.
const FN_MAP_LOOKUP_ELEM = 1;
const FN_SKB_VLAN_PUSH = 18;
const FN_SKB_VLAN_POP = 19;
const FN_REDIRECT = 23;
const FN_SKB_LOAD_BYTES = 26;
const FN_REDIRECT_PEER = 155;

/** What a program at a hook of tc or tcx answers. */
export const VERDICT_NEXT = -1;
export const VERDICT_DROP = 2;
export const VERDICT_REDIRECT = 7;
/** What a socket's filter answers: so many bytes of the frame at most. */
export const FILTER_TAKE = 0x7fff_ffff;
export const FILTER_LEAVE = 0;

/** As a 16-bit load sees them in the frame. */
const bigEndian16 = (value: number): number => ((value & 0xff) << 8) | (value >>> 8);
const TYPE_CVLAN = bigEndian16(0x8100);
/** More of a tag behind the first one: such a frame's decision is not by one VLAN. Also 802.1ad as the first. */
const TYPES_OF_TAGS = [0x8100, 0x88a8, 0x9100].map(bigEndian16);

/** Addresses, one tag, and the type behind it. */
const HEAD_BYTES = 18;
const TYPE_AT = 12;

const KEY_AT = -layout.KEY_BYTES;
/** Where `filter` copies the head to: above the key, aligned to eight. */
const HEAD_AT = KEY_AT - 24;

export interface Maps {
  readonly flows: number;
  /** An array of one value whose first word is the current generation. */
  readonly generation: number;
}

/** Leaves the flow's value in R9 and falls through, or goes to `missed`. R6 is the context. */
function lookUp(a: BpfAssembler, { flows }: Maps, port: number, isFilter: boolean, missed: string): void {
  a.move(R6, reg(R1));
  let head: Register = R7;
  let headAt = 0;
  if (isFilter) {
    // A socket's filter may not look into the frame by itself.
    a.move(R2, 0).move(R3, reg(R10)).op('add', R3, HEAD_AT).move(R4, HEAD_BYTES);
    a.call(FN_SKB_LOAD_BYTES).jumpIf(R0, '!=', 0, missed);
    head = R10;
    headAt = HEAD_AT;
  } else {
    a.load(4, R7, R6, SKB_DATA).load(4, R8, R6, SKB_DATA_END);
    a.move(R1, reg(R7)).op('add', R1, HEAD_BYTES).jumpIf(R1, '>', reg(R8), missed);
  }
  a.load(2, R3, head, headAt + TYPE_AT);
  a.move(R2, 0).move(R8, port);
  a.load(4, R1, R6, SKB_VLAN_PRESENT).jumpIf(R1, '!=', 0, 'besideFrame');
  a.jumpIf(R3, '!=', TYPE_CVLAN, 'keyed');
  // At the hook of what leaves, a tag may still stand in the frame.
  a.load(2, R2, head, headAt + TYPE_AT + 2).toBigEndian(R2, 16);
  a.load(2, R3, head, headAt + TYPE_AT + 4).move(R8, port | layout.KEY_IS_TAGGED);
  a.jump('keyed');
  a.label('besideFrame');
  a.load(4, R1, R6, SKB_VLAN_PROTO).jumpIf(R1, '!=', TYPE_CVLAN, missed);
  a.load(4, R2, R6, SKB_VLAN_TCI).move(R8, port | layout.KEY_IS_TAGGED);
  a.label('keyed');
  for (const type of TYPES_OF_TAGS) a.jumpIf(R3, '==', type, missed);
  a.load(8, R1, head, headAt).store(8, R10, KEY_AT, reg(R1));
  a.load(4, R1, head, headAt + 8).store(4, R10, KEY_AT + 8, reg(R1));
  a.store(2, R10, KEY_AT + layout.KEY_TCI, reg(R2)).store(2, R10, KEY_AT + layout.KEY_PORT, reg(R8));
  a.loadMap(R1, flows).move(R2, reg(R10)).op('add', R2, KEY_AT);
  a.call(FN_MAP_LOOKUP_ELEM).jumpIf(R0, '==', 0, missed);
  a.move(R9, reg(R0));
}

/** Goes to `missed` when the flow has ended, or the frame does not fit the way out. */
function checkStanding(a: BpfAssembler, { generation }: Maps, missed: string): void {
  a.loadMapValue(R1, generation, 0).load(4, R1, R1, 0).load(4, R2, R9, layout.VALUE_GENERATION);
  a.jumpIf(R1, '!=', reg(R2), missed);
  a.load(4, R1, R6, SKB_GSO_SIZE).load(4, R2, R9, layout.VALUE_SEGMENT_MAX).jumpIf(R1, '!=', 0, 'measured');
  a.load(4, R1, R6, SKB_LEN).load(4, R2, R9, layout.VALUE_FRAME_MAX);
  a.label('measured').jumpIf(R1, '>', reg(R2), missed);
}

/** Counts, edits, and ends the program with where the frame goes. */
function act(a: BpfAssembler): void {
  a.move(R1, 1).atomicAdd(8, R9, layout.VALUE_FRAMES, R1);
  a.load(4, R1, R6, SKB_LEN).load(4, R2, R6, SKB_VLAN_PRESENT);
  // A tag that the kernel keeps beside the frame is not in its length.
  a.jumpIf(R2, '==', 0, 'counted').op('add', R1, vlan.LENGTH);
  a.label('counted').atomicAdd(8, R9, layout.VALUE_OCTETS, R1);
  a.load(4, R1, R6, SKB_GSO_SIZE).jumpIf(R1, '==', 0, 'single');
  a.move(R1, 1).atomicAdd(8, R9, layout.VALUE_SUPER_FRAMES, R1);
  a.label('single').load(4, R7, R9, layout.VALUE_EDIT).jumpIf(R7, '==', 0, 'edited');
  a.jumpIf(R7, '&', vlan.EDIT_REMOVE, 'remove').jump('removed');
  a.label('remove').move(R1, reg(R6)).call(FN_SKB_VLAN_POP).jumpIf(R0, '!=', 0, 'drop');
  a.label('removed').jumpIf(R7, '&', vlan.EDIT_ADD, 'add').jump('edited');
  a.label('add').move(R1, reg(R6)).move(R2, TYPE_CVLAN).move(R3, reg(R7)).op('and', R3, 0xffff);
  a.call(FN_SKB_VLAN_PUSH).jumpIf(R0, '!=', 0, 'drop');
  a.label('edited').load(4, R1, R9, layout.VALUE_IFINDEX).load(4, R2, R9, layout.VALUE_HOW);
  a.jumpIf(R2, '==', layout.HOW_PEER, 'peer').call(FN_REDIRECT).exit();
  a.label('peer').move(R2, 0).call(FN_REDIRECT_PEER).exit();
  a.label('drop').move(R0, VERDICT_DROP).exit();
}

/** At a hook of a port in the switch's own namespace. */
export function forward(maps: Maps, port: number): Uint8Array {
  const a = new BpfAssembler();
  lookUp(a, maps, port, false, 'missed');
  checkStanding(a, maps, 'missed');
  act(a);
  return a.label('missed').move(R0, VERDICT_NEXT).exit().finish();
}

/** At the hook of a port in another namespace: what has a flow goes to the conduit there. */
export function gate(maps: Maps, port: number, conduit: number): Uint8Array {
  const a = new BpfAssembler();
  lookUp(a, maps, port, false, 'missed');
  checkStanding(a, maps, 'missed');
  a.move(R1, conduit).move(R2, 0).call(FN_REDIRECT).exit();
  return a.label('missed').move(R0, VERDICT_NEXT).exit().finish();
}

/** At the end of a port's conduit in the switch's namespace. */
export function forwardBehindGate(maps: Maps, port: number): Uint8Array {
  const a = new BpfAssembler();
  lookUp(a, maps, port, false, 'drop');
  act(a);
  return a.finish();
}

/** At the end of a port's conduit in the port's namespace: whatever the switch sends, into the port. */
export function deliver(ifindex: number): Uint8Array {
  return new BpfAssembler().move(R1, ifindex).move(R2, layout.HOW_IN).call(FN_REDIRECT).exit().finish();
}

/** For the packet socket of a port, which sees frames before the hook does. */
export function filter(maps: Maps, port: number): Uint8Array {
  const a = new BpfAssembler();
  lookUp(a, maps, port, true, 'missed');
  checkStanding(a, maps, 'missed');
  a.move(R0, FILTER_LEAVE).exit();
  return a.label('missed').move(R0, FILTER_TAKE).exit().finish();
}
