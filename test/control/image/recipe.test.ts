import fc from 'fast-check';
import t from 'tap';
import { initrdEntries, loadOrder, tinyCmdline } from '../../../control/image/recipe.js';

const modules: Record<string, { depends: string[]; softPre: string[] }> = {
  virtio: { depends: ['virtio_ring'], softPre: [] },
  virtio_ring: { depends: [], softPre: [] },
  virtio_net: { depends: ['net_failover', 'virtio'], softPre: [] },
  net_failover: { depends: ['failover'], softPre: [] },
  failover: { depends: [], softPre: [] },
  ext4: { depends: ['jbd2', 'crc16'], softPre: ['crc32c'] },
  jbd2: { depends: [], softPre: [] },
  crc32c: { depends: [], softPre: [] },
};

await t.test('each module after what it depends on, what is built in left out', async t => {
  t.same(
    loadOrder(['virtio_net', 'ext4', 'button'], name => modules[name]),
    ['failover', 'net_failover', 'virtio_ring', 'virtio', 'virtio_net', 'crc32c', 'jbd2', 'ext4'],
  );
  t.same(loadOrder(['virtio-net'], name => modules[name]).at(-1), 'virtio_net', 'either spelling');
});

await t.test('whatever the dependencies: every module once, before those that need it', async t => {
  const graph = fc.array(fc.array(fc.nat(9), { maxLength: 4 }), { minLength: 10, maxLength: 10 });
  fc.assert(
    fc.property(graph, needs => {
      // Only to smaller numbers: no circle.
      const info = (name: string) => {
        const depends = needs[Number(name)]?.filter(other => other < Number(name)).map(String) ?? [];
        return { depends, softPre: [] };
      };
      const order = loadOrder(['9', '3', '7'], info);
      t.equal(new Set(order).size, order.length);
      for (const name of order)
        for (const other of info(name).depends) t.ok(order.indexOf(other) < order.indexOf(name));
    }),
  );
  const circle = (name: string) => ({ depends: [name === 'a' ? 'b' : 'a'], softPre: [] });
  t.same(loadOrder(['a'], circle).toSorted(), ['a', 'b'], 'a circle ends');
});

await t.test('the initrd', async t => {
  const bytes = new TextEncoder().encode('x');
  const entries = initrdEntries({
    busybox: bytes,
    applets: ['[', 'sh', 'busybox', 'bad/name', '../up'],
    modules: [{ name: 'ext4', bytes }],
    scripts: new Map([
      ['init.sh', bytes],
      ['ping.sh', bytes],
      ['power.sh', bytes],
    ]),
    version: '1',
  });
  const find = (path: string) => entries.find(entry => entry.path === path);
  t.equal(find('init')?.mode, 0o100755);
  t.ok(find('weft/ping.sh'));
  t.ok(find('etc/acpi/PWRF/00000080'), 'where acpid looks');
  t.equal(find('bin/busybox')?.mode, 0o100755);
  t.equal(find('bin/[')?.mode, 0o120777);
  t.equal(new TextDecoder().decode(find('bin/sh')?.data), 'busybox');
  t.notOk(entries.some(entry => entry.path.includes('..') || entry.path === 'bin/bad/name'));
  t.equal(new TextDecoder().decode(find('weft/modules')?.data), 'ext4.ko\n');
  t.match(find('dev/console'), { mode: 0o020600, rdevMajor: 5, rdevMinor: 1 });
  for (const [index, entry] of entries.entries()) {
    const parent = entry.path.slice(0, Math.max(entry.path.lastIndexOf('/'), 0));
    if (parent !== '')
      t.ok(entries.findIndex(other => other.path === parent) < index, `${entry.path} has a folder`);
  }
  t.equal(new Set(entries.map(entry => entry.path)).size, entries.length);
});

await t.test('the console has another name on arm64', async t => {
  t.match(tinyCmdline('x64'), /^console=ttyS0 /);
  t.match(tinyCmdline('arm64'), /^console=ttyAMA0 /);
});
