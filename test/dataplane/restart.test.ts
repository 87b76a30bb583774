/** Ends and beginnings of the real process: told to stop, killed, started twice, started again. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import t from 'tap';
import { Applied, Health } from '../../dataplane/contract.js';
import { A, ALL, PlaneProcess, StreamServer, config, frame, stream, until } from './plane.js';

void t.test('ends with 0 when told to, and takes its socket along; a killed one is replaced', async t => {
  const plane = await PlaneProcess.start(t);
  const path = `${plane.directory}/a.sock`;
  await plane.ask('PUT', '/config', config(1, [stream('a', path, 'listen')]));
  const events = await plane.open('GET', '/events');
  const ended = once(events, 'end');
  events.resume();
  t.equal(await plane.end('SIGTERM'), 0);
  await ended;
  t.notOk(existsSync(plane.socket));
  t.notOk(existsSync(path));

  await plane.spawn();
  await plane.end('SIGKILL');
  t.ok(existsSync(plane.socket), 'left behind');
  await plane.spawn();
  t.equal((await plane.ask('GET', '/health')).status, 200);
  const first = plane.child;
  plane.stderr = '';
  await plane.spawn();
  const [code] = (await once(plane.child, 'close')) as [number];
  t.equal(code, 1, 'a second one refuses');
  t.match(plane.stderr, /another process serves it/);
  plane.child = first;
  t.equal((await plane.ask('GET', '/health')).status, 200, 'the first one goes on');
});

void t.test(
  'killed with -9 and started again: guests that kept listening have their network back',
  async t => {
    const plane = await PlaneProcess.start(t);
    const [pathA, pathB] = [`${plane.directory}/a.sock`, `${plane.directory}/b.sock`];
    const [serverA, serverB] = [await StreamServer.listen(t, pathA), await StreamServer.listen(t, pathB)];
    const wanted = config(1, [stream('a', pathA, 'connect'), stream('b', pathB, 'connect')]);
    await plane.ask('PUT', '/config', wanted);
    (await serverA.peer(0)).send(frame(ALL, A));
    const b = await serverB.peer(0);
    await until('b has it', () => b.frames.length === 1);

    await plane.end('SIGKILL');
    await until('both guests see the end', () => serverA.peers[0]!.isEnded && b.isEnded);
    await plane.spawn();
    t.equal(Health.parse((await plane.ask('GET', '/health')).body).generation, -1, 'it comes back empty');
    t.same(Applied.parse((await plane.ask('PUT', '/config', wanted)).body).problems, []);
    const again = await serverB.peer(1);
    (await serverA.peer(1)).send(frame(ALL, A, 1514));
    await until('frames pass again', () => again.frames.length === 1);
    t.same(again.frames[0], frame(ALL, A, 1514));
  },
);
