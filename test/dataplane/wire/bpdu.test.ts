import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as bpdu from '../../../dataplane/wire/bpdu.js';
import { dirty, holds, record } from './codec.js';

const SOURCE = Uint8Array.of(2, 0, 0x5e, 0, 0, 1);
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replace(/\s/g, ''), 'hex'));
const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const informed = (type: number, version: number): fc.Arbitrary<bpdu.Bpdu> =>
  record<bpdu.Bpdu>({
    version: fc.constant(version),
    type: fc.constant(type),
    flags: fc.integer({ min: 0, max: 255 }),
    rootHigh: u32,
    rootLow: u32,
    rootPathCost: u32,
    bridgeHigh: u32,
    bridgeLow: u32,
    portId: u16,
    messageAge_256: fc.integer({ min: 0, max: 5000 }),
    maxAge_256: fc.integer({ min: 5001, max: 0xffff }),
    helloTime_256: u16,
    forwardDelay_256: u16,
  });
const any = fc.oneof(
  informed(bpdu.TYPE_RST, 2),
  informed(bpdu.TYPE_CONFIGURATION, 0),
  fc.constant(bpdu.blank()),
);

await t.test('what is emitted is parsed back, and is 60 bytes', async t => {
  holds(
    t,
    fc.property(any, fc.nat({ max: 3 }), (value, at) => {
      const view = dirty(at + 100);
      assert.equal(bpdu.emit(view, at, value, SOURCE), bpdu.FRAME_LENGTH);
      assert.equal(bpdu.check(view, at, at + bpdu.FRAME_LENGTH), bpdu.BPDU_OK);
      const out = bpdu.blank();
      bpdu.parse(view, at, out);
      assert.deepEqual(out, value);
      for (let i = at + bpdu.FRAME_LENGTH; i < at + 100; i++) assert.equal(view.getUint8(i), 0xa5);
    }),
  );
});

await t.test('frames as a Linux bridge (STP) and Open vSwitch (RSTP) send them', async t => {
  const config = hex(
    '0180c2000000 0242ac110002 0026 424203 0000 00 00 00 8000 0242ac110002 00000000 8000 0242ac110002 8001 0000 1400 0200 0f00 00000000 00000000',
  );
  const out = bpdu.blank();
  t.equal(bpdu.check(viewOf(config), 0, config.length), bpdu.BPDU_OK);
  bpdu.parse(viewOf(config), 0, out);
  t.match(out, {
    type: bpdu.TYPE_CONFIGURATION,
    maxAge_256: 20 * 256,
    portId: 0x8001,
    bridgeLow: 0xac11_0002,
  });
  t.equal(bpdu.roleOf(out), bpdu.ROLE_DESIGNATED);

  const rst = hex(
    '0180c2000000 025e00000001 0027 424203 0000 02 02 0e 8000 025e00000001 00000000 8000 025e00000001 8002 0000 1400 0200 0f00 00',
  );
  t.equal(bpdu.check(viewOf(rst), 0, rst.length), bpdu.BPDU_OK);
  bpdu.parse(viewOf(rst), 0, out);
  t.equal(bpdu.roleOf(out), bpdu.ROLE_DESIGNATED);
  t.ok(out.flags & bpdu.FLAG_PROPOSAL);
});

await t.test('what 9.3.4 wants discarded is', async t => {
  const good = new Uint8Array(60);
  const value = { ...bpdu.blank(), type: bpdu.TYPE_RST, version: 2, maxAge_256: 5120 };
  const broken = (change: (bytes: Uint8Array) => void, length = 60): number => {
    bpdu.emit(viewOf(good), 0, value, SOURCE);
    change(good);
    return bpdu.check(viewOf(good), 0, length);
  };
  t.equal(
    broken(() => {}),
    bpdu.BPDU_OK,
  );
  t.equal(
    broken(b => void (b[14] = 0xaa)),
    bpdu.NOT_A_BPDU,
    'another LLC: PVST and its like',
  );
  t.equal(
    broken(b => void (b[12] = 0x81)),
    bpdu.BPDU_INVALID,
    'a tag',
  );
  t.equal(
    broken(b => void (b[18] = 1)),
    bpdu.BPDU_INVALID,
    'another protocol',
  );
  t.equal(
    broken(b => void (b[20] = 7)),
    bpdu.BPDU_INVALID,
    'an unknown type',
  );
  t.equal(
    broken(b => void (b[19] = 1)),
    bpdu.BPDU_INVALID,
    'RST with a version below 2',
  );
  t.equal(
    broken(b => void (b[19] = 3)),
    bpdu.BPDU_OK,
    'MST is RST to us',
  );
  t.equal(
    broken(() => {}, 52),
    bpdu.BPDU_INVALID,
    'cut short',
  );
  t.equal(
    broken(() => {}, 16),
    bpdu.NOT_A_BPDU,
  );
  t.equal(
    broken(b => {
      b[19] = b[20] = 0;
      b[17 + 27] = 20;
      b[17 + 29] = 20;
    }),
    bpdu.BPDU_INVALID,
    'a Configuration BPDU whose message age has reached max age',
  );
});

await t.test('noise is judged without reading past its end', async t => {
  holds(
    t,
    fc.property(fc.uint8Array({ maxLength: 80 }), bytes => {
      if (bpdu.check(viewOf(bytes), 0, bytes.length) === bpdu.BPDU_OK)
        bpdu.parse(viewOf(bytes), 0, bpdu.blank());
    }),
  );
});
