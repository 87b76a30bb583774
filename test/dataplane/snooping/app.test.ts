/** Snooping on a switch of memory ports: who gets which group, by the messages that stations and routers send. */
import t from 'tap';
import type { PortConfig, SwitchSnooping } from '../../../dataplane/contract.js';
import type { GroupsView } from '../../../dataplane/contract.js';
import * as checksum from '../../../dataplane/wire/checksum.js';
import * as igmp from '../../../dataplane/wire/igmp.js';
import * as ipv6 from '../../../dataplane/wire/ipv6.js';
import * as mld from '../../../dataplane/wire/mld.js';
import { SwitchBench } from '../switch/bench.js';

const v4 = (text: string): Uint8Array => Uint8Array.from(text.split('.').map(Number));
const GROUP = v4('239.1.2.3');
const STATION_MAC = Uint8Array.of(2, 0, 0, 0, 0, 0x51);
const GROUP6 = Uint8Array.of(0xff, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34);
const LINK_LOCAL = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9);

/** An IPv4 frame with TTL 1, as IGMP is; the payload as given. */
function ip4(to: Uint8Array, from: Uint8Array, protocol: number, payload: Uint8Array, ttl = 1): Uint8Array {
  const bytes = new Uint8Array(14 + 20 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(igmp.groupMac(to), 0);
  bytes.set(STATION_MAC, 6);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, 20 + payload.length);
  view.setUint8(22, ttl);
  view.setUint8(23, protocol);
  bytes.set(from, 26);
  bytes.set(to, 30);
  bytes.set(payload, 34);
  return bytes;
}

function summed(payload: Uint8Array): Uint8Array {
  const view = new DataView(payload.buffer);
  checksum.write(view, 2, checksum.sum(view, 0, payload.length, 0));
  return payload;
}

const HOST = v4('10.0.0.5');
const report = (group: Uint8Array): Uint8Array =>
  ip4(group, HOST, 2, summed(Uint8Array.of(0x16, 0, 0, 0, ...group)));
const leave = (group: Uint8Array): Uint8Array =>
  ip4(v4('224.0.0.2'), HOST, 2, summed(Uint8Array.of(0x17, 0, 0, 0, ...group)));
const report3 = (type: number, group: Uint8Array, sources: number): Uint8Array =>
  ip4(
    v4('224.0.0.22'),
    HOST,
    2,
    summed(
      Uint8Array.of(0x22, 0, 0, 0, 0, 0, 0, 1, type, 0, 0, sources, ...group, ...new Uint8Array(sources * 4)),
    ),
  );
const queryOf = (source: string): Uint8Array =>
  igmp.queryFrame({
    mac: STATION_MAC,
    source: v4(source),
    group: null,
    maxResponse_ms: 10_000,
    robustness: 2,
    interval_s: 125,
  });
const data = (group: Uint8Array): Uint8Array => ip4(group, HOST, 17, new Uint8Array(20), 8);

/** MLDv1 report (131) or done (132), behind a hop-by-hop header. */
function mldMessage(type: number, group: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(14 + 40 + 8 + 24);
  const view = new DataView(bytes.buffer);
  bytes.set(mld.groupMac(group), 0);
  bytes.set(STATION_MAC, 6);
  view.setUint16(12, 0x86dd);
  ipv6.emit(view, 14, {
    classAndFlow: 0,
    payloadLength: 32,
    nextHeader: 0,
    hopLimit: 1,
    source: LINK_LOCAL,
    destination: group,
  });
  bytes.set([58, 0, 5, 2, 0, 0, 1, 0], 54);
  view.setUint8(62, type);
  bytes.set(group, 70);
  checksum.write(view, 64, checksum.sum(view, 62, 24, ipv6.pseudoHeaderSum(view, 14, 58, 24)));
  return bytes;
}

function data6(group: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(14 + 40 + 8);
  const view = new DataView(bytes.buffer);
  bytes.set(mld.groupMac(group), 0);
  bytes.set(STATION_MAC, 6);
  view.setUint16(12, 0x86dd);
  ipv6.emit(view, 14, {
    classAndFlow: 0,
    payloadLength: 8,
    nextHeader: 17,
    hopLimit: 8,
    source: LINK_LOCAL,
    destination: group,
  });
  return bytes;
}

const SNOOPING: SwitchSnooping = {
  igmp: true,
  mld: true,
  unknown: 'routers',
  querier: null,
  robustness: 2,
  limit: 1000,
};
const QUERIER = { ipv4: '10.0.0.1', ipv6: null, interval_s: 125, response_s: 10 };
const port = (words: Partial<NonNullable<PortConfig['snooping']>>): Partial<PortConfig> => ({
  snooping: { router: 'auto', fastLeave: false, limit: 100, ...words },
});
const FOUR = { r: {}, a: {}, b: {}, c: {} };

