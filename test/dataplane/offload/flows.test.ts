import fc from 'fast-check';
import t from 'tap';
import { COUNTING, FREE, FlowTable, KERNEL } from '../../../dataplane/offload/flows.js';

await t.test('a flow has its slot, by all that makes it one', async t => {
  const flows = new FlowTable(16);
  const key = [3, 0x0242, -5, 0x0a0b, 7, -1] as const;
  const slot = flows.find(...key);
  t.equal(flows.find(...key), slot);
  t.equal(flows.state[slot], COUNTING);
  t.same(
    [
      flows.port(slot),
      flows.destinationHigh(slot),
      flows.destinationLow(slot),
      flows.sourceHigh(slot),
      flows.sourceLow(slot),
      flows.tci(slot),
    ],
    key,
  );
  const others = [
    [4, 0x0242, -5, 0x0a0b, 7, -1],
    [3, 0x0243, -5, 0x0a0b, 7, -1],
    [3, 0x0242, -6, 0x0a0b, 7, -1],
    [3, 0x0242, -5, 0x0a0c, 7, -1],
    [3, 0x0242, -5, 0x0a0b, 8, -1],
    [3, 0x0242, -5, 0x0a0b, 7, 0],
    [3, 0x0242, -5, 0x0a0b, 7, 0xf064],
  ] as const;
  const slots = others.map(([a, b, c, d, e, f]) => flows.find(a, b, c, d, e, f));
  t.equal(new Set([slot, ...slots]).size, 8, 'each has its own');
  t.equal(flows.tci(slots[5]!), 0, 'a priority tag is a tag');
  t.equal(flows.tci(slots[6]!), 0xf064);
  t.equal(flows.count, 8);
});

await t.test('the table is bounded, and takes anew what became free', async t => {
  const flows = new FlowTable(3);
  const slots = [1, 2, 3].map(port => flows.find(port, 0, 0, 0, 0, -1));
  t.equal(flows.find(4, 0, 0, 0, 0, -1), -1);
  flows.setState(slots[1]!, KERNEL);
  t.equal(flows.kernelCount, 1);
  flows.totalFrames[slots[1]!] = 9;
  flows.remove(slots[1]!);
  t.equal(flows.kernelCount, 0);
  const again = flows.find(4, 0, 0, 0, 0, -1);
  t.equal(again, slots[1]);
  t.equal(flows.totalFrames[again], 0, 'and begins at zero');
  t.equal(flows.find(1, 0, 0, 0, 0, -1), slots[0]);
  t.equal(flows.find(3, 0, 0, 0, 0, -1), slots[2]);
});

await t.test('as a map would', async () => {
  const step = fc.record({
    port: fc.nat(5),
    low: fc.nat(6),
    tci: fc.integer({ min: -1, max: 2 }),
    remove: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), steps => {
      const flows = new FlowTable(24);
      const model = new Map<string, number>();
      for (const { port, low, tci, remove } of steps) {
        const name = `${port} ${low} ${tci}`;
        const known = model.get(name);
        if (remove && known === undefined) continue;
        const slot = flows.find(port, 0x1234, low, 0x5678, low, tci);
        if (known !== undefined ? slot !== known : slot < 0 !== model.size >= 24) return false;
        if (slot < 0) continue;
        if (known === undefined && [...model.values()].includes(slot)) return false;
        if (remove) {
          flows.remove(slot);
          model.delete(name);
          if (flows.state[slot] !== FREE) return false;
        } else {
          model.set(name, slot);
        }
      }
      return flows.count === model.size;
    }),
  );
});
