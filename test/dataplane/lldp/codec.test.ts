/** LLDPDUs: what is emitted is parsed again; what is wrong costs the frame or one TLV, as 802.1AB-2016 9.2.7.7 has it. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as lldp from '../../../dataplane/wire/lldp.js';
import { dirty, holds, record, u16, u32, u8 } from '../wire/codec.js';

const SOURCE = Uint8Array.of(2, 0, 0, 0, 0, 9);
const noFaults = (): lldp.ParseFaults => ({ tlvsDiscarded: 0, tlvsUnrecognized: 0 });

const identifier = record<lldp.Identifier>({
  subtype: u8,
  octets: fc.uint8Array({ minLength: 1, maxLength: 255 }),
});
const text = fc.option(fc.string({ maxLength: 60 }), { nil: null });

const pdus = record<lldp.Lldpdu>({
  chassisId: identifier,
  portId: identifier,
  ttl_s: fc.integer({ min: 1, max: 65_535 }),
  portDescription: text,
  systemName: text,
  systemDescription: text,
  capabilities: fc.option(u16, { nil: null }),
  enabledCapabilities: fc.constant(null),
  managementAddresses: fc.array(
    record<lldp.ManagementAddress>({ family: u8, octets: fc.uint8Array({ minLength: 1, maxLength: 31 }) }),
    { maxLength: lldp.ADDRESSES_MAX_COUNT },
  ),
  portVlan: fc.option(u16, { nil: null }),
  linkAggregation: fc.option(
    record<lldp.LinkAggregation>({ isCapable: fc.boolean(), isActive: fc.boolean(), port: u32 }),
    { nil: null },
  ),
  maximumFrameSize_bytes: fc.option(u16, { nil: null }),
}).map(pdu => ({
  ...pdu,
  enabledCapabilities: pdu.capabilities === null ? null : pdu.capabilities & 0x5555,
}));

void t.test('emit and parse', async t => {
  holds(
    t,
    fc.property(pdus, fc.nat({ max: 3 }), (pdu, at) => {
      const view = dirty(at + lldp.FRAME_MAX_LENGTH + 10);
      const length = lldp.emit(view, at, pdu, SOURCE);
      assert(length >= 60 && length <= lldp.FRAME_MAX_LENGTH);
      assert(lldp.isLldp(view, at));
      const faults = noFaults();
      assert.deepEqual(lldp.parse(view, at, at + length, faults), pdu);
      assert.deepEqual(faults, noFaults());
      for (let i = at + length; i < view.byteLength; i++) assert.equal(view.getUint8(i), 0xa5);
    }),
    { numRuns: 200 },
  );
});

void t.test('noise never throws, and what it is taken for is bounded', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 14, maxLength: 300 }), bytes => {
      const pdu = lldp.parse(
        new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
        0,
        bytes.length,
        noFaults(),
      );
      if (pdu !== undefined) assert(pdu.managementAddresses.length <= lldp.ADDRESSES_MAX_COUNT);
    }),
    { numRuns: 500 },
  );
});

void t.test('too much to say: the frame stays a frame', async t => {
  const long = 'ü'.repeat(300);
  const address = { family: 2, octets: new Uint8Array(31) };
  const pdu: lldp.Lldpdu = {
    ...lldp.blank(),
    chassisId: { subtype: 7, octets: new Uint8Array(255).fill(65) },
    portId: { subtype: 7, octets: new Uint8Array(255).fill(66) },
    ttl_s: 120,
    portDescription: long,
    systemName: long,
    systemDescription: long,
    managementAddresses: Array.from({ length: 8 }, () => address),
    portVlan: 5,
  };
  const view = dirty(1600);
  const length = lldp.emit(view, 0, pdu, SOURCE);
  t.ok(length <= lldp.FRAME_MAX_LENGTH);
  const faults = noFaults();
  const read = lldp.parse(view, 0, length, faults);
  t.same(faults, noFaults());
  t.equal(read?.systemName, 'ü'.repeat(127), 'a text is cut between characters');
});

/** A TLV by hand. */
const tlv = (type: number, ...octets: number[]): number[] => [
  (type << 1) | (octets.length >> 8),
  octets.length & 255,
  ...octets,
];
const CHASSIS = tlv(1, 4, 2, 0, 0, 0, 0, 1);
const PORT = tlv(2, 5, 101, 49);
const TTL = tlv(3, 0, 120);
const END = [0, 0];

