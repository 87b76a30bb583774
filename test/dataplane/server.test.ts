/** The contract, against the real process. */
import { once } from 'node:events';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import t from 'tap';
import {
  Applied,
  DataplaneEvent,
  DataplaneStatus,
  ErrorReply,
  Health,
  MacTable,
} from '../../dataplane/contract.js';
import * as pcapng from '../../dataplane/wire/pcapng.js';
import {
  A,
  ALL,
  B,
  PlaneProcess,
  StreamPeer,
  StreamServer,
  access,
  config,
  frame,
  stream,
  until,
} from './plane.js';

void t.test('health, before and after a configuration', async t => {
  const plane = await PlaneProcess.start(t);
  t.equal(statSync(plane.socket).mode & 0o777, 0o600);
  const { body } = await plane.ask('GET', '/health');
  const health = Health.parse(body);
  t.equal(health.generation, -1);
  t.equal(health.pid, plane.child.pid);
  t.same(DataplaneStatus.parse(await plane.status()).switches, []);
  const applied = await plane.ask('PUT', '/config', config(7, []));
  t.same(Applied.parse(applied.body), { generation: 7, problems: [] });
  t.equal(Health.parse((await plane.ask('GET', '/health')).body).generation, 7);
});

void t.test('two guests, one that listens and one that dials, on one switch', async t => {
  const plane = await PlaneProcess.start(t);
  const [pathA, pathB] = [`${plane.directory}/a.sock`, `${plane.directory}/b.sock`];
  const server = await StreamServer.listen(t, pathA);
  const events = await plane.open('GET', '/events');
  let told = '';
  events.on('data', (text: Buffer) => (told += text.toString()));

  const applied = Applied.parse(
    (
      await plane.ask(
        'PUT',
        '/config',
        config(1, [stream('a', pathA, 'connect'), stream('b', pathB, 'listen')]),
      )
    ).body,
  );
  t.same(
    applied.problems.map(({ port, state }) => [port, state]),
    [['b', 'connecting']],
  );
  const a = await server.peer();
  const b = await StreamPeer.dial(pathB);
  t.teardown(() => b.close());
  await until('both are up', async () => (await plane.port('b')).state === 'up');

  a.send(frame(ALL, A));
  await until('b has it', () => b.frames.length === 1);
  t.same(b.frames[0], frame(ALL, A));
  b.send(frame(A, B), frame(A, B, 1514), frame(A, B, 9000));
  await until('a has them', () => a.frames.length === 3);
  t.same(
    a.frames.map(each => each.length),
    [60, 1514, 9000],
  );

  const macs = MacTable.parse((await plane.ask('GET', '/switches/lan/macs')).body);
  t.same(
    new Set(macs.entries.map(({ mac, vlan, port }) => `${mac} ${vlan} ${port}`)),
    new Set([`${A} 10 a`, `${B} 10 b`]),
  );
  t.equal((await plane.status()).switches[0]?.macCount, 2);
  t.same((await plane.ask('DELETE', '/switches/lan/macs')).body, { flushed: 2 });
  t.same(MacTable.parse((await plane.ask('GET', '/switches/lan/macs')).body).entries, []);

  // The station that was behind a is now behind b.
  a.send(frame(ALL, A));
  await until('learned again', async () => (await plane.status()).switches[0]?.macCount === 1);
  b.send(frame(ALL, A));
  await until('the move is told', () => told.includes('macMoved'));
  a.close();
  await until('the loss is told', () => told.includes('has gone'));
  const parsed = told
    .split('\n\n')
    .flatMap(block => block.split('\n').filter(line => line.startsWith('data: ')))
    .map(line => DataplaneEvent.parse(JSON.parse(line.slice(6))));
  t.ok(parsed.some(event => event.type === 'port' && event.port === 'b' && event.state === 'up'));
  t.ok(parsed.some(event => event.type === 'macMoved' && event.from === 'a' && event.to === 'b'));
  await until('the port dials again and is up', async () => (await plane.port('a')).state === 'up');
  const counters = (await plane.port('a')).counters;
  t.equal(counters['opens'], 2);
  t.equal(counters['disconnects'], 1);
  events.destroy();
});

