import assert from 'node:assert';
import { LacpGroup } from '../../../dataplane/lag/group.js';
import * as lacp from '../../../dataplane/wire/lacp.js';
import * as slow from '../../../dataplane/wire/slowProtocols.js';
import type { Target } from '../harness.js';

const SOURCE = Uint8Array.of(2, 0, 0, 0, 0, 9);

function lacpdu(state: number): Uint8Array {
  const bytes = new Uint8Array(lacp.LENGTH);
  const pdu = lacp.blank();
  Object.assign(pdu.actor, {
    systemPriority: 1,
    systemHigh16: 0x200,
    systemLow32: 7,
    key: 1,
    port: 2,
    state,
  });
  Object.assign(pdu.partner, {
    systemPriority: 9,
    systemHigh16: 0x200,
    systemLow32: 1,
    key: 3,
    port: 1,
    state: 7,
  });
  lacp.emit(new DataView(bytes.buffer), 0, pdu, SOURCE);
  return bytes;
}

function marker(): Uint8Array {
  const bytes = new Uint8Array(slow.FRAME_LENGTH);
  slow.emitMarker(
    new DataView(bytes.buffer),
    0,
    { ...slow.blankMarker(), type: 1, requesterPort: 5 },
    SOURCE,
  );
  return bytes;
}

export const target: Target = {
  says: 'slow protocols: a LACPDU or marker that is approved is read and told again; no word of a partner upsets the machines',
  samples: [lacpdu(0x3d), lacpdu(0x07), lacpdu(0x00), marker()],
  run(input, random) {
    const view = new DataView(input.buffer, input.byteOffset, input.length);
    if (input.length <= slow.SUBTYPE_AT) return;
    if (slow.checkMarker(view, 0, input.length)) {
      const read = slow.blankMarker();
      slow.parseMarker(view, 0, read);
      const told = new DataView(new ArrayBuffer(slow.FRAME_LENGTH));
      slow.emitMarker(told, 0, read, SOURCE);
      const again = slow.blankMarker();
      slow.parseMarker(told, 0, again);
      assert.deepEqual(again, read);
    }
    if (!lacp.check(view, 0, input.length)) return;
    const pdu = lacp.blank();
    lacp.parse(view, 0, pdu);
    let sent = 0;
    const group = new LacpGroup(
      {
        minLinks: 1,
        maxLinks: Infinity,
        upDelay_ms: 0,
        fallback: random.below(2) === 1,
        isActive: random.below(2) === 1,
        isFast: true,
        isCoupled: random.below(2) === 1,
        systemPriority: 9,
        systemHigh16: 0x200,
        systemLow32: 1,
        key: 3,
      },
      () => sent++,
    );
    const ports = [group.add('a', 1, 0, 0), group.add('b', 2, 0, 0)];
    let now_ms = 0;
    for (const port of ports) group.setEnabled(port, true, now_ms);
    for (let i = 0; i < 20; i++) {
      now_ms += random.below(4000);
      group.run(now_ms);
      group.received(random.pick(ports), pdu, now_ms);
      assert(group.wakeAt_ms(now_ms) > now_ms, 'it rests');
    }
    assert(sent <= 2 * 3 * (now_ms / 1000 + 2), 'three LACPDUs in a second at most');
  },
};
