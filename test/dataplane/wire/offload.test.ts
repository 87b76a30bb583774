import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as offload from '../../../dataplane/wire/offload.js';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import * as vlan from '../../../dataplane/wire/vlan.js';
import { dirty, holds } from './codec.js';
import { gsoFrame, slowSegments, transportChecksumIsRight } from './superFrame.js';
import type { GsoFrame } from './superFrame.js';

const AT = 8;
const OUT = 70_000;

function place(frame: GsoFrame): DataView {
  const view = dirty(OUT + 1024);
  new Uint8Array(view.buffer).set(frame.bytes, AT);
  return view;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const words = (frame: GsoFrame): [number, number, number] => [
  virtioNet.word0(frame.header),
  virtioNet.word1(frame.header),
  virtioNet.word2(frame.header),
];

void t.test('segments are those of the slow way, and every checksum is right', async t => {
  holds(
    t,
    fc.property(gsoFrame, frame => {
      const view = place(frame);
      const memory = new Uint8Array(view.buffer);
      const [w0, w1] = words(frame);
      const segmenter = new offload.Segmenter();
      const count = segmenter.plan(view, AT, frame.bytes.length, w0, w1);
      const want = slowSegments(frame);
      assert.equal(count, want.length);
      const got: Uint8Array[] = [];
      for (let i = 0; i < count; i++) {
        segmenter.emitHeader(view, i, OUT);
        const head = memory.slice(OUT, OUT + segmenter.header_bytes);
        const from = segmenter.payloadAt(i);
        const payload = memory.slice(from, from + segmenter.payloadLength(i));
        got.push(Buffer.concat([head, payload]));
      }
      assert.deepEqual(got.map(hex), want.map(hex));
      for (const segment of got) assert.ok(transportChecksumIsRight(segment, frame));
      assert.deepEqual(
        memory.slice(AT, AT + frame.bytes.length),
        frame.bytes,
        'the super-frame is as it was',
      );
    }),
    { numRuns: 150 },
  );
});

void t.test('a checksum is completed, tags or not', async t => {
  holds(
    t,
    fc.property(gsoFrame, frame => {
      const view = place(frame);
      const [, w1, w2] = words(frame);
      assert.ok(offload.completeChecksum(view, AT, frame.bytes.length, w1, w2));
      const done = new Uint8Array(view.buffer).slice(AT, AT + frame.bytes.length);
      assert.ok(transportChecksumIsRight(done, frame));
    }),
  );
});

void t.test('a checksum outside of the frame is refused and nothing is written', async t => {
  const view = dirty(128);
  for (const [csumStart, csumOffset] of [
    [60, 16],
    [0xffff, 0xffff],
    [0, 59],
  ] as const) {
    const w1 = virtioNet.word1({ flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart, csumOffset });
    t.notOk(offload.completeChecksum(view, 0, 60, w1, csumOffset), `${csumStart}+${csumOffset}`);
  }
  t.ok(new Uint8Array(view.buffer).every(byte => byte === 0xa5));
});

void t.test('noise that claims to be a super-frame is refused or cut, and never throws', async t => {
  holds(
    t,
    fc.property(
      fc.uint8Array({ minLength: 14, maxLength: 300 }),
      fc.nat({ max: 0xff }),
      fc.nat({ max: 400 }),
      fc.nat({ max: 400 }),
      fc.constantFrom(0, 0x0800, 0x86dd, 0x8100),
      (bytes, gsoType, gsoSize, csumStart, type) => {
        const view = dirty(2048);
        new Uint8Array(view.buffer).set(bytes, AT);
        if (type !== 0) view.setUint16(AT + 12, type);
        const header = { flags: 1, gsoType, hdrLen: 0, gsoSize, csumStart, csumOffset: 16 };
        const segmenter = new offload.Segmenter();
        const count = segmenter.plan(
          view,
          AT,
          bytes.length,
          virtioNet.word0(header),
          virtioNet.word1(header),
        );
        let payload = 0;
        for (let i = 0; i < count; i++) {
          segmenter.emitHeader(view, i, 1024);
          payload += segmenter.payloadLength(i);
        }
        if (count >= 0) assert.equal(payload + segmenter.header_bytes, bytes.length);
      },
    ),
    { numRuns: 2000 },
  );
});

void t.test('words that contradict the frame are refused', async t => {
  const frame = fc.sample(gsoFrame, { numRuns: 1, seed: 5 })[0]!;
  const view = place(frame);
  const plan = (change: Partial<virtioNet.Header>, length = frame.bytes.length): number => {
    const header = { ...frame.header, ...change };
    return new offload.Segmenter().plan(view, AT, length, virtioNet.word0(header), virtioNet.word1(header));
  };
  t.ok(plan({}) > 0);
  t.equal(plan({ gsoSize: 0 }), -1, 'segments of nothing');
  t.equal(plan({ flags: 0 }), -1, 'no checksum to be done');
  t.equal(plan({ csumStart: frame.header.csumStart - 2 }), -1, 'another transport offset');
  t.equal(plan({ gsoType: 0x7e }), -1, 'a type there is not');
  t.equal(plan({}, 20), -1, 'cut short');
});

void t.test('a tag is put into the headers of a segment', async t => {
  const frame = fc.sample(gsoFrame, { numRuns: 1, seed: 9 })[0]!;
  const view = place(frame);
  const memory = new Uint8Array(view.buffer);
  const [w0, w1] = words(frame);
  const segmenter = new offload.Segmenter();
  segmenter.plan(view, AT, frame.bytes.length, w0, w1);
  segmenter.emitHeader(view, 0, OUT);
  const plain = Array.from(memory.slice(OUT, OUT + segmenter.header_bytes));
  const at = vlan.editInPlace(view, OUT, vlan.EDIT_ADD | 0x2064);
  t.same(Array.from(memory.slice(at, OUT + segmenter.header_bytes)), [
    ...plain.slice(0, 12),
    0x81,
    0,
    0x20,
    0x64,
    ...plain.slice(12),
  ]);
});