void t.test('a new configuration touches only what differs', async t => {
  const plane = await PlaneProcess.start(t);
  const paths = ['a', 'b', 'c'].map(name => `${plane.directory}/${name}.sock`) as [string, string, string];
  const ports = (vlanOfB: number) => [
    stream('a', paths[0], 'listen'),
    stream('b', paths[1], 'listen', vlanOfB),
    stream('c', paths[2], 'listen'),
  ];
  await plane.ask('PUT', '/config', config(1, ports(10)));
  const peers = await Promise.all(paths.map(async path => StreamPeer.dial(path)));
  t.teardown(() => peers.forEach(peer => peer.close()));
  const [a, b, c] = peers as [StreamPeer, StreamPeer, StreamPeer];
  await until('all are up', async () =>
    (await plane.status()).switches[0]!.ports.every(({ state }) => state === 'up'),
  );
  a.send(frame(ALL, A));
  b.send(frame(ALL, B));
  await until('both are learned', async () => (await plane.status()).switches[0]?.macCount === 2);

  await plane.ask('PUT', '/config', config(2, ports(20)));
  const macs = MacTable.parse((await plane.ask('GET', '/switches/lan/macs')).body).entries;
  t.same(
    macs.map(({ mac }) => mac),
    [A],
    'only the addresses of the changed port are forgotten',
  );
  const before = c.frames.length;
  const beforeB = b.frames.length;
  a.send(frame(ALL, A));
  await until('c has it', () => c.frames.length === before + 1);
  t.equal(b.frames.length, beforeB, 'b is in another VLAN now');
  t.notOk(a.isEnded || b.isEnded || c.isEnded, 'nobody lost its connection');
  t.equal((await plane.port('b')).counters['ifHCInBroadcastPkts'], 1, 'counters go on');

  await plane.ask(
    'PUT',
    '/config',
    config(3, [ports(20)[0], stream('c', `${plane.directory}/other.sock`, 'listen')]),
  );
  await until('b and c lose their connection', () => b.isEnded && c.isEnded);
  t.notOk(a.isEnded);
  t.notOk(existsSync(paths[1]));
  t.ok(existsSync(`${plane.directory}/other.sock`));
  await plane.ask('PUT', '/config', { generation: 4, switches: [] });
  await until('a too', () => a.isEnded);
  t.same((await plane.status()).switches, []);
});

