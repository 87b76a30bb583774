import fc from 'fast-check';
import t from 'tap';
import * as vhostUser from '../../../host/vhost/wire.js';

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const address = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const AT = 3;

function fresh(): DataView {
  return new DataView(new Uint8Array(400).fill(0xa5).buffer);
}

await t.test('what was emitted is parsed', async t => {
  fc.assert(
    fc.property(u32, u32, u32, (request, flags, size) => {
      const view = fresh();
      const header = { request, flags, size };
      t.equal(vhostUser.emitHeader(view, AT, header), vhostUser.HEADER_LENGTH);
      const out = { request: 0, flags: 0, size: 0 };
      vhostUser.parseHeader(view, AT, out);
      t.same(out, header);
      t.equal(view.getUint8(AT - 1), 0xa5);
      t.equal(view.getUint8(AT + vhostUser.HEADER_LENGTH), 0xa5);
    }),
  );
  fc.assert(
    fc.property(u32, u32, (index, num) => {
      const view = fresh();
      const length = vhostUser.emitVringState(view, AT, { index, num });
      t.same(vhostUser.parseVringState(view, AT, AT + length), { index, num });
      t.equal(vhostUser.parseVringState(view, AT, AT + length - 1), undefined);
    }),
  );
  fc.assert(
    fc.property(u32, u32, address, address, address, (index, flags, descriptors, used, available) => {
      const view = fresh();
      const all = { index, flags, descriptors, used, available };
      const length = vhostUser.emitVringAddress(view, AT, all);
      t.same(vhostUser.parseVringAddress(view, AT, AT + length), all);
      t.equal(vhostUser.parseVringAddress(view, AT, AT + length + 1), undefined);
    }),
  );
  const region = fc.record({
    guestAddress: address,
    size_bytes: address,
    userAddress: address,
    mmapOffset_bytes: address,
  });
  fc.assert(
    fc.property(fc.array(region, { maxLength: 8 }), regions => {
      const view = fresh();
      const length = vhostUser.emitMemTable(view, AT, regions);
      t.same(vhostUser.parseMemTable(view, AT, AT + length), regions);
      if (regions.length > 0) t.equal(vhostUser.parseMemTable(view, AT, AT + length - 1), undefined);
    }),
  );
});

await t.test('configuration and the area of requests under way', async t => {
  const config = fc.record({
    offset: fc.integer({ min: 0, max: 128 }),
    bytes: fc.uint8Array({ maxLength: 128 }),
    flags: u32,
  });
  fc.assert(
    fc.property(config, ({ offset, bytes, flags }) => {
      const view = fresh();
      const end = AT + vhostUser.emitConfig(view, AT, offset, bytes, flags);
      const parsed = vhostUser.parseConfig(view, AT, end);
      t.same(parsed, { offset_bytes: offset, size_bytes: bytes.length, flags, payloadAt: AT + 12 });
      t.same(new Uint8Array(view.buffer, AT + 12, bytes.length), bytes);
      t.equal(vhostUser.parseConfig(view, AT, end + 1), undefined);
      t.equal(vhostUser.parseConfig(view, AT, end - 1), undefined);
    }),
  );
  const view = fresh();
  t.equal(
    vhostUser.parseConfig(view, 0, vhostUser.emitConfig(view, 0, 1, new Uint8Array(256))),
    undefined,
    'beyond the longest configuration',
  );
  const u16 = fc.integer({ min: 0, max: 0xffff });
  const inflight = fc.record({
    mmapSize_bytes: address,
    mmapOffset_bytes: address,
    queues: u16,
    queueSize: u16,
  });
  fc.assert(
    fc.property(inflight, one => {
      const end = AT + vhostUser.emitInflight(view, AT, one);
      t.same(vhostUser.parseInflight(view, AT, end), one);
      t.same(vhostUser.parseInflight(view, AT, end + 4), one, 'padded, as compilers have it');
      t.equal(vhostUser.parseInflight(view, AT, end - 1), undefined);
    }),
  );
});

await t.test('an address beyond 2^53 fits in no range', async t => {
  const view = fresh();
  const length = vhostUser.emitMemTable(view, 0, [
    { guestAddress: 0, size_bytes: 4096, userAddress: 0, mmapOffset_bytes: 0 },
  ]);
  view.setBigUint64(8, 1n << 53n, true);
  t.same(vhostUser.parseMemTable(view, 0, length)?.[0]?.guestAddress, NaN);
});

await t.test('any bytes are parsed or refused, never read beyond their end', async t => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 320 }), bytes => {
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      vhostUser.parseU64(view, 0, bytes.length);
      vhostUser.parseVringState(view, 0, bytes.length);
      vhostUser.parseVringAddress(view, 0, bytes.length);
      vhostUser.parseMemTable(view, 0, bytes.length);
    }),
  );
  t.pass('nothing was thrown');
});

await t.test('headers that are refused', async t => {
  const problem = (flags: number, size: number) => vhostUser.headerProblem({ request: 1, flags, size });
  t.equal(problem(1, 8), undefined);
  t.equal(problem(9, 268), undefined);
  t.match(problem(2, 8), /version 2/);
  t.match(problem(5, 8), /a reply/);
  t.match(problem(1, 269), /269 bytes/);
});
