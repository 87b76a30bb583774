/** The API as a client meets it, over a Unix socket. */
import t from 'tap';
import * as fs from 'node:fs';
import * as http from 'node:http';
import type * as net from 'node:net';
import { EventEmitter } from 'node:events';
import * as contract from '../../../control/api/contract.js';
import { OPERATIONS } from '../../../control/api/operations.js';
import { checkOf, readOrMakeToken } from '../../../control/store/token.js';
import { VmmError } from '../../../control/vmm/errors.js';
import { GuestHostDouble } from '../../../control/vmm/double.js';
import { z } from 'zod';
import { Bench, QUICK } from './bench.js';

t.setTimeout(300_000);

const ResourceList = z.object({ resources: z.array(contract.Resource) });

function readyOf(reply: { json: unknown }): contract.Condition | undefined {
  return contract.Resource.parse(reply.json).status.conditions.find(condition => condition.type === 'Ready');
}

await t.test('plan, apply, settled, nothing left to do', async t => {
  const bench = await Bench.make(t);
  const planned = await bench.ask('POST', '/v1/plan', { files: [{ path: 'a.yaml', text: QUICK }] });
  t.equal(planned.status, 200);
  const plan = contract.Plan.parse(planned.json);
  t.equal(plan.revision, 0);
  t.same(
    plan.actions.map(({ verb, kind, name }) => `${verb} ${kind} ${name}`),
    [
      'create switch lan',
      'create pool main',
      'create image tiny',
      'create volume data',
      'create machine alice',
    ],
  );
  t.equal((await bench.get('/v1/resources')).text, '{"resources":[],"next":null}', 'a plan changes nothing');
  const applied = contract.ApplyReply.parse((await bench.apply(QUICK)).json);
  t.equal(applied.revision, 1);
  t.equal(applied.actions.length, 5);
  await bench.settled();
  t.same(
    bench.guests.calls.filter(call => call !== 'adopt'),
    ['prepare alice', 'start alice'],
  );
  t.equal(bench.storage.volumes.get('main/data')?.size_bytes, 64 * 2 ** 20);
  t.match(contract.ApplyReply.parse((await bench.apply(QUICK)).json), { revision: 1, actions: [] });
  const { resources } = ResourceList.parse((await bench.get('/v1/resources')).json);
  t.equal(resources.length, 5);
  t.ok(resources.every(one => one.status.observedGeneration === one.generation && !one.deleting));
  const alice = await bench.get('/v1/resources/machine/alice');
  t.match(readyOf(alice), { status: 'True', reason: 'Running' });
  t.match(contract.Resource.parse(alice.json), {
    spec: { memory: '256MiB', cpus: 1 },
    status: { observed: { state: 'running', accel: 'tcg', nics: [{ switch: 'lan', state: 'up' }] } },
  });
  t.equal(
    ResourceList.parse((await bench.get('/v1/resources?kind=volume&name=data')).json).resources.length,
    1,
  );
  t.match(contract.SystemStatus.parse((await bench.get('/v1/status')).json), {
    version: '1.2.3',
    pid: 4711,
    revision: 1,
    settled: true,
    planes: [
      { name: 'dataplane', state: 'up' },
      { name: 'storage', state: 'up' },
    ],
  });
});

await t.test('a wrong configuration', async t => {
  const bench = await Bench.make(t);
  const reply = contract.ApplyReply.parse((await bench.apply('machine:\n  m: { imge: tiny }\n')).json);
  t.same(reply.actions, []);
  t.match(reply.problems, [
    { path: 'a.yaml', line: 2, column: 8, at: 'machine.m.imge', message: /did you mean "image"/ },
  ]);
  t.equal((await bench.get('/v1/resources')).text, '{"resources":[],"next":null}');
});

