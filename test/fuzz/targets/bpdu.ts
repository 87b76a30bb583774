import assert from 'node:assert';
import { SpanningTree } from '../../../dataplane/spanningTree/protocol.js';
import * as wire from '../../../dataplane/wire/bpdu.js';
import type { Target } from '../harness.js';

const SOURCE = Uint8Array.of(2, 0, 0x5e, 0, 0, 9);

function sample(type: number, version: number, flags: number): Uint8Array {
  const bytes = new Uint8Array(wire.FRAME_LENGTH);
  const bpdu = {
    ...wire.blank(),
    type,
    version,
    flags,
    maxAge_256: 5120,
    helloTime_256: 512,
    portId: 0x8001,
  };
  wire.emit(new DataView(bytes.buffer), 0, { ...bpdu, bridgeHigh: 0x8000_0200, bridgeLow: 9 }, SOURCE);
  return bytes;
}

export const target: Target = {
  says: 'BPDUs one after another into two ports of a bridge: bounded answers, and the machines come to rest',
  samples: [
    sample(wire.TYPE_RST, 2, 0x0e),
    sample(wire.TYPE_CONFIGURATION, 0, 1),
    sample(wire.TYPE_TCN, 0, 0),
  ],
  words: [Uint8Array.of(0x42, 0x42, 3), Uint8Array.of(0, 0, 2, 2), Uint8Array.of(0x80, 0)],
  run(input) {
    let sent = 0;
    const states = new Map<number, string>();
    const tree = new SpanningTree(
      Uint8Array.of(2, 0, 0x5e, 0, 0, 1),
      { forceVersion: 2, priority: 32_768, maxAge_s: 20, helloTime_s: 2, forwardDelay_s: 15, txHoldCount: 6 },
      {
        send: () => void sent++,
        setState: (port, state) => void states.set(port, state),
        flush: () => {},
        setFault: () => {},
        tell: () => {},
      },
    );
    for (const number of [1, 2]) {
      tree.addPort(number, {
        priority: 128,
        pathCost: 2000,
        adminEdge: false,
        autoEdge: true,
        pointToPoint: true,
        restrictedRole: false,
        restrictedTcn: false,
        loopGuard: number === 2,
        bpduGuard: false,
        guardRecovery_s: 0,
        bpduFilter: false,
      });
      tree.setOperational(number, true);
    }
    const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
    const bpdu = wire.blank();
    for (let at = 0, port = 1; at < input.length; at += wire.FRAME_LENGTH, port = 3 - port) {
      const end = Math.min(at + wire.FRAME_LENGTH, input.length);
      if (wire.check(view, at, end) === wire.BPDU_OK) {
        wire.parse(view, at, bpdu);
        tree.receive(port, bpdu);
        const again = new DataView(new ArrayBuffer(wire.FRAME_LENGTH));
        wire.emit(again, 0, bpdu, SOURCE);
        assert.equal(wire.check(again, 0, wire.FRAME_LENGTH), wire.BPDU_OK);
      }
      tree.tick();
    }
    assert.equal(tree.bridge.unrest, 0);
    assert(
      sent <= 2 * 7 * (2 + Math.ceil(input.length / wire.FRAME_LENGTH)),
      'txHoldCount bounds what is sent',
    );
    for (const p of tree.bridge.ports) assert.equal(states.get(p.number), p.state);
  },
};
