import t from 'tap';
import {
  chooseAccel,
  judgeKvmDevice,
  parseCpuinfo,
  probeKey,
  sawKernelGiveUp,
} from '../../../../control/vmm/accel/choose.js';

const GUEST = { uid: 1_900_000_000, groups: [], mayHaveGroups: true };
const usable = { present: true, usable: true, group: null, reason: null };
const unusable = { present: false, usable: false, group: null, reason: 'there is no /dev/kvm' };

await t.test('auto trusts KVM only after it was seen to work', async t => {
  t.equal(chooseAccel('auto', usable, null), 'probe');
  t.match(chooseAccel('auto', usable, { works: true, reason: 'booted' }), { accel: 'kvm', reason: 'booted' });
  t.match(chooseAccel('auto', usable, { works: false, reason: 'hung' }), { accel: 'tcg', reason: 'hung' });
  t.match(chooseAccel('auto', unusable, null), { accel: 'tcg', reason: 'there is no /dev/kvm' });
  t.match(chooseAccel('auto', unusable, { works: true, reason: '' }), { accel: 'tcg' }, 'nor a memory of it');
});

await t.test('what is asked for is given, or refused', async t => {
  t.match(chooseAccel('tcg', usable, { works: true, reason: '' }), { accel: 'tcg', reason: 'asked for' });
  t.match(chooseAccel('kvm', usable, { works: false, reason: '' }), { accel: 'kvm', reason: 'asked for' });
  t.match(chooseAccel('kvm', unusable, null), { refused: 'there is no /dev/kvm' });
});

await t.test('who may open /dev/kvm', async t => {
  const kvm = { uid: 0, gid: 106, mode: 0o20660 };
  t.match(judgeKvmDevice(kvm, GUEST), { usable: true, group: 106 }, 'with its group');
  t.match(judgeKvmDevice(kvm, { ...GUEST, mayHaveGroups: false }), { usable: false });
  t.match(judgeKvmDevice({ ...kvm, mode: 0o20666 }, GUEST), { usable: true, group: null }, 'as anybody');
  t.match(
    judgeKvmDevice({ uid: 0, gid: 0, mode: 0o20600 }, GUEST),
    { usable: false, reason: /user 1900000000, as whom guests run, may not open \/dev\/kvm \(mode 0600/ },
    'as on a machine that keeps it to root',
  );
  t.match(
    judgeKvmDevice({ uid: 0, gid: 0, mode: 0o20660 }, GUEST),
    { usable: false },
    'never by the group root',
  );
  t.match(judgeKvmDevice(null, GUEST), { present: false, usable: false, reason: /no \/dev\/kvm/ });
  const user = { uid: 1000, groups: [1000, 106], mayHaveGroups: false };
  t.match(judgeKvmDevice(kvm, user), { usable: true, group: null });
  t.match(judgeKvmDevice(kvm, { ...user, groups: [1000] }), { usable: false });
  t.match(
    judgeKvmDevice({ ...kvm, mode: 0o20606 }, user),
    { usable: false },
    'the group comes before the others',
  );
  t.match(judgeKvmDevice(kvm, { ...user, uid: 0 }), { usable: true });
});

await t.test('what the answer depends on', async t => {
  const host = { kernelRelease: '6.1', cpuModel: 'X', qemuVersion: '7.2.22' };
  t.equal(probeKey(host), probeKey({ ...host }));
  for (const change of [{ kernelRelease: '6.2' }, { cpuModel: 'Y' }, { qemuVersion: '8.0' }])
    t.not(probeKey({ ...host, ...change }), probeKey(host));
  t.same(parseCpuinfo('model name\t: AMD EPYC\nflags\t\t: fpu hypervisor sse\n'), {
    model: 'AMD EPYC',
    isGuest: true,
  });
  t.same(parseCpuinfo('CPU implementer\t: 0x41\n'), { model: '0x41', isGuest: false });
});

await t.test('a kernel that got as far as a kernel gets', async t => {
  t.ok(
    sawKernelGiveUp(
      '[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)',
    ),
  );
  t.notOk(sawKernelGiveUp('[    0.1] Kernel panic - not syncing: Attempted to kill the idle task!'));
  t.notOk(sawKernelGiveUp(''));
});