function makeBench(ports: Record<string, Partial<PortConfig>> = FOUR, words: Partial<SwitchSnooping> = {}) {
  const bench = new SwitchBench(ports, { snooping: { ...SNOOPING, ...words } });
  const shown = (): GroupsView => bench.app.show('groups', {}) as GroupsView;
  return { bench, shown };
}

await t.test('members and routers get a group, others do not', async t => {
  const { bench, shown } = makeBench();
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1, c: 1 }, 'nobody asks: flooded');
  t.same(bench.arrive('r', queryOf('10.0.0.1')), { a: 1, b: 1, c: 1 }, 'a query goes everywhere');
  bench.pass(9999);
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1, c: 1 }, 'until all have had time to answer');
  bench.pass(1);
  t.same(bench.arrive('b', data(GROUP)), { r: 1 }, 'not wanted: to the router only');
  t.same(bench.arrive('a', report(GROUP)), { r: 1 }, 'a report goes to routers only');
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 });
  t.same(bench.arrive('r', data(GROUP)), { a: 1 }, 'not back to where it came from');
  t.same(bench.arrive('b', data(v4('239.129.2.3'))), { r: 1, a: 1 }, 'the same MAC address');
  t.same(bench.arrive('b', data(v4('239.1.2.4'))), { r: 1 });
  t.match(shown(), {
    groups: [{ group: '239.1.2.3', vlan: 1, port: 'a', expires_s: 260 }],
    routers: [{ port: 'r', vlan: 1 }],
    queriers: [{ address: '10.0.0.1', own: false, family: 'igmp' }],
  });
  t.same(bench.arrive('b', data(v4('224.0.0.251'))), { r: 1, a: 1, c: 1 }, 'link-local: everywhere');
});

await t.test('it ends: by silence, by a leave, with the port', async t => {
  const { bench, shown } = makeBench();
  bench.arrive('r', queryOf('10.0.0.1'));
  bench.pass(10_000);
  bench.arrive('a', report(GROUP));
  for (let i = 0; i < 130; i++) bench.pass(1000);
  bench.arrive('r', queryOf('10.0.0.1'));
  for (let i = 0; i < 129; i++) bench.pass(1000);
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 }, '259 s after the report');
  bench.pass(1000);
  bench.pass(1000);
  t.same(bench.arrive('b', data(GROUP)), { r: 1 });
  bench.arrive('a', report(GROUP));
  bench.port('a').port.close();
  bench.port('a').link.setState('error', 'pulled');
  t.equal(shown().groups.length, 0);
});

await t.test('our own querier asks, and asks after a leave', async t => {
  const { bench, shown } = makeBench(FOUR, { querier: QUERIER, unknown: 'flood' });
  bench.arrive('a');
  for (const { port: memory } of ['a', 'b', 'c', 'r'].map(name => bench.port(name))) memory.sent.length = 0;
  bench.pass(1000);
  const sent = bench.port('a').port.sent.length;
  t.equal(sent, 2, 'a query of IGMP and one of MLD');
  t.match(shown().queriers, [
    { family: 'igmp', address: '10.0.0.1', own: true },
    { family: 'mld', own: true },
  ]);
  bench.pass(10_000);
  bench.arrive('a', report(GROUP));
  bench.arrive('c', report(GROUP));
  t.same(bench.arrive('b', data(GROUP)), { a: 1, c: 1 });
  t.same(bench.arrive('b', data(v4('239.9.9.9'))), { r: 1, a: 1, c: 1 }, 'unknown: flooded, as configured');
  const asked = bench.arrive('a', leave(GROUP));
  t.equal(asked['c'], 1, 'who else is there?');
  t.same(bench.arrive('b', data(GROUP)), { a: 1, c: 1 }, 'until nobody answered');
  bench.arrive('c', report(GROUP));
  for (let i = 0; i < 3; i++) bench.pass(1000);
  t.same(bench.arrive('b', data(GROUP)), { c: 1 });
  bench.arrive('r', queryOf('10.0.0.9'));
  t.ok(shown().queriers.find(({ family }) => family === 'igmp')!.own, 'a higher address does not win');
  bench.arrive('r', queryOf('9.0.0.9'));
  t.match(
    shown().queriers.filter(({ family }) => family === 'igmp'),
    [{ address: '9.0.0.9', own: false }],
  );
});

await t.test('version 3, fast leave, static routers, limits', async t => {
  const ports = { r: port({ router: 'always' }), a: port({ fastLeave: true }), b: {}, c: port({ limit: 2 }) };
  const { bench } = makeBench(ports, { querier: QUERIER });
  for (let i = 0; i < 12; i++) bench.pass(1000);
  bench.arrive('a', report3(igmp.MODE_IS_EXCLUDE, GROUP, 0));
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 });
  bench.arrive('a', report3(igmp.BLOCK_OLD_SOURCES, GROUP, 1));
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 }, 'some sources less is not the group less');
  bench.arrive('a', report3(igmp.CHANGE_TO_INCLUDE, GROUP, 0));
  t.same(bench.arrive('b', data(GROUP)), { r: 1 }, 'left at once');
  bench.arrive('a', report3(igmp.ALLOW_NEW_SOURCES, GROUP, 2));
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 });
  for (let i = 1; i <= 3; i++) bench.arrive('c', report(v4(`239.5.5.${i}`)));
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1, c: 1 }, 'beyond its limit it is sent all groups');
});

