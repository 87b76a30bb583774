/** The capture filter: what it says to a frame, and what it says to a mistake. */
import t from 'tap';
import fc from 'fast-check';
import { FilterError, matches, parseFilter } from '../../../dataplane/capture/filter.js';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex.replaceAll(/\s/g, ''), 'hex'));
const ADDRESSES = '02000000000b 02000000000a';
/** 10.0.0.10:1000 -> 10.0.0.11:53, UDP. */
const UDP = `${ADDRESSES} 0800 4500001c 00000000 4011 0000 0a00000a 0a00000b 03e8 0035 0008 0000`;
const TCP_TAGGED = `${ADDRESSES} 8100 200a 0800 45000028 00000000 4006 0000 0a00000a c0a80101 d431 01bb ${'00'.repeat(16)}`;
const ARP = `ffffffffffff 02000000000a 0806 0001 0800 06 04 0001 02000000000a 0a00000a 000000000000 0a00000b`;
/** Hop-by-hop before UDP, fe80::a -> ff02::1. */
const IP6 = `333300000001 02000000000a 86dd 60000000 0010 00 ff fe80000000000000000000000000000a ff020000000000000000000000000001 11 00 0104 00000000 0222 0223 0008 0000`;
const FRAMES = { UDP, TCP_TAGGED, ARP, IP6 } as const;

/** Names of the frames that the filter takes. */
function taken(text: string): string[] {
  const filter = parseFilter(text);
  return Object.entries(FRAMES).flatMap(([name, hex]) => {
    const frame = bytes(hex);
    const wants = filter === undefined || matches(filter, new DataView(frame.buffer), 0, frame.length);
    return wants ? [name] : [];
  });
}

await t.test('what is taken', async t => {
  const all = ['UDP', 'TCP_TAGGED', 'ARP', 'IP6'];
  t.same(taken('   '), all, 'no condition: everything');
  t.same(taken('udp'), ['UDP', 'IP6']);
  t.same(taken('ip and udp'), ['UDP']);
  t.same(taken('udp port 53'), ['UDP']);
  t.same(taken('tcp port 53'), []);
  t.same(taken('port 443 or port 546'), ['TCP_TAGGED', 'IP6']);
  t.same(taken('src port 443'), []);
  t.same(taken('dst portrange 440-450'), ['TCP_TAGGED']);
  t.same(taken('host 10.0.0.11'), ['UDP', 'ARP'], "an ARP's addresses count");
  t.same(taken('dst host 10.0.0.10'), []);
  t.same(taken('src and dst net 10.0.0.0/8'), ['UDP', 'ARP']);
  t.same(taken('dst net 192.168.0.0/15 || arp'), ['TCP_TAGGED', 'ARP']);
  t.same(taken('net 0.0.0.0/0'), ['UDP', 'TCP_TAGGED', 'ARP']);
  t.same(taken('src fe80::a'), ['IP6']);
  t.same(taken('vlan'), ['TCP_TAGGED']);
  t.same(taken('vlan 10 and tcp'), ['TCP_TAGGED']);
  t.same(taken('vlan 11'), []);
  t.same(taken('ether src 02:00:00:00:00:0a and not broadcast'), ['UDP', 'TCP_TAGGED', 'IP6']);
  t.same(taken('broadcast'), ['ARP']);
  t.same(taken('multicast'), ['ARP', 'IP6']);
  t.same(taken('not (arp or ip6) greater 50'), ['TCP_TAGGED']);
  t.same(taken('ether proto 0x86dd'), ['IP6']);
  t.same(taken('proto 17 && ip6'), ['IP6']);
  t.same(taken('less 42'), ['UDP', 'ARP']);
});

await t.test('what is refused, in words', async t => {
  const refusal = (text: string): string => {
    try {
      parseFilter(text);
    } catch (error) {
      if (error instanceof FilterError) return error.message;
      throw error;
    }
    return 'taken';
  };
  t.match(refusal('host 10.0.0'), /word 2 "10\.0\.0": not an IP address/);
  t.match(refusal('tcp and'), /ends where a condition/);
  t.match(refusal('(tcp'), /ends where "\)"/);
  t.match(refusal('prot 80'), /word 1 "prot": a condition: host, net/);
  t.match(refusal('port 70000'), /a port is 0 to 65535/);
  t.match(refusal('portrange 20-10'), /a range is written/);
  t.match(refusal('net 10.0.0.0/33'), /0 to 32 bits/);
  t.match(refusal('tcp)'), /"and", "or" or the end/);
  t.match(refusal('vlan 4096'), /a VLAN is 0 to 4095/);
  t.match(refusal(`${'('.repeat(100)}tcp${')'.repeat(100)}`), /nested at most/);
  t.match(refusal('tcp '.repeat(1000)), /at most 2000 characters/);
});

await t.test('no text and no frame makes it stumble', async () => {
  const words =
    'and or not ( ) host src dst net port tcp ip6 vlan ether 7 10.0.0.1 ::1 10.0.0.0/8 80 1-2 broadcast less proto portrange x& !';
  const word = fc.constantFrom(...words.split(' '));
  fc.assert(
    fc.property(
      fc.array(word, { maxLength: 12 }),
      fc.uint8Array({ maxLength: 120 }),
      fc.constantFrom('0800', '86dd', '0806', '8100', '88a8'),
      (said, tail, type) => {
        let filter;
        try {
          filter = parseFilter(said.join(' '));
        } catch (error) {
          if (!(error instanceof FilterError)) throw error;
        }
        if (filter === undefined) return true;
        const frame = Uint8Array.from([...bytes(ADDRESSES), ...bytes(type), ...tail]);
        return typeof matches(filter, new DataView(frame.buffer), 0, frame.length) === 'boolean';
      },
    ),
    { numRuns: 3000 },
  );
});