await t.test('prune, and a revision that has moved on', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const late = await bench.apply('pool: { main: {} }', { ifRevision: 0 });
  t.equal(late.status, 409);
  t.match(contract.ErrorReply.parse(late.json).error, { code: 'REVISION_CONFLICT' });
  const reply = contract.ApplyReply.parse((await bench.apply('pool: { main: {} }', { prune: true })).json);
  t.same(
    reply.actions.map(one => one.verb),
    ['delete', 'delete', 'delete', 'delete'],
  );
  await bench.settled();
  t.same(bench.guests.list(), []);
  t.equal(bench.storage.volumes.size, 1, 'never the data');
});

await t.test('deleting', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const used = await bench.ask('DELETE', '/v1/resources/volume/data');
  t.equal(used.status, 409);
  t.match(contract.ErrorReply.parse(used.json).error, {
    code: 'RESOURCE_IN_USE',
    message: 'volume "data" is used by machine "alice": change or delete that first',
  });
  t.equal((await bench.ask('DELETE', '/v1/resources/machine/alice?destroyData=true')).status, 400);
  t.match((await bench.ask('DELETE', '/v1/resources/machine/alice')).json, { revision: 2, kept: [] });
  await bench.settled();
  t.same(bench.guests.calls.slice(-2), ['stop alice', 'forget alice']);
  const volumes = contract.VolumeRow.array();
  const list = async () =>
    volumes.parse(((await bench.get('/v1/volumes')).json as { volumes: unknown }).volumes);
  t.match(await list(), [{ name: 'data', configured: true, usedBy: [] }]);
  t.equal((await bench.ask('DELETE', '/v1/volumes/main/data')).status, 409, 'it is in the configuration');
  const kept = contract.DeleteReply.parse((await bench.ask('DELETE', '/v1/resources/volume/data')).json);
  t.match(kept.kept, [/weft volume delete main\/data --destroy-data/]);
  await bench.settled();
  t.match(await list(), [{ name: 'data', configured: false }]);
  t.same((await bench.ask('DELETE', '/v1/volumes/main/data')).json, { deleted: true });
  t.same(await list(), []);
  t.equal((await bench.ask('DELETE', '/v1/volumes/main/data')).status, 404);
  t.equal((await bench.ask('DELETE', '/v1/resources/volume/data')).status, 404);
  await bench.apply('volume: { data: { pool: main, size: 4KiB } }');
  await bench.settled();
  await bench.ask('DELETE', '/v1/resources/volume/data?destroyData=true');
  await bench.settled();
  t.equal(bench.storage.volumes.size, 0);
});

await t.test('machines: stop, start, kill, pause, and what a new weftd makes of it', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const verb = (name: string, body: object = {}) => bench.ask('POST', `/v1/machines/alice/${name}`, body);
  t.same((await verb('stop')).json, {});
  t.equal(bench.guests.list()[0]?.state, 'stopped');
  await bench.settled();
  t.same(bench.storage.config?.exports, [], 'nobody listens any more');
  const guests = GuestHostDouble.after(bench.guests);
  const next = await Bench.make(t, { disk: bench.disk, guests });
  next.storage.volumes.set('main/data', { size_bytes: 64 * 2 ** 20 });
  await next.settled();
  t.match(readyOf(await next.get('/v1/resources/machine/alice')), {
    reason: 'Stopped',
    message: 'stopped by hand',
  });
  t.notOk(guests.calls.includes('start alice'), 'stopped by hand stays stopped');
  t.same((await next.ask('POST', '/v1/machines/alice/start', {})).json, {});
  t.equal(guests.list()[0]?.state, 'running');
  t.same((await next.ask('POST', '/v1/machines/alice/pause', {})).json, {});
  t.equal(guests.list()[0]?.state, 'paused');
  await next.ask('POST', '/v1/machines/alice/resume', {});
  await next.ask('POST', '/v1/machines/alice/reset', {});
  t.same(guests.calls.slice(-3), ['pause alice', 'resume alice', 'reset alice']);
  t.same((await next.ask('POST', '/v1/machines/alice/kill', {})).json, {});
  await next.settled();
  t.equal(guests.list()[0]?.ended, 'killed', 'and it is not started again');
  t.equal((await next.ask('POST', '/v1/machines/bob/start', {})).status, 404);
  t.equal((await next.ask('POST', '/v1/machines/alice/fly', {})).status, 404);
  t.equal((await next.ask('POST', '/v1/machines/alice/reset', {})).status, 409);
});