await t.test('what is malformed is counted and believed nothing', async t => {
  const { bench, shown } = makeBench();
  bench.arrive('r', queryOf('10.0.0.1'));
  const wrongSum = report(GROUP);
  wrongSum[36]! ^= 1;
  const wrongTtl = report(GROUP);
  wrongTtl[22] = 64;
  const short = ip4(v4('224.0.0.22'), HOST, 2, summed(Uint8Array.of(0x22, 0, 0, 0, 0, 0, 0, 9, 4, 0, 0, 0)));
  for (const frame of [wrongSum, wrongTtl, short]) bench.arrive('a', frame);
  t.equal(shown().groups.length, 0);
  t.equal(bench.port('a').count('snoopMalformed'), 3);
});

await t.test('MLD', async t => {
  const { bench, shown } = makeBench();
  const query = mld.queryFrame({
    mac: STATION_MAC,
    source: LINK_LOCAL,
    group: null,
    maxResponse_ms: 10_000,
    robustness: 2,
    interval_s: 125,
  });
  t.same(bench.arrive('r', query), { a: 1, b: 1, c: 1 });
  bench.pass(10_000);
  t.same(bench.arrive('a', mldMessage(131, GROUP6)), { r: 1 });
  t.same(bench.arrive('b', data6(GROUP6)), { r: 1, a: 1 });
  t.match(shown().groups, [{ group: 'ff0e::1234', port: 'a' }]);
  const solicited = Uint8Array.from(GROUP6);
  solicited[1] = 0x02;
  t.same(bench.arrive('b', data6(solicited)), { r: 1, a: 1, c: 1 }, 'link-local: everywhere');
  t.equal(bench.port('a').count('snoopReports'), 1);
});

await t.test('what takes a group from nobody', async t => {
  const { bench, shown } = makeBench({ ...FOUR, b: port({ router: 'never' }) });
  bench.arrive('r', queryOf('10.0.0.9'));
  bench.arrive('a', report(GROUP));
  const ask = (flags: number, sources: number): Uint8Array => {
    const payload = Uint8Array.of(
      0x11,
      10,
      0,
      0,
      ...GROUP,
      flags,
      125,
      0,
      sources,
      ...new Uint8Array(4 * sources),
    );
    return ip4(GROUP, v4('10.0.0.9'), 2, summed(payload));
  };
  bench.arrive('r', ask(2, 1));
  bench.arrive('r', ask(8 | 2, 0));
  t.equal(shown().groups[0]!.expires_s, 260, 'some sources are asked for, or timers are to be left alone');
  bench.arrive('b', queryOf('10.0.0.1'));
  t.match(shown().queriers, [{ address: '10.0.0.9' }], 'no router is believed to be there');
  bench.arrive('r', ask(2, 0));
  t.equal(shown().groups[0]!.expires_s, 2, 'the whole group is asked for');
  bench.arrive('a', report(v4('224.0.0.251')));
  t.equal(shown().groups.length, 1, 'link-local groups are not kept');
});

await t.test('a topology change: flooded until all have been asked again', async t => {
  const { bench } = makeBench();
  bench.arrive('r', queryOf('10.0.0.1'));
  bench.pass(10_000);
  bench.arrive('a', report(GROUP));
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 });
  bench.app.topologyChanged();
  bench.pass(60_000);
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1, c: 1 });
  bench.arrive('r', queryOf('10.0.0.1'));
  bench.pass(10_000);
  t.same(bench.arrive('b', data(GROUP)), { r: 1, a: 1 });
});

await t.test('only the elected querier sets the timers, and reports reach no greedy port', async t => {
  const { bench, shown } = makeBench({ ...FOUR, c: port({ limit: 1 }) });
  bench.arrive('r', queryOf('10.0.0.1'));
  bench.pass(10_000);
  const hasty = igmp.queryFrame({
    mac: STATION_MAC,
    source: v4('10.0.0.7'),
    group: null,
    maxResponse_ms: 1000,
    robustness: 1,
    interval_s: 10,
  });
  bench.arrive('b', hasty);
  bench.arrive('c', report(GROUP));
  t.equal(shown().groups[0]!.expires_s, 260, 'not 11');
  bench.arrive('c', report(v4('239.5.5.5')));
  t.same(bench.arrive('a', report(GROUP)), { r: 1, b: 1 }, 'to where routers are heard');
  t.same(bench.arrive('a', data(v4('239.7.7.7'))), { r: 1, b: 1, c: 1 }, 'while the greedy get all data');
});
