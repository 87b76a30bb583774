import fc from 'fast-check';
import t from 'tap';
import { flowHash } from '../../../dataplane/wire/flowHash.js';

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
  const buckets = new Set(Array.from({ length: 200 }, (_, port) => flowHash(frame(port), 0, 60) & 7));
  t.equal(buckets.size, 8);
  t.equal(flowHash(frame(5), 0, 60), flowHash(frame(5), 0, 60));
  t.equal(flowHash(frame(5, 0x2000), 0, 60), flowHash(frame(6, 0x0005), 0, 60), 'fragments stay together');
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 14, maxLength: 90 }), bytes => {
      const hash = flowHash(new DataView(bytes.buffer, bytes.byteOffset), 0, bytes.length);
      return hash >= 0 && hash < 2 ** 32;
    }),
  );
});