await t.test('a guest that is deaf, one that does not start', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  bench.guests.deaf.add('alice');
  const deaf = await bench.ask('POST', '/v1/machines/alice/stop', { timeout_ms: 300 });
  t.equal(deaf.status, 504);
  t.match(contract.ErrorReply.parse(deaf.json).error, {
    code: 'MACHINE_TIMEOUT',
    message: /not done within 0.3 s/,
  });
  t.equal(bench.guests.list()[0]?.state, 'running');
  bench.guests.deaf.delete('alice');
  await bench.ask('POST', '/v1/machines/alice/kill', {});
  bench.guests.failNext('start', new VmmError('VMM_NO_QEMU', 'there is no QEMU'));
  const failed = await bench.ask('POST', '/v1/machines/alice/start', {});
  t.equal(failed.status, 500);
  t.match(contract.ErrorReply.parse(failed.json).error, {
    code: 'MACHINE_START_FAILED',
    message: 'machine "alice" did not start: there is no QEMU',
  });
  await bench.settled();
  t.equal(bench.guests.list()[0]?.state, 'running', 'it was tried again');
});

await t.test('a guest that crashes is started again, one that powers off is not', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  bench.guests.crash('alice', 'signal SIGSEGV');
  await bench.until('started again', async () => bench.guests.list()[0]?.state === 'running');
  const events = (await bench.get('/v1/events?follow=false&kind=machine')).text;
  t.match(events, /"reason":"Crashed","message":"signal SIGSEGV"/);
  bench.guests.powerOff('alice');
  await bench.until('noticed', async () =>
    (await bench.get('/v1/resources/machine/alice')).text.includes('PoweredOff'),
  );
  t.same((await bench.ask('POST', '/v1/machines/alice/start', {})).json, {});
});

await t.test('a hanging plane holds up nobody else', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  bench.storage.hangs = true;
  t.equal((await bench.get('/v1/status')).status, 200);
  const { resources } = ResourceList.parse((await bench.get('/v1/resources')).json);
  t.equal(resources.length, 5);
  // What needs only the other plane goes on.
  await bench.apply('switch: { wan: {} }');
  await bench.until('the switch is there', async () => bench.dataplane.config?.switches.length === 2);
  t.equal((await bench.get('/v1/resources/switch/wan')).status, 200);
});

await t.test('not settled while a plane serves what is not wanted any more', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  bench.storage.refuses = true;
  await bench.ask('POST', '/v1/machines/alice/stop', {});
  await bench.until(
    'the machine was seen stopped',
    async () => readyOf(await bench.get('/v1/resources/machine/alice'))?.reason === 'Stopped',
  );
  t.equal(bench.storage.config?.exports.length, 1, 'its disk is served still');
  t.match((await bench.get('/v1/status')).json, { settled: false });
  bench.storage.refuses = false;
  await bench.settled();
  t.same(bench.storage.config?.exports, []);
});

await t.test('broken ports and exports are reported in their words', async t => {
  const bench = await Bench.make(t);
  bench.dataplane.broken.set('up', 'no such interface; make it');
  bench.storage.broken.set('export/e', 'port 10809 is taken');
  await bench.apply(
    'switch: { lan: { ports: { up: { tap: t0 } } } }\npool: { p: {} }\nvolume: { v: { pool: p, size: 4KiB } }\nexport: { e: { volume: v } }\n',
  );
  await bench.until('both reported', async () => {
    const { text } = await bench.get('/v1/resources');
    return text.includes('port \\"up\\": no such interface; make it') && text.includes('"ListenFailed"');
  });
  t.match((await bench.get('/v1/resources/export/e')).text, /port 10809 is taken/);
  t.notOk((await bench.get('/v1/status')).text.includes('"settled":true'));
});

