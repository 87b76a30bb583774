import assert from 'node:assert';
import { LldpAgent } from '../../../dataplane/lldp/agent.js';
import { neighbourView } from '../../../dataplane/lldp/words.js';
import * as lldp from '../../../dataplane/wire/lldp.js';
import type { Target } from '../harness.js';

function sample(change: Partial<lldp.Lldpdu>): Uint8Array {
  const bytes = new Uint8Array(lldp.FRAME_MAX_LENGTH);
  const pdu: lldp.Lldpdu = {
    ...lldp.blank(),
    chassisId: { subtype: 4, octets: Uint8Array.of(2, 0, 0, 0, 0, 1) },
    portId: { subtype: 5, octets: Uint8Array.of(101, 48) },
    ttl_s: 120,
    ...change,
  };
  const length = lldp.emit(new DataView(bytes.buffer), 0, pdu, Uint8Array.of(2, 0, 0, 0, 0, 9));
  return bytes.slice(0, length);
}

export const target: Target = {
  says: 'LLDPDUs: what is read is bounded, harmless on a terminal, and read again when told again',
  samples: [
    sample({}),
    sample({ ttl_s: 0 }),
    sample({
      portDescription: 'port 1',
      systemName: 'switch',
      systemDescription: 'of the lab',
      capabilities: 0x14,
      enabledCapabilities: 4,
      managementAddresses: [{ family: 1, octets: Uint8Array.of(192, 0, 2, 1) }],
      portVlan: 10,
      linkAggregation: { isCapable: true, isActive: true, port: 3 },
      maximumFrameSize_bytes: 1522,
    }),
  ],
  run(input) {
    if (input.length < lldp.HEADER_LENGTH) return;
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    const faults: lldp.ParseFaults = { tlvsDiscarded: 0, tlvsUnrecognized: 0 };
    const pdu = lldp.parse(view, 0, input.length, faults);
    assert(faults.tlvsDiscarded + faults.tlvsUnrecognized <= input.length / 2);
    if (pdu === undefined) return;
    for (const { octets } of [pdu.chassisId, pdu.portId]) assert(octets.length >= 1 && octets.length <= 255);
    assert(pdu.managementAddresses.length <= lldp.ADDRESSES_MAX_COUNT);
    const agent = new LldpAgent({ mode: 'both', msgTxInterval_ms: 30_000, msgTxHold: 4, neighboursMax: 1 });
    agent.setUp(true, 0);
    agent.received(pdu, 1);
    assert(agent.neighbours.size <= 1);
    for (const neighbour of agent.neighbours.values()) {
      const shown = neighbourView('p', null, neighbour, 2);
      for (const text of [shown.chassisId, shown.portId])
        assert(/^[\x20-\x7e]*$/.test(text), 'identifiers are printable');
    }
    const told = new DataView(new ArrayBuffer(lldp.FRAME_MAX_LENGTH));
    const length = lldp.emit(told, 0, pdu, Uint8Array.of(2, 0, 0, 0, 0, 9));
    const again = lldp.parse(told, 0, length, faults);
    assert.deepEqual(again?.chassisId, pdu.chassisId);
    assert.equal(again?.ttl_s, pdu.ttl_s);
  },
};
