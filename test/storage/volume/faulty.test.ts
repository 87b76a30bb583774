import t from 'tap';
import { FaultyVolume, type Faults } from '../../../storage/volume/faulty.js';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { EXAM_BYTES, exam, waitFor, write, type Examined } from './suite.js';

function make(faults: Faults): Examined & { below: MemoryVolume } {
  const later = new Later();
  const below = new MemoryVolume(EXAM_BYTES, later);
  const volume = new FaultyVolume(below, later, faults);
  return { below, volume, turn: () => later.turn(), grow: size => below.grow(size), close: () => undefined };
}

exam(t, 'faulty without faults', () => make({ seed: 1 }));
exam(t, 'faulty that only delays', () => make({ seed: 2, again_ppm: 500_000, delay_ppm: 500_000 }));

void t.test('errors come at their rate, and the same with the same seed', async t => {
  const run = (seed: number): number[] => {
    const examined = make({ seed, error_ppm: 100_000, error: 28 });
    return Array.from({ length: 1000 }, (_, i) => write(examined, i * 4096, new Uint8Array(4096).fill(1)));
  };
  const results = run(77);
  const failed = results.filter(result => result === -28).length;
  t.ok(failed > 50 && failed < 200, `${failed} of 1000 failed`);
  t.ok(results.every(result => result === 0 || result === -28));
  t.same(run(77), results);
  t.notSame(run(78), results);
});

void t.test('a failed flush is for good', async t => {
  const examined = make({ seed: 5, flushError_ppm: 1_000_000 });
  const { volume } = examined;
  t.equal(write(examined, 0, new Uint8Array(512)), 0);
  t.equal(
    waitFor(examined, waiter => volume.flush(waiter, 7)),
    -5,
  );
  t.equal(volume.state, 'failed');
  t.type(volume.reason, 'string');
  t.equal(write(examined, 0, new Uint8Array(512)), -5);
  t.equal(
    waitFor(examined, waiter => volume.trim(0, 4096, waiter, 7)),
    -5,
  );
  t.equal(
    waitFor(examined, waiter => volume.flush(waiter, 7)),
    -5,
  );
  t.equal(examined.below.flushCount, 0, 'the disk is not asked again');
});
