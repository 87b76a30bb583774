import t from 'tap';
import * as tcp from '../../../dataplane/wire/tcp.js';
import * as udp from '../../../dataplane/wire/udp.js';
import { codecHolds, dirty, record, u16, u32, u8 } from './codec.js';

void t.test('TCP', async t => {
  codecHolds(
    t,
    {
      length: tcp.LENGTH,
      emit: tcp.emit,
      parse: tcp.parse,
      blank: (): tcp.Header => ({
        sourcePort: 0,
        destinationPort: 0,
        sequence: 0,
        acknowledgment: 0,
        flags: 0,
        window: 0,
        checksum: 0,
        urgent: 0,
      }),
    },
    record({
      sourcePort: u16,
      destinationPort: u16,
      sequence: u32,
      acknowledgment: u32,
      flags: u8,
      window: u16,
      checksum: u16,
      urgent: u16,
    }),
  );
  const view = dirty(60);
  view.setUint8(tcp.DATA_OFFSET, 0x50);
  t.ok(tcp.check(view, 0, 20));
  t.notOk(tcp.check(view, 0, 19));
  view.setUint8(tcp.DATA_OFFSET, 0x60);
  t.notOk(tcp.check(view, 0, 20), 'options cut');
  view.setUint8(tcp.DATA_OFFSET, 0x40);
  t.notOk(tcp.check(view, 0, 60), 'shorter than a header');
});

void t.test('UDP', async t => {
  codecHolds(
    t,
    {
      length: udp.LENGTH,
      emit: udp.emit,
      parse: udp.parse,
      blank: (): udp.Header => ({ sourcePort: 0, destinationPort: 0, length: 0, checksum: 0 }),
    },
    record({ sourcePort: u16, destinationPort: u16, length: u16, checksum: u16 }),
  );
  const view = dirty(16);
  udp.emit(view, 0, { sourcePort: 1, destinationPort: 2, length: 12, checksum: 0 });
  t.ok(udp.check(view, 0, 12));
  t.notOk(udp.check(view, 0, 11));
  t.notOk(udp.check(view, 0, 7));
});
