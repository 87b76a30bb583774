import fc from 'fast-check';
import t from 'tap';
import * as vxlan from '../../../dataplane/wire/vxlan.js';

await t.test('a header, as RFC 7348 figure 1 has it', async t => {
  const view = new DataView(new Uint8Array(30).fill(0xa5).buffer);
  t.equal(vxlan.emit(view, 0, 0x12_3456), 8);
  t.equal(Buffer.from(view.buffer, 0, 9).toString('hex'), '0800000012345600a5');
  t.ok(vxlan.check(view, 0, 30));
  t.equal(vxlan.vni(view, 0), 0x12_3456);
  t.notOk(vxlan.check(view, 0, 21), 'no room for an inner Ethernet header');
  view.setUint8(0, 0xf7);
  t.notOk(vxlan.check(view, 0, 30), 'the I flag is not set');
  view.setUint8(0, 0xff);
  t.ok(vxlan.check(view, 0, 30), 'reserved flags are ignored');
});

await t.test('round trip', async () => {
  fc.assert(
    fc.property(fc.nat(0xff_ffff), vni => {
      const view = new DataView(new ArrayBuffer(22));
      vxlan.emit(view, 0, vni);
      return vxlan.check(view, 0, 22) && vxlan.vni(view, 0) === vni;
    }),
  );
});
