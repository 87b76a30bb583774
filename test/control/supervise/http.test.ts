/** The client: deadlines, bounds, errors in words; and the reader of event streams. */
import t from 'tap';
import fc from 'fast-check';
import * as fs from 'node:fs';
import * as http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { PlaneClient } from '../../../control/supervise/http/process.js';
import { EVENT_MAX_CHARACTERS, SseReader } from '../../../control/supervise/sse.js';
import { FakePlane } from '../fakePlane.js';

const directory = fs.mkdtempSync(join(tmpdir(), 'weft-client-'));
t.teardown(() => fs.rmSync(directory, { recursive: true, force: true }));

const Any = z.unknown();

await t.test('answers, refusals, nonsense', async t => {
  const path = join(directory, 'a.sock');
  const plane = new FakePlane({ kind: 'storage', version: '1' });
  await plane.listen(path);
  t.teardown(() => plane.close());
  const client = new PlaneClient('weft-storage', path);
  const Health = z.object({ pid: z.int() });
  t.same(await client.call({ method: 'GET', path: '/health', reply: Health }), { pid: process.pid });
  await t.rejects(client.call({ method: 'GET', path: '/nowhere', reply: Any }), {
    code: 'PLANE_REFUSED',
    status: 404,
    planeCode: 'NOT_FOUND',
    message: 'no /nowhere',
  });
  await t.rejects(client.call({ method: 'GET', path: '/garbage', reply: Health }), { code: 'PLANE_REPLY' });
});

await t.test('nobody there', async t => {
  const client = new PlaneClient('weft-storage', join(directory, 'none.sock'));
  await t.rejects(client.call({ method: 'GET', path: '/health', reply: Any }), {
    code: 'PLANE_UNREACHABLE',
    message: 'weft-storage does not run',
  });
});

await t.test('one that does not answer, one that does not end, one that says too much', async t => {
  const path = join(directory, 'b.sock');
  const server = http.createServer((request, response) => {
    if (request.url === '/silent') return;
    response.writeHead(200);
    response.write('{"a":');
    if (request.url === '/flood') {
      const piece = Buffer.alloc(2 ** 20, 0x20);
      const more = (): void => {
        while (!response.destroyed && response.write(piece));
      };
      response.on('drain', more);
      more();
    }
    if (request.url === '/half') response.destroy();
  });
  await new Promise<void>(resolve => server.listen(path, resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const client = new PlaneClient('weft-x', path);
  const call = (url: string, deadline_ms: number) =>
    client.call({ method: 'GET', path: url, reply: Any, deadline_ms });
  await t.rejects(call('/silent', 50), {
    code: 'PLANE_TIMEOUT',
    message: 'weft-x GET /silent: no answer within 50 ms',
  });
  await t.rejects(call('/endless', 50), { code: 'PLANE_TIMEOUT' });
  await t.rejects(call('/half', 5000), { code: 'PLANE_UNREACHABLE' });
  await t.rejects(call('/flood', 60_000), { code: 'PLANE_REPLY', message: /more than 67108864 bytes/ });
});

await t.test('an event stream says all its payloads, however it is cut', async t => {
  const payload = fc.string({ minLength: 1, maxLength: 20 }).filter(text => !/[\r\n]/.test(text));
  fc.assert(
    fc.property(
      fc.array(payload, { maxLength: 8 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 9 })),
      (sent, cuts) => {
        const text = sent.map(one => `: beat\n\nid: 7\ndata: ${one}\n\n`).join('');
        const reader = new SseReader();
        const got: string[] = [];
        for (let at = 0; at < text.length;) {
          const length = cuts.next().value as number;
          got.push(...reader.push(text.slice(at, at + length)));
          at += length;
        }
        return JSON.stringify(got) === JSON.stringify(sent);
      },
    ),
  );
  t.same(new SseReader().push('data: a\ndata: b\n\ndata:c\r\n\r\n'), ['a\nb', 'c']);
  t.throws(() => new SseReader().push('x'.repeat(EVENT_MAX_CHARACTERS + 1)), RangeError);
});
