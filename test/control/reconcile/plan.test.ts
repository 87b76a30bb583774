/** The pure plan: desired x observed -> actions and verdicts, one situation after another. */
import t from 'tap';
import { World, guest } from './simulator.js';

function alice(world = new World()): World {
  return world
    .add('switch', 'lan')
    .add('pool', 'main')
    .add('image', 'tiny', { tiny: {} })
    .add('volume', 'data', { pool: 'main', size: '64MiB' })
    .add('machine', 'alice', {
      image: 'tiny',
      disks: [{ volume: 'data' }],
      nics: [{ switch: 'lan', vlan: 10 }],
    });
}

await t.test('from nothing to a running machine, each thing after what it needs', async t => {
  const world = alice();
  world.settle();
  const at = (id: string): number => world.log.indexOf(id);
  t.equal(new Set(world.log).size >= 6, true, world.log.join(', '));
  t.ok(at('configureStorage') < at('putVolume main/data'), 'the pool before the volume');
  t.ok(at('prepareMachine alice') < world.log.lastIndexOf('configureStorage'), 'its place before its disk');
  t.ok(at('putVolume main/data') < world.log.lastIndexOf('configureStorage'), 'the volume before its export');
  t.equal(at('startMachine alice'), world.log.length - 1, 'the machine last');
  t.equal(world.verdict('machine/alice'), 'True Running');
  t.same(world.plan().actions, [], 'what is as it should be plans nothing');
});

await t.test('what a plane is told', async t => {
  const world = alice();
  world.settle();
  const [lan] = world.dataplane.config.switches;
  t.match(lan, { name: 'lan', ageingTime_s: 300, macLimit: 32_768 });
  t.same(lan?.ports, [
    {
      name: 'alice.nic0',
      vlan: { mode: 'access', vlan: 10 },
      device: { kind: 'vhost', path: '/s/run/machines/alice/nic0.sock', role: 'client', queues: 1 },
    },
  ]);
  t.same(world.storage.config.pools, [{ name: 'main', directory: '/s/pools/main', lowSpace_percent: 10 }]);
  t.same(world.storage.config.exports, [
    {
      name: 'machine/alice/disk0',
      nbdName: 'main/data',
      pool: 'main',
      volume: 'data',
      readOnly: false,
      redialWhenGrown: true,
      listen: [{ kind: 'unix', path: '/s/run/machines/alice/disk0.sock', owner: { uid: 7, gid: 7 } }],
    },
  ]);
});

await t.test('switch ports of all kinds become devices, trunks become ranges', async t => {
  const world = new World().add('switch', 'lan', {
    ageing: '20s',
    ports: {
      a: { tap: 'tap0', mtu: 9000, trunk: { allowed: [30, '10-12', 13, 11], native: 5 } },
      b: { stream: { path: '/x', role: 'listen' }, vlan: 7 },
      c: { loopback: true },
      d: { pcap: '/y.pcapng', faults: { drop_ppm: 5 } },
    },
  });
  world.settle();
  t.same(world.dataplane.config.switches, [
    {
      name: 'lan',
      ageingTime_s: 20,
      macLimit: 32_768,
      ports: [
        {
          name: 'a',
          vlan: {
            mode: 'trunk',
            allowed: [
              [10, 13],
              [30, 30],
            ],
            native: 5,
          },
          device: { kind: 'tap', ifname: 'tap0', mtu_bytes: 9000 },
        },
        {
          name: 'b',
          vlan: { mode: 'access', vlan: 7 },
          device: { kind: 'stream', path: '/x', role: 'listen' },
        },
        { name: 'c', vlan: { mode: 'access', vlan: 1 }, device: { kind: 'loopback' } },
        {
          name: 'd',
          vlan: { mode: 'access', vlan: 1 },
          device: { kind: 'pcap', path: '/y.pcapng' },
          faults: { seed: 1, drop_ppm: 5, corrupt_ppm: 0, duplicate_ppm: 0 },
        },
      ],
    },
  ]);
});

await t.test('a plane that is away: its resources are unknown, nothing is done to the others', async t => {
  const world = alice();
  world.settle();
  world.storage.up = false;
  world.add('volume', 'more', { pool: 'main', size: '64MiB' });
  t.same(world.plan().actions, []);
  t.equal(world.verdict('pool/main'), 'Unknown PlaneDown');
  t.equal(world.verdict('volume/more'), 'Unknown PlaneDown');
  t.equal(
    world.verdict('machine/alice'),
    'True Running',
    'the guest waits for its disk and is none the wiser',
  );
  t.equal(world.verdict('switch/lan'), 'True Forwarding');
});