await t.test('events: replayed by number, followed, filtered', async t => {
  const bench = await Bench.make(t);
  await bench.apply('pool: { p: {} }');
  await bench.settled();
  const all = z.object({ events: z.array(contract.WeftEvent) });
  const { events } = all.parse((await bench.get('/v1/events?follow=false')).json);
  t.ok(events.length >= 3);
  const middle = events[1]!.seq;
  const later = all.parse((await bench.get(`/v1/events?follow=false&since=${middle}`)).json).events;
  t.same(later, events.slice(2));
  const stream = await bench.open('GET', '/v1/events?kind=pool', undefined, { 'last-event-id': `${middle}` });
  t.match(stream.headers['content-type'], /^text\/event-stream/);
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (piece: string) => (text += piece));
  await bench.apply('pool: { q: {} }\nswitch: { s: {} }');
  await bench.until('q is told of', async () => text.includes('"name":"q"'));
  const told = [...text.matchAll(/^id: (\d+)\ndata: (.*)$/gm)].map(match => ({
    id: Number(match[1]),
    event: contract.WeftEvent.parse(JSON.parse(match[2]!)),
  }));
  t.ok(told.every(({ id, event }) => id === event.seq && event.kind === 'pool' && id > middle));
  stream.destroy();
});

await t.test('logs: the end of one, and what is added', async t => {
  const bench = await Bench.make(t);
  const path = `${bench.directory}/logs/storage.log`;
  fs.writeFileSync(path, 'one\ntwo\nthree\n');
  t.equal((await bench.get('/v1/logs/storage?lines=2')).text, 'two\nthree\n');
  t.equal((await bench.get('/v1/logs/storage')).text, 'one\ntwo\nthree\n');
  t.equal((await bench.get('/v1/logs/dataplane')).text, '', 'one that is not there yet is empty');
  t.equal((await bench.get('/v1/logs/nothing')).status, 404);
  t.equal((await bench.get('/v1/logs/machine/..%2f..%2ftoken')).status, 404);
  t.equal((await bench.get('/v1/logs/storage?lines=many')).status, 400);
  const stream = await bench.open('GET', '/v1/logs/storage?follow=true&lines=1');
  let text = '';
  stream.setEncoding('utf8');
  stream.on('data', (piece: string) => (text += piece));
  await bench.until('the end', async () => text === 'three\n');
  fs.appendFileSync(path, 'four\n');
  await bench.until('more', async () => text === 'three\nfour\n');
  fs.rmSync(path);
  fs.writeFileSync(path, 'anew\n');
  await bench.until('the new file', async () => text === 'three\nfour\nanew\n');
  stream.destroy();
});

await t.test('the console: bytes both ways, one at a time', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const upgrade = (
    name: string,
    protocol = 'weft-console',
  ): Promise<{ status: number; socket?: net.Socket; text?: string }> =>
    new Promise((resolve, reject) => {
      const request = http.request({
        socketPath: `${bench.directory}/run/weftd.sock`,
        path: `/v1/machines/${name}/console`,
        headers: { connection: 'upgrade', upgrade: protocol },
      });
      request.on('error', reject);
      request.on('upgrade', (response, socket) =>
        resolve({ status: response.statusCode ?? 0, socket: socket as net.Socket }),
      );
      request.on('response', response => {
        let text = '';
        response.on('data', piece => (text += String(piece)));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
      });
      request.end();
    });
  const first = await upgrade('alice');
  t.equal(first.status, 101);
  first.socket?.write('hello');
  const [piece] = (await EventEmitter.once(first.socket!, 'data')) as [Buffer];
  t.equal(piece.toString(), 'hello');
  const second = await upgrade('alice');
  t.equal(second.status, 409);
  t.match(second.text, /VMM_CONSOLE_BUSY/);
  first.socket?.destroy();
  await bench.until('it is free again', async () => {
    const again = await upgrade('alice');
    again.socket?.destroy();
    return again.status === 101;
  });
  t.equal((await upgrade('bob')).status, 404);
  t.equal((await upgrade('alice', 'websocket')).status, 404);
  t.equal((await bench.get('/v1/machines/alice/console')).status, 426);
});

