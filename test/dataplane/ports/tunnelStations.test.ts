import fc from 'fast-check';
import t from 'tap';
import { KNOWN, MOVED, NEW, REPLACED, TunnelStations } from '../../../dataplane/ports/tunnelStations.js';

await t.test('learned, moved, forgotten', async t => {
  const stations = new TunnelStations(64, 300);
  t.equal(stations.lookup(0x0200, 1, 0), -1);
  t.equal(stations.learn(0x0200, 1, 3, 0), NEW);
  t.equal(stations.learn(0x0200, 1, 3, 100), KNOWN);
  t.equal(stations.lookup(0x0200, 1, 400), 3);
  t.equal(stations.lookup(0x0200, 1, 401), -1, 'not heard of for more than 300 s');
  t.equal(stations.learn(0x0200, 1, 4, 500), MOVED);
  t.equal(stations.lookup(0x0200, 1, 500), 4);
  t.equal(stations.lookup(0x0201, 1, 500), -1);
  t.equal(stations.learn(0, 0, 1, 500), NEW, 'address zero is no empty place');
  t.equal(stations.lookup(0, 0, 500), 1);
});

await t.test('bounded: the one heard of least lately gives way', async t => {
  const stations = new TunnelStations(4, 300);
  for (let i = 0; i < 4; i++) t.equal(stations.learn(0x0200, i, i, i), NEW);
  t.equal(stations.learn(0x0200, 0, 0, 10), KNOWN);
  t.equal(stations.learn(0x0200, 9, 9, 11), REPLACED);
  t.equal(stations.lookup(0x0200, 1, 11), -1);
  t.equal(stations.lookup(0x0200, 0, 11), 0);
  t.equal(stations.count, 4);
});

await t.test('what is answered was said last, as a map would have it', async () => {
  const entry = fc.tuple(fc.nat(40), fc.nat(5));
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 200 }), entries => {
      const stations = new TunnelStations(64, 300);
      const truth = new Map<number, number>();
      for (const [index, [station, remote]] of entries.entries()) {
        stations.learn(station & 1, station, remote, index);
        truth.set(station, remote);
      }
      for (const [station, remote] of truth) {
        const said = stations.lookup(station & 1, station, entries.length);
        if (said !== -1 && said !== remote) return false;
      }
      return stations.count <= 64;
    }),
  );
});
