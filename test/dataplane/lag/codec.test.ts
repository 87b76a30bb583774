/** LACPDUs and marker PDUs: what is emitted is parsed again, and what is none is refused. */
import fc from 'fast-check';
import t from 'tap';
import * as lacp from '../../../dataplane/wire/lacp.js';
import * as slow from '../../../dataplane/wire/slowProtocols.js';
import { codecHolds, dirty, record, u16, u32, u8 } from '../wire/codec.js';

const SOURCE = Uint8Array.of(2, 0, 0, 0, 0, 9);

const info = record<lacp.Info>({
  systemPriority: u16,
  systemHigh16: u16,
  systemLow32: u32,
  key: u16,
  portPriority: u16,
  port: u16,
  state: u8,
});

void t.test('LACPDU', async t => {
  codecHolds(
    t,
    {
      length: lacp.LENGTH,
      emit: (view, at, pdu: lacp.Lacpdu) => lacp.emit(view, at, pdu, SOURCE),
      parse: lacp.parse,
      blank: lacp.blank,
    },
    record<lacp.Lacpdu>({
      version: fc.constant(1),
      actor: info,
      partner: info,
      collectorMaxDelay_10us: u16,
    }),
  );
});

void t.test('marker', async t => {
  codecHolds(
    t,
    {
      length: slow.FRAME_LENGTH,
      emit: (view, at, marker: slow.Marker) => slow.emitMarker(view, at, marker, SOURCE),
      parse: slow.parseMarker,
      blank: slow.blankMarker,
    },
    record<slow.Marker>({
      type: fc.constantFrom(slow.MARKER_INFORMATION, slow.MARKER_RESPONSE),
      requesterPort: u16,
      requesterSystemHigh16: u16,
      requesterSystemLow32: u32,
      requesterTransactionId: u32,
    }),
  );
});

/** A LACPDU of a Linux bond (802.3ad, fast), as its neighbour first sees it. */
const LINUX_BOND = [
  '0180c2000002020000000001880901',
  '01', // version
  '0114ffff0200000000010009 00ff 0001 47 000000'.replaceAll(' ', ''),
  '0214ffff0000000000000001 00ff 0001 42 000000'.replaceAll(' ', ''),
  '03100000000000000000000000000000',
  '0000',
  '00'.repeat(50),
].join('');

void t.test("another's LACPDU", async t => {
  const bytes = Uint8Array.from(Buffer.from(LINUX_BOND, 'hex'));
  const view = new DataView(bytes.buffer);
  t.ok(slow.isSlow(view, 0));
  t.equal(bytes.length, lacp.LENGTH);
  t.ok(lacp.check(view, 0, bytes.length));
  const pdu = lacp.blank();
  lacp.parse(view, 0, pdu);
  t.same(pdu.actor, {
    systemPriority: 0xffff,
    systemHigh16: 0x0200,
    systemLow32: 1,
    key: 9,
    portPriority: 255,
    port: 1,
    state: lacp.LACP_ACTIVITY | lacp.LACP_TIMEOUT | lacp.AGGREGATION | lacp.DEFAULTED,
  });
  const again = dirty(bytes.length);
  lacp.emit(again, 0, pdu, bytes.slice(6, 12));
  t.equal(Buffer.from(again.buffer).toString('hex'), LINUX_BOND, 'byte for byte');
});

void t.test('what is refused', async t => {
  const good = Uint8Array.from(Buffer.from(LINUX_BOND, 'hex'));
  const check = (change: (bytes: Uint8Array) => void, length = good.length): boolean => {
    const bytes = good.slice();
    change(bytes);
    return lacp.check(new DataView(bytes.buffer), 0, length);
  };
  t.ok(
    check(bytes => (bytes[15] = 2)),
    'a later version is read as far as the first goes',
  );
  t.ok(
    check(bytes => (bytes[72] = 9)),
    'what comes behind the three is not looked at',
  );
  for (const [says, at, value] of [
    ['version 0', 15, 0],
    ['another subtype', 14, 2],
    ['no actor', 16, 2],
    ['actor too short', 17, 19],
    ['no partner', 36, 1],
    ['partner too long', 37, 21],
  ] as const)
    t.notOk(
      check(bytes => (bytes[at] = value)),
      says,
    );
  t.notOk(
    check(() => {}, good.length - 1),
    'cut short',
  );
  const marker = dirty(slow.FRAME_LENGTH);
  slow.emitMarker(marker, 0, { ...slow.blankMarker(), type: 3 }, SOURCE);
  t.notOk(slow.checkMarker(marker, 0, slow.FRAME_LENGTH), 'neither marker nor response');
});
