/** The desired state in memory and in the store: what is acknowledged, what outlives weftd, who has the last word. */
import t from 'tap';
import { layoutOf } from '../../../control/model/layout.js';
import { Journal } from '../../../control/store/journal.js';
import { Keeper } from '../../../control/store/keeper.js';
import { MemoryDisk, MemoryStore } from '../../../control/store/memory.js';
import { EVENTS_MAX } from '../../../control/store/store.js';

const NOW = '2026-01-01T00:00:00.000Z';

async function keeper(disk = new MemoryDisk(), endedBoot: string | null = null) {
  const store = new MemoryStore(disk);
  const context = {
    layout: layoutOf('/s'),
    volumeSizes: () => new Map<string, number>(),
    activeMachines: () => new Set<string>(),
    endedBoot: () => endedBoot,
  };
  return { store, disk, keeper: new Keeper(store, await store.read(), context, () => NOW) };
}

const file = (text: string) => [{ path: 'a.yaml', text }];
const MACHINE = 'image: { k: { kernel: /k } }\nmachine: { m: { image: k } }\n';

await t.test('apply, apply again, change, and the next weftd', async t => {
  const { keeper: first, disk } = await keeper();
  let changeCount = 0;
  first.onChange(() => changeCount++);
  t.equal((await first.apply(file(MACHINE), false)).actions.length, 2);
  t.equal(first.revision, 1);
  t.same((await first.apply(file(MACHINE), false)).actions, []);
  t.equal(first.revision, 1, 'no change, no revision');
  await first.apply(file('machine: { m: { image: k, cpus: 2 } }\n'), false);
  t.equal(first.revision, 2);
  t.equal(changeCount, 2);
  const { keeper: second } = await keeper(disk);
  t.equal(second.revision, 2);
  t.same(second.desired, first.desired);
  t.equal(second.desired.specs.machine.get('m')?.cpus, 2);
  t.same(
    (await second.revisions()).map(head => head.revision),
    [2, 1],
  );
  t.match((await second.revisionAt(1))?.resources, [{ name: 'k' }, { name: 'm' }]);
});

await t.test('problems change nothing', async t => {
  const { keeper: one } = await keeper();
  const { problems } = await one.apply(
    file('machine: { m: { image: nope }, n: { cpus: 0 } }\npool: { p: {} }\n'),
    false,
  );
  t.equal(problems.length, 2);
  t.equal(one.revision, 0);
  t.equal(one.resources.size, 0);
});

await t.test('a revision that has moved on', async t => {
  const { keeper: one } = await keeper();
  await one.apply(file('pool: { p: {} }\n'), false, 0);
  await t.rejects(one.apply(file('pool: { q: {} }\n'), false, 0), { code: 'REVISION_CONFLICT' });
  t.equal(one.resources.size, 1);
});

await t.test('what could not be written did not happen', async t => {
  const { keeper: one, store } = await keeper();
  store.failNext = new Error('disk full');
  await t.rejects(one.apply(file('pool: { p: {} }\n'), false), { message: 'disk full' });
  t.equal(one.revision, 0);
  t.equal(one.resources.size, 0);
  await one.apply(file('pool: { p: {} }\n'), false);
  t.equal(one.revision, 1, 'and the next change goes on');
});

await t.test('changes at the same time happen one after another', async t => {
  const { keeper: one } = await keeper();
  await Promise.all(Array.from({ length: 20 }, (_, i) => one.apply(file(`pool: { p${i}: {} }\n`), false)));
  t.equal(one.revision, 20);
  t.equal(one.resources.size, 20);
});

await t.test('a deletion is remembered until it is complete', async t => {
  const { keeper: one, disk } = await keeper();
  await one.apply(file(`${MACHINE}pool: { p: {} }\nvolume: { v: { pool: p, size: 1MiB } }\n`), false);
  await one.rememberFill('p', 'v', { state: 'filled', image: 'x' });
  await one.remove('volume/v', true);
  await one.remove('machine/m', false);
  const { keeper: two } = await keeper(disk);
  t.same([...two.tombstones.keys()], ['volume/v', 'machine/m']);
  t.equal(two.desired.burials.get('volume/v')?.destroyData, true);
  await two.unbury('volume/v');
  t.same([...two.tombstones.keys()], ['machine/m']);
  t.match(await two.remove('pool/p', false), { problems: [] });
  t.match((await two.apply(file(MACHINE), false)).actions, [{ verb: 'create', name: 'm' }]);
  t.equal(two.resources.get('machine/m')?.generation, 2, 'after its predecessor');
  t.ok(two.tombstones.has('machine/m'), 'which is still being removed');
  await two.apply(file('pool: { p: {} }\n'), false);
  t.notOk(two.tombstones.has('pool/p'), 'a pool simply takes its predecessor’s place');
});

await t.test('the newest word on running wins', async t => {
  const { keeper: one } = await keeper();
  await one.apply(file(MACHINE), false);
  await one.rememberMachine('m', () => ({ intent: 'stopped' }));
  await one.apply(file('machine: { m: { image: k, cpus: 2 } }\n'), false);
  t.same(one.machineFact('m'), { intent: 'stopped' }, 'another change leaves it stopped');
  await one.apply(file('machine: { m: { image: k, running: false } }\n'), false);
  t.same(one.machineFact('m'), {}, 'running was changed');
  await one.rememberMachine('m', () => ({ intent: 'started' }));
  await one.apply(file('machine: { m: { image: k, running: true } }\n'), false);
  t.same(one.machineFact('m'), {});
});

await t.test('running: true in a file answers how the machine ended', async t => {
  const { keeper: one } = await keeper(new MemoryDisk(), 'boot7');
  await one.apply(
    file('image: { k: { kernel: /k } }\nmachine: { m: { image: k, running: false } }\n'),
    false,
  );
  await one.apply(file('machine: { m: { image: k, running: true } }\n'), false);
  t.same(one.machineFact('m'), { dismissed: 'boot7' });
});

await t.test('the journal numbers events across restarts, and forgets the oldest', async t => {
  const disk = new MemoryDisk();
  const store = new MemoryStore(disk);
  const journal = new Journal(
    store,
    [],
    () => NOW,
    () => t.fail(),
  );
  const note = (message: string) => ({ level: 'info' as const, kind: 'k', name: 'n', reason: 'R', message });
  const heard: number[] = [];
  const stop = journal.listen(event => heard.push(event.seq));
  for (let i = 1; i <= 3; i++) journal.add(note(`${i}`));
  stop();
  journal.add(note('4'));
  t.same(heard, [1, 2, 3]);
  t.same(
    journal.after(2).map(event => event.seq),
    [3, 4],
  );
  t.same(journal.after(99), []);
  await journal.flush();
  const next = new Journal(
    new MemoryStore(disk),
    (await store.read()).events,
    () => NOW,
    () => t.fail(),
  );
  next.add(note('after'));
  t.same(
    next.after(0).map(event => event.message),
    ['1', '2', '3', '4', 'after'],
  );
  t.ok(next.after(4)[0]!.seq > 4, 'never a number twice');
  for (let i = 0; i < EVENTS_MAX * 1.2; i++) next.add(note('x'));
  t.ok(next.after(0).length <= EVENTS_MAX * 1.1 + 1);
  await next.flush();
  t.equal(disk.events.length, EVENTS_MAX);
});
