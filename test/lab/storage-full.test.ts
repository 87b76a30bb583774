/**
 * A pool whose file system is full: the client is told, the pool stays whole, and goes on once there is room.
 *
 *   qemu-io ---unix socket--- weft-storage --- pool on a tmpfs of 32 MiB, its volume of 128 MiB
 */
import t from 'tap';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { eventually, run } from './harness/processes.js';
import { Storage } from './harness/weft.js';

const MIB = 1024 * 1024;
const skip = missing({ root: true, programs: ['qemu-io'] });

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

await t.test('a full pool says so, loses nothing, and recovers', { skip }, async t => {
  const lab = Lab.open();
  t.teardown(() => lab.close());
  const point = await lab.tmpfs(32 * MIB);
  const plane = await Storage.start(lab);
  const pools = [{ name: 'small', directory: `${point}/pool` }];
  await plane.configure({ pools, exports: [] });
  await plane.makeVolume('small', 'v', 128 * MIB);
  const path = lab.path('nbd.sock');
  const exported = { name: 'e', nbdName: 'v', pool: 'small', volume: 'v', readOnly: false };
  await plane.configure({ pools, exports: [{ ...exported, listen: [{ kind: 'unix', path }] }] });
  const qemuIo = async (...commands: string[]) =>
    run(
      [
        'qemu-io',
        '-f',
        'raw',
        ...commands.flatMap(command => ['-c', command]),
        `nbd+unix:///v?socket=${path}`,
      ],
      { mayFail: true },
    );
  // The word travels from the thread that serves to the one that answers for it: a little after the client knows.
  const comesToBe = async (state: string) =>
    eventually(`the volume to be ${state}`, async () => {
      const volume = (await plane.status()).volumes[0];
      return volume?.state === state ? volume : null;
    });

  t.equal((await qemuIo('write -P 0x11 0 8M', 'flush')).status, 0);
  await comesToBe('ok');

  const tooMuch = await qemuIo('write -P 0x22 8M 64M', 'flush');
  t.not(tooMuch.status, 0);
  t.match(tooMuch.stdout + tooMuch.stderr, /No space left on device/);
  t.match((await comesToBe('full')).reason, /full/);

  t.equal(
    (await qemuIo('read -P 0x11 0 8M', 'write -P 0x33 0 1M', 'read -P 0x33 0 1M')).status,
    0,
    'what is there stays',
  );

  await run(['mount', '-o', `remount,size=${128 * MIB}`, point]);
  t.equal(
    (await qemuIo('write -P 0x22 8M 64M', 'flush', 'read -P 0x22 8M 64M')).status,
    0,
    'with room again',
  );
  await comesToBe('ok');

  // What the disk says is what a new process finds.
  await plane.program.stop();
  const again = await Storage.start(lab);
  await again.configure({ pools, exports: [{ ...exported, listen: [{ kind: 'unix', path }] }] });
  t.equal((await qemuIo('read -P 0x33 0 1M', 'read -P 0x11 1M 7M', 'read -P 0x22 8M 64M')).status, 0);
});