function read(...octets: number[]): { pdu: lldp.Lldpdu | undefined; faults: lldp.ParseFaults } {
  const bytes = Uint8Array.from([...lldp.GROUP_ADDRESS, ...SOURCE, 0x88, 0xcc, ...octets]);
  const faults = noFaults();
  return { pdu: lldp.parse(new DataView(bytes.buffer), 0, bytes.length, faults), faults };
}

void t.test('9.2.7.7.1: what costs the whole LLDPDU', async t => {
  const rows: [says: string, octets: number[]][] = [
    ['nothing', []],
    ['only an end', END],
    ['no chassis', [...PORT, ...TTL, ...END]],
    ['no port', [...CHASSIS, ...TTL, ...END]],
    ['no TTL', [...CHASSIS, ...PORT, ...END]],
    ['another order', [...PORT, ...CHASSIS, ...TTL, ...END]],
    ['something between', [...CHASSIS, ...tlv(5, 65), ...PORT, ...TTL, ...END]],
    ['chassis without octets', [...tlv(1, 4), ...PORT, ...TTL, ...END]],
    ['port without octets', [...CHASSIS, ...tlv(2, 5), ...TTL, ...END]],
    ['chassis too long', [...tlv(1, ...Array.from({ length: 257 }, () => 4)), ...PORT, ...TTL, ...END]],
    ['TTL too short', [...CHASSIS, ...PORT, ...tlv(3, 1), ...END]],
    ['a second TTL', [...CHASSIS, ...PORT, ...TTL, ...TTL, ...END]],
    ['a second chassis', [...CHASSIS, ...PORT, ...TTL, ...CHASSIS, ...END]],
    ['TTL cut off by the end of the frame', [...CHASSIS, ...PORT, 6, 2, 0]],
  ];
  for (const [says, octets] of rows) t.equal(read(...octets).pdu, undefined, says);
});

void t.test('9.2.7.7.2: what costs one TLV, or nothing', async t => {
  const behind = (...octets: number[]) => read(...CHASSIS, ...PORT, ...TTL, ...octets);
  const name = tlv(5, 65, 66);
  const rows: [
    says: string,
    octets: number[],
    discarded: number,
    unrecognized: number,
    name: string | null,
  ][] = [
    ['all is well', [...name, ...END], 0, 0, 'AB'],
    ['no end', name, 0, 0, 'AB'],
    ['what follows the end is padding', [...END, ...name], 0, 0, null],
    ['a TLV that the frame cuts off', [...name, 12, 9, 1, 2], 1, 0, 'AB'],
    ['the second of a kind', [...name, ...tlv(5, 67), ...END], 1, 0, 'AB'],
    ['a name that is too long', [...tlv(5, ...Array.from({ length: 256 }, () => 65)), ...END], 1, 0, null],
    ['capabilities too short', [...tlv(7, 0, 4, 0), ...name, ...END], 1, 0, 'AB'],
    [
      'an address whose length lies',
      [...tlv(8, 31, 1, 10, 0, 0, 1, 2, 0, 0, 0, 1, 0), ...name, ...END],
      1,
      0,
      'AB',
    ],
    ['reserved', [...tlv(9, 1), ...tlv(126), ...name, ...END], 0, 2, 'AB'],
    ["another organization's", [...tlv(127, 0, 18, 187, 1, 0, 1), ...name, ...END], 0, 1, 'AB'],
    ['an organization cut short', [...tlv(127, 0, 18, 187), ...name, ...END], 1, 0, 'AB'],
    ['a port VLAN cut short', [...tlv(127, 0, 128, 194, 1, 5), ...name, ...END], 0, 1, 'AB'],
  ];
  for (const [says, octets, tlvsDiscarded, tlvsUnrecognized, systemName] of rows) {
    const { pdu, faults } = behind(...octets);
    t.equal(pdu?.systemName, systemName, says);
    t.same(faults, { tlvsDiscarded, tlvsUnrecognized }, says);
  }
  t.same(behind(...tlv(127, 0, 128, 194, 7, 3, 0, 0, 0, 9)).pdu?.linkAggregation, {
    isCapable: true,
    isActive: true,
    port: 9,
  }, "link aggregation in 802.1's place"); // prettier-ignore
  const leave = read(...CHASSIS, ...PORT, ...tlv(3, 0, 0), ...name);
  t.same([leave.pdu?.ttl_s, leave.pdu?.systemName], [0, null], 'who leaves says nothing more');
});
