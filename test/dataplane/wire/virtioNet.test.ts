import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as virtioNet from '../../../dataplane/wire/virtioNet.js';
import { codecHolds, dirty, holds, record, u16, u8 } from './codec.js';

const header = record({
  flags: u8,
  gsoType: u8,
  hdrLen: u16,
  gsoSize: u16,
  csumStart: u16,
  csumOffset: u16,
});
const blank = (): virtioNet.Header => ({
  flags: 0,
  gsoType: 0,
  hdrLen: 0,
  gsoSize: 0,
  csumStart: 0,
  csumOffset: 0,
});

void t.test('header', async t => {
  codecHolds(t, { length: virtioNet.LENGTH, emit: virtioNet.emit, parse: virtioNet.parse, blank }, header);
});

void t.test('the words that travel with a frame are the bytes of the header', async t => {
  holds(
    t,
    fc.property(header, value => {
      const view = dirty(12);
      virtioNet.emit(view, 0, value);
      assert.equal(view.getInt32(0, true), virtioNet.word0(value));
      assert.equal(view.getInt32(4, true), virtioNet.word1(value));
      assert.equal(view.getInt32(8, true) & 0xffff, virtioNet.word2(value));
      assert.equal(virtioNet.flagsOf(virtioNet.word0(value)), value.flags);
      assert.equal(virtioNet.gsoTypeOf(virtioNet.word0(value)), value.gsoType & 0x7f);
      assert.equal(virtioNet.hdrLenOf(virtioNet.word0(value)), value.hdrLen);
      assert.equal(virtioNet.gsoSizeOf(virtioNet.word1(value)), value.gsoSize);
      assert.equal(virtioNet.csumStartOf(virtioNet.word1(value)), value.csumStart);
      assert.equal(virtioNet.csumOffsetOf(virtioNet.word2(value)), value.csumOffset);
    }),
  );
});

void t.test('a tag more or less moves what lies behind it', async t => {
  const w0 = virtioNet.word0({ ...blank(), flags: virtioNet.F_NEEDS_CSUM, hdrLen: 54 });
  const w1 = virtioNet.word1({ ...blank(), csumStart: 34, gsoSize: 1448 });
  t.equal(virtioNet.hdrLenOf(virtioNet.moveWord0(w0, 4)), 58);
  t.equal(virtioNet.hdrLenOf(virtioNet.moveWord0(w0, -4)), 50);
  t.equal(virtioNet.csumStartOf(virtioNet.moveWord1(w0, w1, 4)), 38);
  t.equal(virtioNet.csumStartOf(virtioNet.moveWord1(w0, w1, -4)), 30);
  t.equal(virtioNet.gsoSizeOf(virtioNet.moveWord1(w0, w1, -4)), 1448);
  t.equal(virtioNet.moveWord0(0, 4), 0, 'a frame with nothing to be done stays so');
  t.equal(virtioNet.moveWord1(0, 0, -4), 0);
});