await t.test(
  'a plane that starts empty is told of the disks of running guests before it shows their volumes',
  async t => {
    const world = alice();
    world.settle();
    const before = world.storage.config;
    world.storage.config = { generation: -1, pools: [], exports: [] };
    const [told] = world.plan().actions;
    t.match(told?.action, { type: 'configureStorage' });
    t.same(told?.action.type === 'configureStorage' && told.action.config, before);
  },
);

await t.test('a failure holds back what depends on it, and nothing else', async t => {
  const world = alice();
  world.add('machine', 'bob', { image: 'tiny' });
  world.failing.set('putVolume main/data', 'no space left');
  world.settle();
  t.equal(world.verdict('volume/data'), 'False CreateFailed');
  t.match(world.message('volume/data'), /no space left \(failed 1 time; tried again in 1 s\)/);
  t.equal(world.verdict('machine/alice'), 'False DependencyNotReady');
  t.match(world.message('machine/alice'), /waits for volume "data": no space left/);
  t.equal(world.verdict('machine/bob'), 'True Running');
  world.failing.clear();
  world.settle();
  t.equal(world.verdict('machine/alice'), 'True Running');
});

await t.test('failures are spaced out, and forgotten with the next generation', async t => {
  const world = new World().add('image', 'k', { kernel: '/k' }).add('machine', 'm', { image: 'k' });
  world.failing.set('startMachine m', 'QEMU is not there');
  const waits: number[] = [];
  for (let i = 0; i < 8; i++) {
    const { wakeAt_ms } = world.settle();
    waits.push((wakeAt_ms ?? 0) - world.now_ms);
    world.now_ms = wakeAt_ms ?? 0;
  }
  t.same(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  t.match(world.plan().reports.get('machine/m'), {
    ready: { reason: 'StartFailed', message: /failed 8 times; being tried again/ },
    lastError: 'QEMU is not there',
  });
  world.settle();
  world.add('machine', 'm', { image: 'k', memory: '64MiB' });
  t.match(world.plan().actions, [{ id: 'startMachine m' }], 'at once after a change');
});

await t.test('volumes grow, and never shrink', async t => {
  const world = new World().add('pool', 'main').add('volume', 'v', { pool: 'main', size: '1GiB' });
  world.settle();
  world.add('volume', 'v', { pool: 'main', size: '2GiB' });
  t.equal(world.verdict('volume/v'), 'False Growing');
  world.settle();
  t.equal(world.volumes.get('main/v')?.size_bytes, 2 ** 31);
  world.add('volume', 'v', { pool: 'main', size: '1GiB' });
  t.same(world.plan().actions, []);
  t.equal(world.verdict('volume/v'), 'False ShrinkRefused');
});

await t.test('a guest is told that its disk has grown, one by vhost-user finds out by itself', async t => {
  const world = new World()
    .add('pool', 'main')
    .add('image', 'k', { kernel: '/k' })
    .add('volume', 'v', { pool: 'main', size: '1GiB' })
    .add('volume', 'w', { pool: 'main', size: '1GiB' })
    .add('machine', 'm', { image: 'k', disks: [{ volume: 'v' }, { volume: 'w', attach: 'vhost-user' }] });
  world.settle();
  const seen = (): readonly (number | null)[] => world.guests.get('m')!.diskSizes_bytes;
  t.same(seen(), [2 ** 30, null]);
  t.same(
    world.storage.config.exports.map(one => one.redialWhenGrown ?? false),
    [true, false],
  );
  for (const name of ['v', 'w']) world.add('volume', name, { pool: 'main', size: '2GiB' });
  world.failing.set('growDisks m', 'Cannot grow NBD nodes');
  world.settle();
  t.same(seen(), [2 ** 30, null]);
  t.equal(world.verdict('machine/m'), 'True Running');
  t.match(world.plan().reports.get('machine/m')?.lastError, /has grown: Cannot grow NBD nodes/);
  world.failing.clear();
  world.now_ms += 60_000;
  world.settle();
  t.same(seen(), [2 ** 31, null]);
  t.equal(world.plan().reports.get('machine/m')?.lastError, null);
});

await t.test('a volume is filled once, before anybody sees it', async t => {
  const world = new World()
    .add('pool', 'main')
    .add('image', 'deb', { disk: '/deb.qcow2' })
    .add('volume', 'root', { pool: 'main', size: '1GiB', image: 'deb' })
    .add('export', 'root', { volume: 'root' })
    .add('machine', 'm', { disks: [{ volume: 'root' }] });
  world.failing.set('fillVolume main/root', 'broke off');
  world.settle();
  t.equal(world.verdict('volume/root'), 'False FillFailed');
  t.same(
    world.storage.config.exports.map(one => one.name),
    ['fill/root'],
  );
  t.equal(world.verdict('export/root'), 'False DependencyNotReady');
  world.failing.clear();
  world.settle();
  t.equal(world.volumes.get('main/root')?.content, 'deb');
  t.same(
    world.storage.config.exports.map(one => one.name),
    ['export/root', 'machine/m/disk0'],
  );
  t.equal(world.log.filter(id => id.startsWith('fillVolume')).length, 2);
});

await t.test('half filled when weftd died: filled from the start again', async t => {
  const world = new World()
    .add('pool', 'main')
    .add('image', 'deb', { disk: '/deb.qcow2' })
    .add('volume', 'root', { pool: 'main', size: '1GiB', image: 'deb' });
  world.volumes.set('main/root', { size_bytes: 2 ** 30, content: 'a part of deb' });
  world.facts.set('fill/main/root', { state: 'filling', image: 'deb' });
  world.settle();
  t.equal(world.volumes.get('main/root')?.content, 'deb');
});

await t.test('data that was kept is never written over', async t => {
  const world = new World()
    .add('pool', 'main')
    .add('image', 'deb', { disk: '/deb.qcow2' })
    .add('volume', 'root', { pool: 'main', size: '1GiB', image: 'deb' });
  world.volumes.set('main/root', { size_bytes: 2 ** 30, content: 'precious' });
  world.settle();
  t.equal(world.volumes.get('main/root')?.content, 'precious');
  t.equal(world.verdict('volume/root'), 'True Available');
});

await t.test('an image larger than its volume is said before anything is made', async t => {
  const world = new World()
    .add('pool', 'main')
    .add('image', 'deb', { disk: '/deb.qcow2' })
    .add('volume', 'root', { pool: 'main', size: '512KiB', image: 'deb' });
  world.settle();
  t.equal(world.verdict('volume/root'), 'False TooSmall');
  t.equal(world.volumes.size, 0);
});

await t.test('a running guest is not restarted for a new spec', async t => {
  const world = alice();
  world.settle();
  world.add('machine', 'alice', {
    image: 'tiny',
    cpus: 2,
    memory: '512MiB',
    disks: [],
    nics: [{ switch: 'lan', vlan: 20 }],
  });
  world.settle();
  const report = world.plan().reports.get('machine/alice');
  t.equal(report?.ready.reason, 'Running');
  t.equal(report?.restartRequired?.status, 'True');
  t.match(
    report?.restartRequired?.message,
    /cpus 1 -> 2; memory 256MiB -> 512MiB; disk 0 main\/data -> none/,
  );
  t.equal(world.boots, 1);
  t.same(
    world.storage.config.exports.map(one => one.name),
    ['machine/alice/disk0'],
    'it keeps the disk that it was booted with',
  );
  t.match(world.dataplane.config.switches[0]?.ports[0]?.vlan, { vlan: 20 }, 'its card is moved at once');
});

await t.test('a card stays what its guest was booted with, until the next start', async t => {
  const world = alice();
  world.settle();
  const kind = () => world.dataplane.config.switches[0]?.ports[0]?.device.kind;
  t.equal(kind(), 'vhost', 'by default');
  world.add('machine', 'alice', {
    image: 'tiny',
    disks: [{ volume: 'data' }],
    nics: [{ switch: 'lan', vlan: 10, transport: 'stream' }],
  });
  world.settle();
  t.equal(kind(), 'vhost');
  t.match(
    world.plan().reports.get('machine/alice')?.restartRequired?.message,
    /nic 0 \S+ \(vhost\) -> \S+ \(stream\)/,
  );
  // Its QEMU ends; the policy starts it again.
  const running = world.guests.get('alice')!;
  world.guests.set('alice', { ...running, state: 'crashed', ended: 'crashed' });
  world.settle();
  t.equal(world.boots, 2);
  t.equal(kind(), 'stream');
});

await t.test('a disk exchanged in the spec is exchanged at the next start, not before', async t => {
  const world = alice().add('volume', 'other', { pool: 'main', size: '64MiB' });
  world.settle();
  world.add('machine', 'alice', { image: 'tiny', disks: [{ volume: 'other' }] });
  world.settle();
  t.match(world.storage.config.exports, [{ name: 'machine/alice/disk0', volume: 'data' }]);
  world.facts.set('machine/alice', { intent: 'stopped' });
  world.settle();
  t.same(world.storage.config.exports, []);
  world.facts.delete('machine/alice');
  world.settle();
  t.match(world.storage.config.exports, [
    { name: 'machine/alice/disk0', volume: 'other', nbdName: 'main/other' },
  ]);
  t.equal(world.plan().reports.get('machine/alice')?.restartRequired?.status, 'False');
});

await t.test('while a guest is being started, its disks are those of the spec', async t => {
  const world = alice();
  world.settle();
  // Stopped with an old plan on record, and being started again.
  world.guests.set('alice', { ...world.guests.get('alice')!, state: 'starting' });
  world.add('volume', 'other', { pool: 'main', size: '64MiB' });
  world.add('machine', 'alice', { image: 'tiny', disks: [{ volume: 'other' }] });
  world.attempts.begin('startMachine alice');
  world.settle();
  t.match(world.storage.config.exports, [{ volume: 'other' }]);
});

await t.test('restart policies', async t => {
  const start = (restart: string): World => {
    const world = new World()
      .add('image', 'k', { kernel: '/k' })
      .add('machine', 'm', { image: 'k', restart });
    world.settle();
    return world;
  };
  const end = (world: World, ended: 'guest-poweroff' | 'crashed'): void => {
    const state = ended === 'crashed' ? 'crashed' : 'stopped';
    world.guests.set('m', { ...world.guests.get('m')!, state, ended, reason: ended });
    world.settle();
  };
  for (const [restart, ended, boots, verdict] of [
    ['always', 'guest-poweroff', 2, 'True Running'],
    ['always', 'crashed', 2, 'True Running'],
    ['on-failure', 'guest-poweroff', 1, 'False PoweredOff'],
    ['on-failure', 'crashed', 2, 'True Running'],
    ['never', 'guest-poweroff', 1, 'False PoweredOff'],
    ['never', 'crashed', 1, 'False Crashed'],
  ] as const) {
    const world = start(restart);
    end(world, ended);
    t.equal(world.boots, boots, `${restart}, ${ended}`);
    t.equal(world.verdict('machine/m'), verdict, `${restart}, ${ended}`);
    // The next weftd finds no trace of how it ended.
    world.guests.set('m', guest('m'));
    if (boots === 1) {
      world.settle();
      t.equal(world.boots, 1, `${restart}, ${ended}: remembered`);
    }
  }
});

await t.test('weft machine start answers an end', async t => {
  const world = new World().add('image', 'k', { kernel: '/k' }).add('machine', 'm', { image: 'k' });
  world.settle();
  world.guests.set('m', { ...world.guests.get('m')!, state: 'stopped', ended: 'guest-poweroff' });
  world.settle();
  t.same(world.facts.get('machine/m'), { halted: 'poweroff' });
  world.facts.set('machine/m', { dismissed: 'boot1' });
  world.settle();
  t.equal(world.boots, 2);
});

await t.test('a start that fails is tried again, whatever the restart policy', async t => {
  const world = new World()
    .add('image', 'k', { kernel: '/k' })
    .add('machine', 'm', { image: 'k', restart: 'never' });
  world.guests.set('m', guest('m', { state: 'crashed', ended: 'crashed', bootId: 'b', reason: 'no KVM' }));
  world.failedBoots.set('m', 'b');
  world.settle();
  t.equal(world.boots, 1);
});

await t.test('running: false, and the words of weft machine start and stop', async t => {
  const world = new World()
    .add('image', 'k', { kernel: '/k' })
    .add('machine', 'm', { image: 'k', running: false });
  world.settle();
  t.equal(world.boots, 0);
  t.equal(world.verdict('machine/m'), 'True Stopped');
  world.facts.set('machine/m', { intent: 'started' });
  world.settle();
  t.equal(world.boots, 1);
  world.facts.set('machine/m', { intent: 'stopped' });
  world.settle();
  t.equal(world.verdict('machine/m'), 'True Stopped');
});

await t.test('a guest that does not power off is reported, not killed', async t => {
  const world = new World().add('image', 'k', { kernel: '/k' }).add('machine', 'm', { image: 'k' });
  world.settle();
  world.add('machine', 'm', { image: 'k', running: false });
  world.failing.set('stopMachine m', 'did not power off within 60000 ms');
  world.settle();
  world.now_ms += 600_000;
  world.settle();
  t.notOk(world.log.includes('killMachine m'));
  t.equal(world.verdict('machine/m'), 'False StopTimeout');
  t.match(world.message('machine/m'), /weft machine kill m/);
});

await t.test(
  'a machine that is deleted is asked, then killed, then forgotten; its volume after it',
  async t => {
    const world = alice();
    world.settle();
    world.log.length = 0;
    world.bury('machine/alice').bury('volume/data', true).bury('pool/main').bury('switch/lan');
    world.failing.set('stopMachine alice', 'deaf');
    world.settle();
    t.ok(world.guests.has('alice') || world.log.includes('killMachine alice'));
    world.failing.clear();
    world.settle();
    t.same(world.tombstones.size, 0);
    const order = [
      'stopMachine alice',
      'killMachine alice',
      'forgetMachine alice',
      'unbury machine/alice',
      'destroyVolume main/data',
      'unbury volume/data',
      'unbury pool/main',
    ].map(id => world.log.indexOf(id));
    t.ok(
      order.every(index => index >= 0),
      world.log.join(', '),
    );
    t.same(
      order,
      [...order].sort((a, b) => a - b),
      world.log.join(', '),
    );
    t.equal(world.volumes.size, 0);
    t.same(world.storage.config.pools, []);
  },
);

await t.test('while a deleted machine powers off, its disks and networks are still there', async t => {
  const world = alice();
  world.settle();
  world.bury('machine/alice').bury('volume/data').bury('pool/main').bury('switch/lan');
  world.attempts.begin('stopMachine alice');
  world.settle();
  t.match(world.storage.config.exports, [{ name: 'machine/alice/disk0' }]);
  t.match(world.storage.config.pools, [{ name: 'main' }]);
  t.match(world.dataplane.config.switches, [{ ports: [{ name: 'alice.nic0' }] }]);
});

await t.test('deleting a volume keeps its data unless it was said otherwise', async t => {
  const world = new World().add('pool', 'main').add('volume', 'v', { pool: 'main', size: '1GiB' });
  world.settle();
  world.bury('volume/v');
  world.settle();
  t.equal(world.tombstones.size, 0);
  t.equal(world.volumes.size, 1);
});

await t.test('a name used again waits until its predecessor is gone', async t => {
  const world = alice();
  world.settle();
  world.volumes.get('main/data')!.content = 'old';
  world.bury('machine/alice').bury('volume/data', true);
  alice(world);
  t.equal(world.verdict('volume/data'), 'False Deleting');
  world.settle();
  t.equal(world.volumes.get('main/data')?.content, 'empty');
  t.equal(world.boots, 2);
  t.equal(world.verdict('machine/alice'), 'True Running');
});

await t.test('a store that was lost takes nothing away', async t => {
  const world = alice();
  world.settle();
  const { dataplane, storage } = world;
  world.resources.clear();
  world.revision = 0;
  world.settle();
  t.equal(world.dataplane, dataplane);
  t.equal(world.storage, storage);
  t.same(world.plan().actions, []);
});

await t.test('a switch that is deleted while a guest on it powers off gives its own ports away', async t => {
  const world = alice();
  world.add('switch', 'lan', { ports: { up: { tap: 'tap0' } } });
  world.settle();
  world.bury('machine/alice').bury('switch/lan');
  world.add('switch', 'wan', { ports: { up: { tap: 'tap0' } } });
  world.attempts.begin('stopMachine alice');
  world.settle();
  t.match(world.dataplane.config.switches, [
    { name: 'wan', ports: [{ name: 'up' }] },
    { name: 'lan', ports: [{ name: 'alice.nic0' }] },
  ]);
  t.equal(world.dataplane.config.switches[1]?.ports.length, 1);
});

await t.test('a plane that refuses its configuration says so on the resources', async t => {
  const world = new World().add('switch', 'lan');
  world.failing.set('configureDataplane', 'no');
  world.settle();
  t.equal(world.verdict('switch/lan'), 'False ApplyFailed');
  t.equal(world.message('switch/lan'), 'weft-dataplane does not take its configuration: no');
});