void t.test('a capture over HTTP', async t => {
  const plane = await PlaneProcess.start(t);
  const [pathA, pathB] = [`${plane.directory}/a.sock`, `${plane.directory}/b.sock`];
  await plane.ask('PUT', '/config', config(1, [stream('a', pathA, 'listen'), stream('b', pathB, 'listen')]));
  const [a, b] = [await StreamPeer.dial(pathA), await StreamPeer.dial(pathB)];
  t.teardown(() => [a, b].forEach(peer => peer.close()));
  await until(
    'up',
    async () => (await plane.port('b')).state === 'up' && (await plane.port('a')).state === 'up',
  );

  const reply = await plane.open('GET', '/switches/lan/capture?count=3&snaplen_bytes=100');
  t.equal(reply.headers['content-type'], 'application/x-pcapng');
  const parts: Buffer[] = [];
  reply.on('data', (part: Buffer) => parts.push(part));
  a.send(frame(ALL, A, 200), frame(ALL, A, 60), frame(ALL, A));
  await once(reply, 'end');
  const bytes = Buffer.concat(parts);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const block = {
    type: 0,
    length: 0,
    interfaceId: 0,
    time_us: 0,
    captured_bytes: 0,
    original_bytes: 0,
    direction: 0,
  };
  const types: number[] = [];
  const packets: number[][] = [];
  for (let at = 0; at < bytes.length; at += block.length) {
    pcapng.parse(view, at, bytes.length, block);
    if (block.length === 0) throw new Error(`no block at ${at}`);
    types.push(block.type);
    if (block.type === pcapng.ENHANCED_PACKET) {
      packets.push([block.interfaceId, block.direction, block.captured_bytes, block.original_bytes]);
      t.ok(Math.abs(block.time_us / 1000 - Date.now()) < 60_000, 'the time of the wall');
    }
  }
  t.same(packets[0], [0, pcapng.DIRECTION_IN, 100, 200]);
  t.equal(packets.length, 3);
  t.equal(types.filter(type => type === pcapng.INTERFACE_DESCRIPTION).length, 2);
  t.equal(types.at(-1), pcapng.INTERFACE_STATISTICS);

  for (const [query, status, code] of [
    ['?port=x', 404, 'NO_SUCH_PORT'],
    ['?count=0', 400, 'BAD_QUERY'],
    ['?snaplen_bytes=many', 400, 'BAD_QUERY'],
  ] as const) {
    const refused = await plane.ask('GET', `/switches/lan/capture${query}`);
    t.equal(refused.status, status);
    t.equal(ErrorReply.parse(refused.body).error.code, code);
  }
  const goes = await plane.open('GET', '/switches/lan/capture?port=a');
  goes.destroy();
  a.send(frame(ALL, A));
  await until('b has all', () => b.frames.length === 4);
});

void t.test('bad input is refused in words, and changes nothing', async t => {
  const plane = await PlaneProcess.start(t);
  const path = `${plane.directory}/a.sock`;
  await plane.ask('PUT', '/config', config(1, [stream('a', path, 'listen')]));
  const loop = (name: string, vlan: unknown = access(1)) => ({ name, vlan, device: { kind: 'loopback' } });
  const refusals: [unknown, string, RegExp][] = [
    ['{', 'BAD_JSON', /no JSON/],
    ['', 'BAD_JSON', /no JSON/],
    [[], 'BAD_CONFIG', /expected object/],
    [{ generation: 1 }, 'BAD_CONFIG', /switches/],
    [config(2, [], { colour: 'red' }), 'BAD_CONFIG', /colour/],
    [config(2, [loop('x', access(0))]), 'BAD_CONFIG', /vlan/],
    [config(2, [loop('x', access(4095))]), 'BAD_CONFIG', /switches.0.ports.0.vlan/],
    [
      config(2, [loop('x', { mode: 'trunk', allowed: [[20, 10]], native: null })]),
      'BAD_VLAN_RANGE',
      /20 to 10/,
    ],
    [config(2, [loop('x'), loop('x')]), 'DUPLICATE_PORT', /port x of switch lan is there twice/],
    [
      { generation: 2, switches: [...config(2, []).switches, ...config(2, []).switches] },
      'DUPLICATE_SWITCH',
      /switch lan is there twice/,
    ],
    [
      config(2, [stream('x', path, 'listen'), stream('y', `${plane.directory}/./a.sock`, 'connect')]),
      'DEVICE_TAKEN',
      /port y of switch lan wants path .*a.sock, which port x of switch lan has already/,
    ],
    [config(2, [stream('x', plane.socket, 'listen')]), 'DEVICE_TAKEN', /the plane itself/],
  ];
  const tap = (name: string) => ({ name, vlan: access(1), device: { kind: 'tap', ifname: 'weftt0' } });
  refusals.push([config(2, [tap('x'), tap('y')]), 'DEVICE_TAKEN', /tap weftt0, which port x/]);
  for (const [body, code, words] of refusals) {
    const reply = await plane.ask('PUT', '/config', body);
    t.equal(reply.status, 400);
    const { error } = ErrorReply.parse(reply.body);
    t.equal(error.code, code);
    t.match(error.message, words);
  }
  t.equal((await plane.status()).generation, 1);
  t.ok(existsSync(path));

  for (const [method, url, status, code] of [
    ['GET', '/nothing', 404, 'NOT_FOUND'],
    ['GET', '/switches/none/macs', 404, 'NO_SUCH_SWITCH'],
    ['DELETE', '/switches/none/macs', 404, 'NO_SUCH_SWITCH'],
    ['GET', '/switches/none/capture', 404, 'NO_SUCH_SWITCH'],
    ['GET', '/switches/%zz/macs', 400, 'BAD_PATH'],
    ['POST', '/config', 405, 'METHOD_NOT_ALLOWED'],
    ['DELETE', '/status', 405, 'METHOD_NOT_ALLOWED'],
  ] as const) {
    const reply = await plane.ask(method, url);
    t.equal(reply.status, status, `${method} ${url}`);
    t.equal(ErrorReply.parse(reply.body).error.code, code);
  }
});

