import t from 'tap';
import { FlushGate } from '../../../storage/volume/flushGate.js';

/** A gate whose syncs end when told. */
function setUp(): {
  gate: FlushGate;
  started: () => number;
  answers: [number, number][];
  ask: (token: number) => void;
} {
  let started = 0;
  const gate = new FlushGate(() => void started++);
  const answers: [number, number][] = [];
  const waiter = { completed: (token: number, result: number): void => void answers.push([token, result]) };
  return { gate, started: () => started, answers, ask: token => gate.ask(waiter, token) };
}

void t.test('who asks while a sync runs is answered by the next one', async t => {
  const { gate, started, answers, ask } = setUp();
  ask(1);
  t.equal(started(), 1);
  ask(2);
  ask(3);
  t.equal(started(), 1, 'one sync at a time');
  gate.ended(0);
  t.same(answers, [[1, 0]], 'only who asked before it began');
  t.equal(started(), 2);
  gate.ended(0);
  t.same(answers, [
    [1, 0],
    [2, 0],
    [3, 0],
  ]);
  t.equal(started(), 2);
  t.notOk(gate.busy);
});

void t.test('a thousand flushes cost two syncs', async t => {
  const { gate, started, answers, ask } = setUp();
  for (let i = 0; i < 1000; i++) ask(i);
  gate.ended(0);
  gate.ended(0);
  t.equal(started(), 2);
  t.equal(answers.length, 1000);
});

void t.test('after a failure nobody is told of success, and nothing is synced again', async t => {
  const { gate, started, answers, ask } = setUp();
  ask(1);
  ask(2);
  t.equal(gate.ended(-5), true, 'the first failure');
  t.same(answers, [
    [1, -5],
    [2, -5],
  ]);
  t.equal(started(), 1);
});

void t.test('an answer may ask again', async t => {
  let started = 0;
  const gate: FlushGate = new FlushGate(() => void started++);
  const seen: number[] = [];
  const waiter = {
    completed: (token: number): void => {
      seen.push(token);
      if (token < 3) gate.ask(waiter, token + 1);
    },
  };
  gate.ask(waiter, 1);
  for (let i = 0; i < 3; i++) gate.ended(0);
  t.same(seen, [1, 2, 3]);
  t.equal(started, 3);
});
