import fc from 'fast-check';
import t from 'tap';
import {
  step,
  UNSTARTED,
  type Life,
  type LifeEffect,
  type LifeEvent,
} from '../../../control/vmm/lifecycle.js';

/** Plays events one after the other, a second apart; gives the last life and all effects. */
function play(events: readonly LifeEvent[], from: Life = UNSTARTED): Life & { effects: LifeEffect[] } {
  const effects: LifeEffect[] = [];
  let life = from;
  let now_ms = 0;
  for (const event of events) life = step(life, event, (now_ms += 1000), effects);
  return { ...life, effects };
}

const starting: LifeEvent = { type: 'starting' };
const status = (word: string): LifeEvent => ({ type: 'status', status: word });
const qmp = (event: string, data = {}): LifeEvent => ({ type: 'qmp', event, data });
const gone: LifeEvent = { type: 'gone', how: 'QEMU has ended' };
const stop: LifeEvent = { type: 'asked', what: 'stop', timeout_ms: 10_000 };
const kill: LifeEvent = { type: 'asked', what: 'kill', timeout_ms: 0 };
const poweredOff = qmp('SHUTDOWN', { guest: true, reason: 'guest-shutdown' });
const up = [starting, status('prelaunch'), qmp('RESUME')];

await t.test('start', async t => {
  t.match(play([starting]), { state: 'starting', effects: [] });
  t.match(play([starting, status('prelaunch')]), { state: 'starting', effects: ['cont'] });
  t.match(play(up), { state: 'running', qemuStatus: 'running', reason: null });
});

await t.test('pause and resume', async t => {
  t.match(play([...up, qmp('STOP')]), { state: 'paused', reason: null });
  t.match(play([...up, status('paused')]), { state: 'paused' });
  t.match(play([...up, qmp('STOP'), qmp('RESUME')]), { state: 'running' });
});

await t.test(
  'the guest powers off by itself: QEMU holds it, is told to quit, and the end is known',
  async t => {
    const off = play([...up, poweredOff, qmp('STOP')]);
    t.match(off, { state: 'stopping', effects: ['cont', 'quit'] });
    t.match(play([gone], off), {
      state: 'stopped',
      ended: 'guest-poweroff',
      reason: 'the guest powered off',
    });
  },
);

await t.test('nobody was there when it powered off: the status tells', async t => {
  const found = play([status('shutdown')], { ...UNSTARTED, state: 'starting' });
  t.match(found, { effects: ['quit'] });
  t.match(play([gone], found), { state: 'stopped', ended: 'guest-poweroff' });
});

await t.test('asked to power off', async t => {
  t.match(play([...up, stop]), { state: 'stopping' });
  t.match(play([...up, stop, status('running')]), { state: 'stopping' }, 'still on its way');
  t.match(play([...up, stop, poweredOff, gone]), { state: 'stopped', ended: 'stopped', reason: null });
  const vain = play([...up, stop, { type: 'askedInVain' }]);
  t.match(vain, { state: 'running', reason: /did not react/ });
  t.match(play([poweredOff, gone], vain), { ended: 'stopped' }, 'late, but because it was asked');
  const later = step(vain, status('running'), 1e6, []);
  t.match(later, { state: 'running', reason: null, asked: null }, 'in time it is forgotten');
  t.match(step(step(later, poweredOff, 1e6, []), gone, 1e6, []), { ended: 'guest-poweroff' });
});

await t.test('killed, and crashed', async t => {
  t.match(play([...up, kill, gone]), { state: 'stopped', ended: 'killed', reason: null });
  t.match(play([...up, kill, qmp('SHUTDOWN', { reason: 'host-qmp-quit' }), gone]), { ended: 'killed' });
  t.match(play([...up, stop, kill, gone]), { ended: 'killed' }, 'the last word counts');
  t.match(play([...up, gone]), { state: 'crashed', ended: 'crashed', reason: 'QEMU has ended' });
  t.match(
    play([...up, stop, gone]),
    { state: 'crashed', ended: 'crashed' },
    'a crash on the way down is one',
  );
  t.match(play([...up, qmp('SHUTDOWN', { reason: 'host-signal' }), gone]), {
    state: 'crashed',
    reason: /signal from outside weft; QEMU has ended/,
  });
});

await t.test('a panic is a crash, however it is learnt', async t => {
  for (const word of [qmp('GUEST_PANICKED', { action: 'pause' }), status('guest-panicked')]) {
    const panicked = play([...up, word]);
    t.match(panicked, { effects: ['cont', 'quit'] });
    t.match(play([gone], panicked), { state: 'crashed', reason: /kernel panicked/ });
  }
  t.match(play([...up, status('internal-error'), gone]), { state: 'crashed', reason: /internal error/ });
});

await t.test('silent and back', async t => {
  const silent = play([...up, { type: 'silent', reason: 'no answer' }]);
  t.match(silent, { state: 'unresponsive', reason: 'no answer' });
  t.match(play([status('running')], silent), { state: 'running', reason: null });
  t.match(play([status('paused')], silent), { state: 'paused', reason: null });
  t.match(play([gone], silent), { state: 'crashed' });
  const asked = play([...up, stop, { type: 'silent', reason: 'no answer' }]);
  t.match(play([status('running')], asked), { state: 'stopping' }, 'what was asked is not forgotten');
});

await t.test('disk errors are counted, by name, and stay after the end', async t => {
  const error = qmp('BLOCK_IO_ERROR', {
    'node-name': 'disk0',
    operation: 'write',
    reason: 'No space left on device',
  });
  const read = qmp('BLOCK_IO_ERROR', {
    'node-name': 'disk1',
    operation: 'read',
    reason: 'Input/output error',
  });
  t.match(play([...up, error, error]), {
    state: 'running',
    diskErrors: { count: 2, last: /disk0: a write failed \(ENOSPC/ },
  });
  t.match(play([...up, error, read, gone]), {
    diskErrors: { count: 2, last: /disk1: a read failed \(Input/ },
  });
  t.equal(play([...up, error, gone, starting]).diskErrors, null, 'a new boot begins without');
});

const anyEvent: fc.Arbitrary<LifeEvent> = fc.oneof(
  fc.constantFrom(starting, gone, stop, kill, poweredOff, { type: 'askedInVain' } as const),
  fc
    .constantFrom(
      'running',
      'paused',
      'shutdown',
      'prelaunch',
      'io-error',
      'guest-panicked',
      'internal-error',
      'new-word',
    )
    .map(status),
  fc
    .constantFrom('STOP', 'RESUME', 'RESET', 'SHUTDOWN', 'GUEST_PANICKED', 'BLOCK_IO_ERROR', 'X')
    .map(name => qmp(name)),
  fc.string().map(reason => ({ type: 'silent', reason }) as const),
);

await t.test('whatever happens in whatever order', async t => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 30 }), events => {
      const life = play(events);
      const after = play([gone], life);
      t.ok(after.state === 'stopped' || after.state === 'crashed', 'gone is gone');
      t.equal(after.state === 'crashed', after.ended === 'crashed');
      t.same(play([starting], after).ended, null);
      t.ok(life.ending === null || life.state !== 'running' || events.length > 0);
      // Nobody ends a QEMU whose guest runs on.
      if (life.effects.includes('quit'))
        t.ok(events.some(event => event.type === 'status' || event.type === 'qmp'));
    }),
    { numRuns: 300 },
  );
});