void t.test('a port that cannot be had is an error in words, and the others work', async t => {
  const plane = await PlaneProcess.start(t);
  const blocked = `${plane.directory}/file`;
  writeFileSync(blocked, '');
  const served = `${plane.directory}/served.sock`;
  const other = createServer().listen(served);
  await once(other, 'listening');
  t.teardown(() => other.close());
  const good = `${plane.directory}/good.sock`;
  const reply = await plane.ask(
    'PUT',
    '/config',
    config(1, [
      stream('blocked', `${blocked}/x.sock`, 'connect'),
      stream('served', served, 'listen'),
      { name: 'nodir', vlan: access(1), device: { kind: 'pcap', path: `${plane.directory}/none/x.pcapng` } },
      stream('good', good, 'listen'),
    ]),
  );
  const problems = Applied.parse(reply.body).problems;
  const reason = (port: string): string => problems.find(problem => problem.port === port)?.reason ?? '';
  t.match(reason('blocked'), /ENOTDIR/);
  t.match(reason('served'), /EADDRINUSE/);
  t.match(reason('nodir'), /ENOENT/);
  t.same(
    problems.map(({ state }) => state),
    ['error', 'error', 'error', 'connecting'],
  );
  const peer = await StreamPeer.dial(good);
  await until('good is up', async () => (await plane.port('good')).state === 'up');
  other.close();
  await until('served is tried again', async () => (await plane.port('served')).state === 'connecting');
  peer.close();
});

void t.test('a recorder port and a faulty port', async t => {
  const plane = await PlaneProcess.start(t);
  const path = `${plane.directory}/a.sock`;
  const file = `${plane.directory}/record.pcapng`;
  const ports = (faults: object | undefined) => [
    { ...stream('a', path, 'listen'), ...(faults === undefined ? {} : { faults }) },
    { name: 'record', vlan: access(10), device: { kind: 'pcap', path: file } },
  ];
  await plane.ask('PUT', '/config', config(1, ports({ drop_ppm: 1_000_000 })));
  const a = await StreamPeer.dial(path);
  t.teardown(() => a.close());
  await until('up', async () => (await plane.port('a')).state === 'up');
  a.send(frame(ALL, A));
  await until('dropped', async () => (await plane.port('a')).counters['dropFault'] === 1);
  await plane.ask('PUT', '/config', config(2, ports({ drop_ppm: 0 })));
  a.send(frame(ALL, A), frame(ALL, A, 1000));
  await until('recorded', async () => (await plane.port('record')).counters['ifHCOutBroadcastPkts'] === 2);
  t.notOk(a.isEnded, 'new odds do not cost the connection');
  await plane.ask('PUT', '/config', config(3, []));
  const size = pcapng.enhancedPacketLength(60) + pcapng.enhancedPacketLength(1000);
  const name = new TextEncoder().encode('record');
  t.equal(statSync(file).size, pcapng.SECTION_HEADER_LENGTH + pcapng.interfaceDescriptionLength(name) + size);
  t.equal(statSync(file).mode & 0o777, 0o600);
});
