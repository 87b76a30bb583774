/** The exam that every Store takes. `reopen` is what a new weftd does after the old one is gone. */
import type { Test } from 'tap';
import type { Store, StoredEvent, StoreLimits } from '../../../control/store/store.js';

export interface Candidate {
  open(limits?: StoreLimits): Promise<Store>;
  /** Closes it and opens it again. */
  reopen(store: Store, limits?: StoreLimits): Promise<Store>;
}

function event(seq: number): StoredEvent {
  return {
    seq,
    at: '2026-01-01T00:00:00.000Z',
    level: 'info',
    kind: 'k',
    name: 'n',
    reason: 'R',
    message: `${seq}`,
  };
}

function revision(number: number, size = 1) {
  return {
    revision: number,
    at: `2026-01-01T00:00:0${number % 10}.000Z`,
    why: 'apply',
    resources: [{ kind: 'pool' as const, name: 'p', written: { directory: `/${'x'.repeat(size)}` } }],
  };
}

const POOL = { kind: 'pool', name: 'p', generation: 1, written: { directory: '/x' } } as const;
const MACHINE = { kind: 'machine', name: 'm', generation: 3, written: { image: 'tiny' } } as const;

export async function exam(t: Test, candidate: Candidate): Promise<void> {
  await t.test('a new one is empty', async t => {
    const store = await candidate.open();
    t.same(await store.read(), { revision: 0, resources: [], tombstones: [], facts: new Map(), events: [] });
    t.same(await store.revisions(), []);
    t.equal(await store.revision(1), undefined);
    await store.close();
  });

  await t.test('what was committed is there for the next weftd', async t => {
    let store = await candidate.open();
    await store.commit({
      revision: revision(1),
      put: [POOL, MACHINE],
      facts: new Map<string, unknown>([
        ['machine/m', { intent: 'stopped' }],
        ['fill/p/v', { state: 'filling' }],
      ]),
    });
    await store.commit({
      revision: revision(2),
      put: [{ ...POOL, generation: 2, written: {} }],
      remove: ['machine/m'],
      bury: [{ ...MACHINE, destroyData: true }],
      facts: new Map([['fill/p/v', null]]),
    });
    store = await candidate.reopen(store);
    const contents = await store.read();
    t.equal(contents.revision, 2);
    t.same(contents.resources, [{ ...POOL, generation: 2, written: {} }]);
    t.same(contents.tombstones, [{ ...MACHINE, destroyData: true }]);
    t.same([...contents.facts], [['machine/m', { intent: 'stopped' }]]);
    await store.commit({ unbury: ['machine/m'] });
    store = await candidate.reopen(store);
    t.same((await store.read()).tombstones, []);
    t.equal((await store.read()).revision, 2, 'a change of facts is no revision');
    await store.close();
  });

  await t.test('what it gave out cannot be changed from outside', async t => {
    const store = await candidate.open();
    const written = { image: 'tiny' };
    await store.commit({ put: [{ ...MACHINE, written }] });
    written.image = 'other';
    (await store.read()).resources.length = 0;
    t.same((await store.read()).resources, [MACHINE]);
    await store.close();
  });

  await t.test('revisions: the newest within both limits', async t => {
    let store = await candidate.open({ events: 10, revisions: 3, revisions_bytes: 10_000 });
    for (let i = 1; i <= 5; i++) await store.commit({ revision: revision(i) });
    t.same(
      (await store.revisions()).map(head => head.revision),
      [5, 4, 3],
    );
    t.equal(await store.revision(2), undefined);
    t.same(await store.revision(4), revision(4));
    store = await candidate.reopen(store, { events: 10, revisions: 3, revisions_bytes: 10_000 });
    t.same(
      (await store.revisions()).map(head => head.revision),
      [5, 4, 3],
    );
    await store.commit({ revision: revision(6, 9900) });
    t.same(
      (await store.revisions()).map(head => head.revision),
      [6],
    );
    await store.commit({ revision: revision(7, 20_000) });
    t.same(
      (await store.revisions()).map(head => head.revision),
      [7],
      'the newest stays, however large',
    );
    t.equal((await store.read()).revision, 7);
    await store.close();
  });

  await t.test('events: the newest, oldest first', async t => {
    const limits = { events: 5, revisions: 3, revisions_bytes: 10_000 };
    let store = await candidate.open(limits);
    await store.log([event(1), event(2), event(3)]);
    await store.log([event(1003), event(1004), event(1005), event(1006)]);
    store = await candidate.reopen(store, limits);
    const seqs = async (): Promise<number[]> => (await store.read()).events.map(one => one.seq);
    const kept = await seqs();
    t.same(kept.slice(-4), [1003, 1004, 1005, 1006]);
    t.ok(kept.length <= 5);
    await store.log([event(1007), event(1008), event(1009), event(1010), event(1011), event(1012)]);
    store = await candidate.reopen(store, limits);
    t.same((await seqs()).slice(-5), [1008, 1009, 1010, 1011, 1012]);
    t.ok((await seqs()).length <= 5);
    await store.close();
  });
}
