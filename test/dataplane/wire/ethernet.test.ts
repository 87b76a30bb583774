import assert from 'node:assert/strict';
import fc from 'fast-check';
import t from 'tap';
import * as ethernet from '../../../dataplane/wire/ethernet.js';
import { codecHolds, dirty, holds, mac, record, u16 } from './codec.js';

void t.test('header', async t => {
  codecHolds(
    t,
    {
      length: ethernet.LENGTH,
      emit: ethernet.emit,
      parse: ethernet.parse,
      blank: (): ethernet.Header => ({ destination: '', source: '', type: 0 }),
    },
    record({ destination: mac, source: mac, type: u16 }),
  );
});

void t.test('addresses', async t => {
  const view = dirty(8);
  const at = (text: string): number => {
    t.ok(ethernet.emitAddress(view, 1, text), text);
    return 1;
  };
  t.ok(ethernet.isBroadcast(view, at('ff:ff:ff:ff:ff:ff')));
  t.notOk(ethernet.isBroadcast(view, at('ff:ff:ff:ff:ff:fe')));
  t.ok(ethernet.isGroup(view, at('01:00:5e:00:00:01')));
  t.notOk(ethernet.isGroup(view, at('02:00:00:00:00:01')));
  t.ok(ethernet.isZero(view, at('00:00:00:00:00:00')));
  t.notOk(ethernet.isZero(view, at('00:00:00:00:01:00')));
  for (const last of ['00', '01', '0e', '0f'])
    t.ok(ethernet.isReservedGroup(view, at(`01:80:c2:00:00:${last}`)), `reserved ${last}`);
  for (const other of ['01:80:c2:00:00:10', '01:80:c2:00:01:00', '01:80:c3:00:00:00', '00:80:c2:00:00:00'])
    t.notOk(ethernet.isReservedGroup(view, at(other)), `not reserved ${other}`);
  for (const bad of ['', '02:00:00:00:00', '02:00:00:00:00:0g', '02-00-00-00-00-01', '020000000001'])
    t.notOk(ethernet.emitAddress(view, 0, bad), `refused: ${bad}`);
});

void t.test('text of an address from the two numbers that tables keep', async t => {
  holds(
    t,
    fc.property(mac, text => {
      const view = dirty(6);
      ethernet.emitAddress(view, 0, text);
      assert.equal(ethernet.formatAddress(view.getUint16(0), view.getInt32(2)), text);
      assert.equal(ethernet.addressAt(view, 0), text);
    }),
  );
});

void t.test('the shortest frame', async t => {
  t.ok(ethernet.check(3, 17));
  t.notOk(ethernet.check(3, 16));
});
