import fc from 'fast-check';
import t from 'tap';
import { emitIdentity, isAlive, parseIdentity, parseStat } from '../../../control/vmm/identity.js';

const fields = Array.from({ length: 49 }, (_, index) => String(index + 4)).join(' ');

await t.test('proc(5) stat', async t => {
  t.same(parseStat(`42 (qemu-system-x86) S ${fields}\n`), {
    command: 'qemu-system-x86',
    state: 'S',
    startTicks: '22',
  });
  fc.assert(
    fc.property(fc.string(), command => {
      t.same(parseStat(`42 (${command}) T ${fields}`), { command, state: 'T', startTicks: '22' }, 'any name');
    }),
  );
  for (const text of ['', '42', '42 (x', '42 (x) S', ')(']) t.equal(parseStat(text), undefined);
});

await t.test('a zombie has ended', async t => {
  const stat = { command: 'x', startTicks: '1' };
  for (const [state, alive] of [
    ['S', true],
    ['T', true],
    ['D', true],
    ['Z', false],
    ['X', false],
  ] as const)
    t.equal(isAlive({ ...stat, state }), alive, state);
  t.notOk(isAlive(undefined));
});

await t.test('the pid file says what it said', async t => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 4_194_304 }),
      fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      fc.uuid(),
      (pid, ticks, id) => {
        const identity = { pid, startTicks: String(ticks), hostBootId: id };
        t.same(parseIdentity(emitIdentity(identity)), identity);
      },
    ),
  );
  fc.assert(
    fc.property(fc.string(), text => {
      parseIdentity(text);
    }),
  );
  const id = '0'.repeat(36);
  for (const text of ['', '12', `0 5 ${id}`, `1 5 ${id}`, `-4 5 ${id}`, `12 5 ${id} more`, '12 5 short'])
    t.equal(parseIdentity(text), undefined, `${JSON.stringify(text)} names nobody, least of all init`);
});
