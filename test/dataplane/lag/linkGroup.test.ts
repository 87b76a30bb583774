/** Static and active-backup aggregates: who carries when. And what is said when the active one changes. */
import t from 'tap';
import * as announce from '../../../dataplane/lag/announce.js';
import { chooseActive, chooseStatic } from '../../../dataplane/lag/linkGroup.js';
import type { ActiveBackupSettings, GroupMember } from '../../../dataplane/lag/linkGroup.js';
import { dirty } from '../wire/codec.js';

const member = (name: string, upAt_ms: number | null, priority = 100): GroupMember => ({
  name,
  priority,
  isUp: upAt_ms !== null,
  upAt_ms: upAt_ms ?? 0,
});
const names = (members: readonly GroupMember[]): string[] => members.map(({ name }) => name);

void t.test('static', async t => {
  const members = [member('a', 0), member('b', null), member('c', 900)];
  const choose = (minLinks: number, upDelay_ms: number) =>
    chooseStatic(members, { minLinks, upDelay_ms }, 1000);
  t.same(names(choose(1, 0).carrying), ['a', 'c']);
  t.same(names(choose(1, 500).carrying), ['a'], 'up delay');
  t.equal(choose(1, 500).wakeAt_ms, 1400);
  t.equal(choose(1, 0).wakeAt_ms, Infinity);
  t.same(choose(3, 0).carrying, [], 'fewer than the minimum');
});

void t.test('active-backup', async t => {
  const rows: {
    says: string;
    members: GroupMember[];
    active?: string;
    settings?: Partial<ActiveBackupSettings>;
    carrying: string[];
    wakeAt_ms?: number;
  }[] = [
    { says: 'nobody is up', members: [member('a', null)], carrying: [] },
    { says: 'the best by priority', members: [member('a', 0, 9), member('b', 0, 5)], carrying: ['b'] },
    {
      says: 'who carries goes on',
      members: [member('a', 0, 9), member('b', 0, 5)],
      active: 'a',
      carrying: ['a'],
    },
    {
      says: 'the primary first',
      members: [member('a', 0, 9), member('b', 0, 5)],
      settings: { primary: 'a' },
      carrying: ['a'],
    },
    {
      says: 'the primary is back',
      members: [member('a', 900), member('b', 0)],
      active: 'b',
      settings: { primary: 'a' },
      carrying: ['a'],
    },
    {
      says: 'the primary is back, but not for long',
      members: [member('a', 900), member('b', 0)],
      active: 'b',
      settings: { primary: 'a', revertDelay_ms: 500 },
      carrying: ['b'],
      wakeAt_ms: 1400,
    },
    {
      says: 'the primary is back, and nobody wants it',
      members: [member('a', 0), member('b', 0)],
      active: 'b',
      settings: { primary: 'a', revertDelay_ms: null },
      carrying: ['b'],
    },
    {
      says: 'the active one is lost',
      members: [member('a', null), member('b', 0)],
      active: 'a',
      carrying: ['b'],
    },
    {
      says: 'the active one is lost while the primary is new: at once all the same',
      members: [member('a', 900), member('b', null)],
      active: 'b',
      settings: { primary: 'a', revertDelay_ms: 10_000 },
      carrying: ['a'],
    },
    {
      says: 'only who is new is there: no up delay',
      members: [member('a', 900), member('b', null)],
      active: 'b',
      settings: { upDelay_ms: 500 },
      carrying: ['a'],
      wakeAt_ms: 1400,
    },
  ];
  for (const { says, members, active, settings, carrying, wakeAt_ms = Infinity } of rows) {
    const choice = chooseActive(
      members,
      members.find(({ name }) => name === active),
      { primary: null, revertDelay_ms: 0, upDelay_ms: 0, ...settings },
      1000,
    );
    t.same(names(choice.carrying), carrying, says);
    t.equal(choice.wakeAt_ms, wakeAt_ms, `${says}: when next`);
  }
});

void t.test('how a VLAN leaves by the aggregate', async t => {
  const { taggingOf } = announce;
  t.same(taggingOf({ mode: 'access', vlan: 10 }, 10), { vid: 10, isTagged: false, tpid: 0x8100 });
  t.equal(taggingOf({ mode: 'access', vlan: 10 }, 11).vid, -1);
  const trunk = { mode: 'trunk', allowed: [[10, 19]], native: 10, translate: [[100, 11]] } as const;
  const port = {
    ...trunk,
    allowed: [[10, 19]] as [number, number][],
    translate: [[100, 11]] as [number, number][],
  };
  t.same(taggingOf(port, 10), { vid: 10, isTagged: false, tpid: 0x8100 }, 'native');
  t.same(taggingOf(port, 11), { vid: 100, isTagged: true, tpid: 0x8100 }, 'translated');
  t.same(taggingOf({ ...port, tpid: 0x88a8 }, 12), { vid: 12, isTagged: true, tpid: 0x88a8 });
  t.equal(taggingOf(port, 20).vid, -1);
});

void t.test('an announcement', async t => {
  const view = dirty(80);
  const station = Uint8Array.of(2, 0, 0, 0, 0, 7);
  t.equal(announce.emit(view, 0, station, { vid: 20, isTagged: true, tpid: 0x8100 }), 64);
  t.equal(
    Buffer.from(view.buffer, 0, 46).toString('hex'),
    'ffffffffffff' +
      '020000000007' +
      '81000014' +
      '8035' +
      '0001080006040003' +
      '020000000007' +
      '00000000' +
      '020000000007' +
      '00000000',
  );
  t.equal(view.getUint8(64), 0xa5);
});
