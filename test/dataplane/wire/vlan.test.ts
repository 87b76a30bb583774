import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { dirty, holds, record } from './codec.js';

void t.test('a tag that is emitted is found again', async t => {
  holds(
    t,
    fc.property(record({ pcp: fc.nat({ max: 7 }), dei: fc.boolean(), vid: fc.nat({ max: 4095 }) }), tag => {
      const view = dirty(32);
      assert.equal(vlan.emit(view, 3, tag), 4);
      assert.ok(vlan.isTagged(view, 3));
      const out = { pcp: 0, dei: false, vid: 0 };
      vlan.parse(view, 3, out);
      assert.deepEqual(out, tag);
      assert.equal(view.getUint8(3 + 11), 0xa5, 'the addresses are left alone');
      assert.equal(view.getUint8(3 + 16), 0xa5, 'what follows is left alone');
    }),
  );
});

/** The edit as one would do it with arrays. */
function edited(frame: number[], edit: number): number[] {
  const rest = frame.slice(edit & vlan.EDIT_REMOVE ? 16 : 12);
  const type =
    edit & vlan.EDIT_SERVICE ? [0x88, 0xa8] : edit & vlan.EDIT_OLD_OUTER ? [0x91, 0x00] : [0x81, 0x00];
  const tag = edit & vlan.EDIT_ADD ? [...type, (edit >>> 8) & 0xff, edit & 0xff] : [];
  return [...frame.slice(0, 12), ...tag, ...rest];
}

const edits = fc.oneof(
  fc.constant(vlan.EDIT_NONE),
  fc.constant(vlan.EDIT_REMOVE),
  fc
    .tuple(
      fc.constantFrom(vlan.EDIT_ADD, vlan.EDIT_REPLACE),
      fc.constantFrom(vlan.TPID_CUSTOMER, vlan.TPID_SERVICE, vlan.TPID_OLD_OUTER),
      fc.nat({ max: 0xffff }),
    )
    .map(([how, tpid, tci]) => how | vlan.editOfTpid(tpid) | tci),
);

void t.test('edits give what the slow way gives, elsewhere and in place', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ minLength: 18, maxLength: 64 }), edits, (bytes, edit) => {
      const want = edited([...bytes], edit);
      assert.equal(bytes.length + vlan.growth(edit), want.length);

      const view = dirty(256);
      const memory = new Uint8Array(view.buffer);
      memory.set(bytes, 16);
      if (edit !== vlan.EDIT_NONE) {
        const head = vlan.emitEdited(view, 100, 16, edit);
        const rest = memory.slice(16 + vlan.editedFrom(edit), 16 + bytes.length);
        assert.deepEqual([...memory.slice(100, 100 + head), ...rest], want);
        assert.deepEqual(
          Array.from(memory.slice(16, 16 + bytes.length)),
          [...bytes],
          'the frame itself is as it was',
        );
      }
      const at = vlan.editInPlace(view, 16, edit);
      assert.deepEqual(Array.from(memory.slice(at, at + want.length)), want);
    }),
  );
});
