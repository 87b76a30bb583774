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

await t.test('a flow has one hash, flows have many; any bytes do', async t => {
  const frame = (port: number, fragment = 0): DataView => {
    const view = new DataView(new ArrayBuffer(60));
    view.setUint16(12, 0x0800);
    view.setUint16(14, 0x4500);
    view.setUint16(16, 46);
    view.setUint16(20, fragment);
    view.setUint8(23, 17);
    view.setUint16(34, port);
    return view;
  };
  const buckets = new Set(Array.from({ length: 200 }, (_, port) => vxlan.flowHash(frame(port), 0, 60) & 7));
  t.equal(buckets.size, 8);
  t.equal(vxlan.flowHash(frame(5), 0, 60), vxlan.flowHash(frame(5), 0, 60));
  t.equal(
    vxlan.flowHash(frame(5, 0x2000), 0, 60),
    vxlan.flowHash(frame(6, 0x0005), 0, 60),
    'fragments stay together',
  );
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 14, maxLength: 90 }), bytes => {
      const hash = vxlan.flowHash(new DataView(bytes.buffer, bytes.byteOffset), 0, bytes.length);
      return hash >= 0 && hash < 2 ** 32;
    }),
  );
});
