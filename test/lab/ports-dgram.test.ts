/**
 * Datagrams with QEMU: the boot ROM of a card asks for an address, which is a broadcast that must arrive; QEMU ends and
 * is started anew while the switch runs.
 *
 *   QEMU, -netdev dgram ---- guest.sock | switch.sock ---- switch
 */
import t from 'tap';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually } from './harness/processes.js';
import { Dataplane, switchOf } from './harness/weft.js';

const skip = missing({ programs: ['qemu-system-x86_64'] });

await t.test(
  'the boot ROM of a guest is heard, and again after a restart',
  { skip, timeout: 140_000 },
  async t => {
    const lab = Lab.open();
    t.teardown(() => lab.close());
    const plane = await Dataplane.start(lab);
    const [path, peer] = [lab.path('switch.sock'), lab.path('guest.sock')];
    await plane.configure([
      switchOf('lan', [
        { name: 'guest', vlan: { mode: 'access', vlan: 1 }, device: { kind: 'dgram', path, peer } },
      ]),
    ]);
    const port = async () => (await plane.status()).switches[0]!.ports[0]!;
    t.match((await port()).reason, /nobody takes datagrams at/);
    for (let round = 1; round <= 2; round++) {
      const before = (await port()).counters['ifHCInBroadcastPkts']!;
      const guest = lab.start([
        'qemu-system-x86_64',
        '-nodefaults',
        '-display',
        'none',
        '-m',
        '64',
        '-boot',
        'n',
        '-netdev',
        `dgram,id=n0,local.type=unix,local.path=${peer},remote.type=unix,remote.path=${path}`,
        '-device',
        'virtio-net-pci,netdev=n0',
      ]);
      await eventually(
        `the boot ROM to speak; QEMU says: ${guest.stderr}`,
        async () => ((await port()).counters['ifHCInBroadcastPkts']! > before ? true : null),
        { timeout_ms: 60_000, every_ms: 200 },
      );
      t.equal((await port()).state, 'up', `round ${round}`);
      await guest.stop();
    }
    t.equal((await port()).counters['dropBadLength'], 0);
  },
);
t.setTimeout(150_000);
