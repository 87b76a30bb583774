/** The double behaves as the README says that the real one does. */
import t from 'tap';
import { GuestHostDouble } from '../../../control/vmm/double.js';
import { VmmError } from '../../../control/vmm/errors.js';
import type { BootPlan } from '../../../control/vmm/host.js';

const plan: BootPlan = {
  name: 'alice',
  cpus: 1,
  memory_bytes: 2 ** 27,
  accel: 'auto',
  kernel: null,
  disks: [],
  nics: [],
};

await t.test('a life', async t => {
  const guests = new GuestHostDouble();
  const changes: string[] = [];
  const silence = guests.onChange(name => changes.push(`${name} ${guests.list()[0]?.state}`));
  t.throws(() => guests.owner('alice'), { code: 'VMM_UNKNOWN' });
  await guests.prepare('alice');
  t.equal(guests.owner('alice'), null);
  await guests.start(plan);
  await t.rejects(guests.start(plan), { code: 'VMM_RUNNING' });
  await t.rejects(guests.forget('alice'), { code: 'VMM_RUNNING' });
  await guests.pause('alice');
  await guests.resume('alice');
  guests.silence('alice');
  guests.recover('alice');
  guests.deaf.add('alice');
  await t.rejects(guests.stop('alice', 5), { code: 'VMM_STOP_TIMEOUT' });
  const line = await guests.console('alice');
  await t.rejects(guests.console('alice'), { code: 'VMM_CONSOLE_BUSY' });
  line.destroy();
  const next = GuestHostDouble.after(guests);
  t.same(next.list(), []);
  await next.adopt();
  t.match(next.list(), [{ name: 'alice', state: 'running', bootId: 'boot-1' }]);
  await guests.kill('alice');
  t.match(guests.list(), [{ state: 'stopped', ended: 'killed', pid: null, bootId: 'boot-1' }]);
  await t.rejects(guests.pause('alice'), { code: 'VMM_NOT_RUNNING' });
  await guests.start(plan);
  t.match(guests.list(), [{ state: 'running', ended: null, bootId: 'boot-2' }]);
  guests.crash('alice', 'bang');
  t.match(guests.list(), [{ state: 'crashed', ended: 'crashed', reason: 'bang' }]);
  guests.failNext('start', new VmmError('VMM_START_FAILED', 'no'));
  await t.rejects(guests.start(plan), { code: 'VMM_START_FAILED' });
  await guests.start(plan);
  guests.powerOff('alice');
  t.match(guests.list(), [{ state: 'stopped', ended: 'guest-poweroff' }]);
  await guests.forget('alice');
  t.same(guests.list(), []);
  t.ok(changes.includes('alice unresponsive'));
  silence();
});