await t.test('switches: addresses, and a capture that is passed on', async t => {
  const bench = await Bench.make(t);
  await bench.apply('switch: { lan: {} }');
  await bench.settled();
  t.match((await bench.get('/v1/switches/lan/macs')).json, { entries: [{ mac: '02:00:00:00:00:01' }] });
  t.same((await bench.ask('DELETE', '/v1/switches/lan/macs')).json, { flushed: 2 });
  t.equal((await bench.get('/v1/switches/wan/macs')).status, 404);
  const capture = await bench.get('/v1/switches/lan/capture?port=a&port=b&count=5');
  t.equal(capture.text, 'firstlast');
  t.equal(capture.headers['content-type'], 'application/x-pcapng');
  t.ok(bench.dataplane.requests.includes('GET /switches/lan/capture?port=a&port=b&count=5'));
});

await t.test('an image is built with its progress told', async t => {
  const bench = await Bench.make(t);
  await bench.apply('image: { tiny: { tiny: {} } }');
  await bench.settled();
  const reply = await bench.ask('POST', '/v1/images/tiny/build', {});
  const told = [...reply.text.matchAll(/^data: (.*)$/gm)].map(match =>
    contract.ImageProgress.parse(JSON.parse(match[1]!)),
  );
  t.match(told.at(-1), { done: true, error: null });
  t.equal((await bench.ask('POST', '/v1/images/none/build', {})).status, 404);
});

await t.test('metrics', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  const { text, headers } = await bench.get('/metrics');
  t.match(headers['content-type'], /^text\/plain; version=0.0.4/);
  for (const line of [
    'weft_info{version="1.2.3"} 1',
    'weft_plane_up{plane="storage"} 1',
    'weft_resource_condition{kind="machine",name="alice",type="Ready",status="True"} 1',
    'weft_machine_state{machine="alice",state="running"} 1',
    'weft_port_counter_total{switch="lan",port="alice.nic0",counter="ifHCInOctets"} 3',
    'weft_volume_size_bytes{pool="main",volume="data"} 67108864',
    'weft_export_counter_total{export="machine/alice/disk0",counter="reads"} 1',
  ])
    t.ok(text.includes(`${line}\n`), line);
  const sample = /^[a-z_]+(\{([a-z_]+="([^"\\\n]|\\.)*",?)*\})? -?[\d.e+-]+$/;
  t.same(
    text
      .trimEnd()
      .split('\n')
      .filter(line => !line.startsWith('# ') && !sample.test(line)),
    [],
  );
});

await t.test('what cannot be asked', async t => {
  const bench = await Bench.make(t);
  const errorOf = async (method: string, path: string, body?: string) => {
    const reply = await bench.ask(method, path, body);
    return `${reply.status} ${contract.ErrorReply.parse(reply.json).error.code}`;
  };
  t.equal(await errorOf('GET', '/nowhere'), '404 NOT_FOUND');
  t.equal(await errorOf('DELETE', '/v1/status'), '405 METHOD_NOT_ALLOWED');
  t.equal(await errorOf('GET', '/v1/resources/machine/none'), '404 RESOURCE_UNKNOWN');
  t.equal(await errorOf('GET', '/v1/resources/toaster/none'), '404 KIND_UNKNOWN');
  t.equal(await errorOf('GET', '/v1/resources?kind=toaster'), '400 BAD_QUERY');
  t.equal(await errorOf('POST', '/v1/plan', '{'), '400 BAD_JSON');
  t.equal(await errorOf('POST', '/v1/plan', '{"files": 7}'), '400 BAD_BODY');
  const big = await bench.ask('POST', '/v1/plan', ' '.repeat(33 * 2 ** 20)).catch(() => undefined);
  t.ok(big === undefined || big.status === 413, 'a body without bound');
  bench.weftd.system.keeper.plan = () => {
    throw new TypeError('secret detail of ours');
  };
  const ours = await bench.ask('POST', '/v1/plan', { files: [] });
  t.equal(ours.status, 500);
  t.notMatch(ours.text, /secret|TypeError|stack/, 'our mistakes are for our log');
});

