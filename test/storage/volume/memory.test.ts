import t from 'tap';
import { Later } from '../../../storage/volume/later.js';
import { MemoryVolume } from '../../../storage/volume/memory.js';
import { EXAM_BYTES, exam, read, write, type Examined } from './suite.js';

function make(capacity_bytes?: number): Examined & { volume: MemoryVolume } {
  const later = new Later();
  const volume = new MemoryVolume(EXAM_BYTES, later, capacity_bytes);
  return {
    volume,
    turn: () => later.turn(),
    grow: size_bytes => volume.grow(size_bytes),
    close: () => undefined,
  };
}

exam(t, 'memory', make);

void t.test('a full memory volume says so, and recovers', async t => {
  const examined = make(8192);
  t.equal(write(examined, 0, new Uint8Array(8192).fill(1)), 0);
  t.equal(write(examined, 65_536, new Uint8Array(4096).fill(1)), -28);
  t.equal(examined.volume.state, 'full');
  t.type(examined.volume.reason, 'string');
  t.equal(write(examined, 0, new Uint8Array(4096).fill(2)), 0, 'what is allocated can be overwritten');
  t.equal(examined.volume.state, 'ok');
  t.ok(read(examined, 65_536, 4096).every(byte => byte === 0));
});