await t.test('TCP needs the token', async t => {
  const directory = t.testdir();
  const path = `${directory}/token`;
  const token = readOrMakeToken(path);
  t.equal(fs.statSync(path).mode & 0o777, 0o600);
  t.equal(readOrMakeToken(path), token, 'made once');
  t.ok(token.length >= 40);
  const bench = await Bench.make(t, { tcp: { host: '127.0.0.1', port: 0, mayAsk: checkOf(token) } });
  const ask = (url: string, headers: http.OutgoingHttpHeaders): Promise<number> =>
    new Promise((resolve, reject) => {
      const request = http.get({
        host: '127.0.0.1',
        port: bench.server.tcpPort,
        path: url,
        headers,
        agent: false,
      });
      request.on('error', reject);
      request.on('response', response => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      request.on('upgrade', (response, socket) => {
        socket.destroy();
        resolve(response.statusCode ?? 0);
      });
    });
  t.equal(await ask('/v1/status', {}), 401);
  t.equal(await ask('/v1/status', { authorization: 'Bearer wrong' }), 401);
  t.equal(await ask('/v1/status', { authorization: `Basic ${token}` }), 401);
  t.equal(await ask('/v1/status', { authorization: `Bearer ${token}` }), 200);
  t.equal(await ask('/healthz', {}), 200);
  const console = { connection: 'upgrade', upgrade: 'weft-console' };
  t.equal(await ask('/v1/machines/alice/console', console), 401);
  t.equal(await ask('/v1/machines/alice/console', { ...console, authorization: `Bearer ${token}` }), 404);
});

await t.test('shutdown', async t => {
  const bench = await Bench.make(t);
  await bench.apply(QUICK);
  await bench.settled();
  t.same((await bench.ask('POST', '/v1/shutdown', {})).json, {});
  t.equal(bench.ended, true);
  t.equal(bench.guests.list()[0]?.state, 'running', 'weftd alone');
});

await t.test('the description of the API is that of its contract', async t => {
  const bench = await Bench.make(t);
  const { json } = await bench.get('/openapi.json');
  t.match(json, { openapi: '3.1.0', info: { title: 'weftd', version: '1.2.3' } });
  const { paths, components } = json as {
    paths: Record<string, Record<string, { operationId: string }>>;
    components: { schemas: Record<string, unknown> };
  };
  // Every reference leads somewhere.
  for (const match of JSON.stringify(json).matchAll(/"\$ref":"#\/components\/schemas\/(\w+)"/g))
    t.ok(components.schemas[match[1]!] !== undefined, match[1]);
  const ids = Object.values(paths).flatMap(methods => Object.values(methods).map(one => one.operationId));
  t.equal(new Set(ids).size, ids.length);
  // The list in contract.ts is the table's, line for line.
  const head = fs.readFileSync(new URL('../../../../control/api/contract.ts', import.meta.url), 'utf8');
  const listed = [...head.matchAll(/^ \* {3}(GET|PUT|POST|DELETE) +(\/\S*)/gm)].map(
    match => `${match[1]} ${match[2]}`,
  );
  t.ok(listed.length > 15);
  const served = OPERATIONS.map(({ method, path }) => `${method} ${path.replace(/\{.*\}/, '')}`);
  t.same(served.sort(), listed.sort());
});
