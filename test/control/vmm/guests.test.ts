/**
 * Real guests under a real QEMU:
 *
 *   QemuHost --QMP--> qemu-system (tiny guest) --NBD--> qemu-nbd or nbdkit
 *
 * In one file, one guest after the other: two cores without KVM are what these run on.
 */
import { spawn, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { processUser } from '../../../control/vmm/qemu/process.js';
import { cable, Stage, until, whyNot } from './stage.js';

t.setTimeout(900_000);
const skip = await whyNot();
const isRoot = process.getuid?.() === 0;

await t.test('from start to power-off', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  const seen: string[] = [];
  guests.onChange(name => seen.push(`${name} ${guests.list().find(guest => guest.name === name)?.state}`));
  await guests.adopt();
  t.same(guests.list(), [], 'an empty state directory has no guests');
  t.throws(() => guests.owner('alice'), { code: 'VMM_UNKNOWN' });
  await stage.serveDisk('alice');
  t.match(stage.observed('alice'), { state: 'stopped', ended: null, pid: null });

  await guests.start(stage.plan('alice', 'weft.address=10.0.10.1/24 weft.peers=10.0.10.1'));
  const running = stage.observed('alice');
  t.match(running, { state: 'running', accel: 'tcg', accelReason: 'asked for', qemuStatus: 'running' });
  t.ok(seen.includes('alice starting') && seen.includes('alice running'), seen.join(', '));
  await t.rejects(guests.start(stage.plan('alice')), { code: 'VMM_RUNNING' });
  await t.rejects(guests.forget('alice'), { code: 'VMM_RUNNING' });

  const owner = guests.owner('alice');
  const { directory } = guests.paths('alice');
  if (isRoot) {
    t.equal(processUser(running.pid!), owner?.uid, 'QEMU runs as the user of its own');
    t.equal(fs.statSync(directory).mode & 0o7777, 0o1770);
    await guests.prepare('bob');
    t.not(guests.owner('bob')?.uid, owner?.uid, 'which no other guest shares');
    await guests.forget('bob');
    t.notOk(fs.existsSync(guests.paths('bob').directory));
  } else {
    t.equal(owner, null);
    t.equal(fs.statSync(directory).mode & 0o7777, 0o700);
  }
  t.ok(fs.lstatSync(guests.nicSocket('alice', 0)).isSocket(), 'QEMU listens for the switch');

  const booted = await stage.says('alice', 'boot');
  t.match(await stage.says('alice', 'disk'), { new: true, formatted: true, boots: 1, intact: true });
  t.match(await stage.says('alice', 'ping'), { peer: '10.0.10.1', reached: true });

  await t.test('pause and resume', async t => {
    await guests.pause('alice');
    t.match(stage.observed('alice'), { state: 'paused', qemuStatus: 'paused' });
    await guests.resume('alice');
    t.match(stage.observed('alice'), { state: 'running', reason: null });
  });

  await t.test('the console has room for one', async t => {
    const line = await guests.console('alice');
    let text = '';
    line.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    await t.rejects(guests.console('alice'), {
      code: 'VMM_CONSOLE_BUSY',
      message: /somebody is on the console/,
    });
    line.write('\necho $((6 * 7))-answer\n');
    await until('the shell to answer', () => text.includes('42-answer'));
    line.destroy();
    const outsider = spawn('nc', ['-U', guests.paths('alice').serialSocket], {
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    outsider.on('error', () => {});
    if (spawnSync('which', ['nc']).status === 0) {
      await until('the outsider to be noticed', () => {
        guests.console('alice').then(
          mine => mine.destroy(),
          (error: unknown) => (text = String(error)),
        );
        return text.includes('outside weft');
      });
    }
    outsider.kill();
  });

  await t.test('a reset boots the guest anew in the same QEMU', async t => {
    await guests.reset('alice');
    const again = await stage.says('alice', 'boot', 2);
    t.not(again.id, booted.id);
    t.match(await stage.says('alice', 'disk', 2), { new: false, boots: 2, intact: true });
    t.match(stage.observed('alice'), { pid: running.pid, bootId: running.bootId, state: 'running' });
  });

  await t.test('a graceful stop, also of one that is paused', async t => {
    await guests.pause('alice');
    await guests.stop('alice', 120_000);
    t.match(stage.observed('alice'), { state: 'stopped', ended: 'stopped', reason: null, pid: null });
    await guests.stop('alice', 1);
    await guests.kill('alice');
    t.match(stage.observed('alice'), { ended: 'stopped' }, 'what does not run is left as it is');
    await t.rejects(guests.pause('alice'), { code: 'VMM_NOT_RUNNING' });
    await t.rejects(guests.console('alice'), { code: 'VMM_NOT_RUNNING' });
  });

  await t.test('the next boot finds the data; a power-off from within is known as such', async t => {
    await guests.start(stage.plan('alice'));
    t.match(await stage.says('alice', 'disk'), { new: false, boots: 3, intact: true });
    const now = stage.observed('alice');
    t.not(now.bootId, running.bootId);
    const line = await guests.console('alice');
    line.resume();
    line.write('\npoweroff\n');
    t.match(await stage.reaches('alice', 'off', guest => guest.state === 'stopped'), {
      ended: 'guest-poweroff',
      reason: 'the guest powered off',
    });
    await until('the console to end with it', () => line.destroyed);
    await guests.forget('alice');
    t.same(guests.list(), []);
    t.notOk(fs.existsSync(directory));
  });
});

await t.test('ends that nobody asked for', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  await guests.start(stage.plan('carol', '', { disk: false }));
  const { pid } = stage.observed('carol');

  await t.test('QEMU is killed', async t => {
    process.kill(pid!, 'SIGKILL');
    const killed_ms = Date.now();
    const crashed = await stage.reaches('carol', 'crashed', guest => guest.state === 'crashed');
    t.comment(`noticed within ${Date.now() - killed_ms} ms`);
    t.match(crashed, { ended: 'crashed', reason: /QEMU was ended by SIGKILL/, pid: null });
  });

  await t.test('the kernel of the guest panics', async t => {
    await guests.start(stage.plan('carol', '', { disk: false }));
    await stage.says('carol', 'boot');
    const line = await guests.console('carol');
    line.write('\necho c > /proc/sysrq-trigger\n');
    const crashed = await stage.reaches('carol', 'crashed', guest => guest.state === 'crashed');
    t.match(crashed, { ended: 'crashed', reason: /the guest's kernel panicked/ });
  });

  await t.test('a guest that does not react to the power button is left running; kill ends it', async t => {
    await guests.start(stage.plan('carol', '', { disk: false }));
    await t.rejects(guests.stop('carol', 0), {
      code: 'VMM_STOP_TIMEOUT',
      message: /weft machine kill carol/,
    });
    t.match(stage.observed('carol'), { state: 'running', reason: /did not react/ });
    await guests.kill('carol');
    t.match(stage.observed('carol'), { state: 'stopped', ended: 'killed' });
  });
});

await t.test('starts that cannot be', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  const plan = stage.plan('dave', '', { disk: false });
  const missing = { ...plan, kernel: { ...plan.kernel!, initrd: '/no/such/initrd' } };
  await t.rejects(guests.start(missing), {
    code: 'VMM_BAD_PLAN',
    message: /\/no\/such\/initrd is not a file/,
  });
  t.match(stage.observed('dave'), { state: 'stopped', ended: null });
  const huge = { ...plan, memory_bytes: 2 ** 50 };
  await t.rejects(guests.start(huge), {
    code: 'VMM_START_FAILED',
    message: /did not start: QEMU ended .*memory/i,
  });
  t.match(stage.observed('dave'), { state: 'crashed', ended: 'crashed', reason: /memory/i });
  if (isRoot) {
    fs.chmodSync(stage.images.initrd, 0o600);
    await t.rejects(guests.start(plan), {
      code: 'VMM_START_FAILED',
      message: /must be open to others/,
    });
    fs.chmodSync(stage.images.initrd, 0o644);
  }
  await guests.start(plan);
  t.match(stage.observed('dave'), { state: 'running', ended: null, reason: null }, 'a mended plan starts');
  await t.rejects(guests.start({ ...plan, name: 'erin', nics: [{ ...plan.nics[0]!, mac: 'x' }] }), {
    code: 'VMM_BAD_PLAN',
  });
  await t.rejects(guests.reset('nobody'), { code: 'VMM_UNKNOWN' });
});

await t.test('silence', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  const server = await stage.serveDisk('frank');
  await guests.start(stage.plan('frank', 'weft.work=disk'));
  await guests.start(stage.plan('grace', '', { disk: false }));
  const { pid } = stage.observed('frank');

  await t.test('a QEMU that was stopped by a signal is unresponsive, and comes back', async t => {
    process.kill(pid!, 'SIGSTOP');
    const silent = await stage.reaches('frank', 'unresponsive', guest => guest.state === 'unresponsive');
    t.match(silent, { reason: new RegExp(`process ${pid}.*kill -CONT ${pid}`), pid });
    await guests.pause('grace');
    await guests.resume('grace');
    t.match(stage.observed('grace'), { state: 'running' }, 'others are not held up');
    process.kill(pid!, 'SIGCONT');
    t.match(await stage.reaches('frank', 'back', guest => guest.state === 'running'), { reason: null, pid });
  });

  await t.test(
    'while a disk is away the guest waits; a pause then silences QEMU until it is back',
    async t => {
      await stage.says('frank', 'written', 3);
      await server.kill();
      const before = stage.said('frank', 'written').length;
      await t.rejects(guests.pause('frank'), { code: 'VMM_UNRESPONSIVE', message: /main loop stands still/ });
      t.match(stage.observed('frank'), { state: 'unresponsive', reason: /main loop stands still.*disk/ });
      await server.start();
      t.match(await stage.reaches('frank', 'paused', guest => guest.state === 'paused'), {
        reason: null,
        pid,
      });
      await guests.resume('frank');
      const written = await stage.says('frank', 'written', before + 3);
      t.ok(written.upto > 0);
      t.same(stage.said('frank', 'write-failed'), [], 'no write failed');
      t.equal(stage.observed('frank').diskErrors, null);
    },
  );

  await t.test('what was acknowledged is found by the next boot after a kill', async t => {
    await guests.kill('frank');
    const upto = stage.said('frank', 'written').at(-1)!.upto;
    await guests.start(stage.plan('frank', 'weft.work=disk'));
    const verified = await stage.says('frank', 'verified');
    t.ok(verified.upto >= upto, `${verified.upto} of ${upto}`);
    t.equal(verified.bad, 0);
  });
});

await t.test('a disk that is not empty is left alone', { skip }, async t => {
  const stage = await Stage.open(t);
  const image = join(stage.state, 'nina.img');
  const before = Buffer.alloc(32 * 2 ** 20);
  before.write('something of the user', 4096);
  fs.writeFileSync(image, before);
  await stage.serveDisk('nina');
  await stage.guests.start(stage.plan('nina', 'weft.work=disk'));
  t.match(await stage.says('nina', 'disk'), {
    formatted: false,
    new: false,
    intact: false,
    error: /left alone/,
  });
  await stage.guests.kill('nina');
  t.ok(fs.readFileSync(image).equals(before));
});

const hasNbdkit = spawnSync('nbdkit', ['--version']).status === 0;

await t.test('a full disk', { skip: skip || (hasNbdkit ? false : 'nbdkit is not installed') }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  const trigger = join(stage.state, 'full');
  await stage.serveDisk('heidi', (socket, image) =>
    [
      'nbdkit',
      '--foreground',
      '--unix',
      socket,
      '--export-name=disk',
      '--filter=error',
      'file',
      image,
    ].concat(['error=ENOSPC', 'error-pwrite-rate=100%', 'error-zero-rate=100%', `error-file=${trigger}`]),
  );
  await guests.start(stage.plan('heidi', 'weft.work=disk'));
  await stage.says('heidi', 'written', 2);
  fs.writeFileSync(trigger, '');
  t.match(await stage.says('heidi', 'write-failed'), { error: /\S/ }, 'the guest is told');
  const told = await stage.reaches('heidi', 'told of', guest => guest.diskErrors !== null);
  t.match(told, { state: 'running', diskErrors: { last: /disk0: a write failed \(ENOSPC/ } });
  fs.rmSync(trigger);
  const count = stage.said('heidi', 'written').length;
  await stage.says('heidi', 'written', count + 2);
  t.pass('and goes on when there is room again');
});

await t.test('two guests and a cable', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  for (const [name, own, peer] of [
    ['kim', '10.0.10.1/24', '10.0.10.2'],
    ['leo', '10.0.10.2/24', '10.0.10.1'],
  ] as const) {
    const plan = stage.plan(name, `weft.work=ping weft.address=${own} weft.peers=${peer}`, { disk: false });
    const mac = name === 'kim' ? '52:54:00:77:65:01' : '52:54:00:77:65:02';
    await guests.start({ ...plan, nics: [{ ...plan.nics[0]!, socketPath: guests.nicSocket(name, 0), mac }] });
  }
  for (const name of ['kim', 'leo'])
    t.match(await stage.says(name, 'ping'), { reached: false, received: 0 }, `${name} reaches nobody yet`);
  const sockets = [guests.nicSocket('kim', 0), guests.nicSocket('leo', 0)] as const;
  const cut = await cable(...sockets);
  for (const name of ['kim', 'leo']) {
    await until(`${name} to reach its peer`, () => stage.said(name, 'ping').some(fact => fact.reached));
    t.equal(stage.said(name, 'ping').filter(fact => fact.reached).length, 1, `${name} says so once`);
  }
  const outages = stage.said('kim', 'outage').length;
  const said = stage.said('kim', 'ping').length;
  cut();
  await until('kim to miss its peer', () =>
    stage
      .said('kim', 'ping')
      .slice(said)
      .some(fact => !fact.reached),
  );
  await cable(...sockets);
  // A guest that is short of CPU may report small ones of its own; ours is the one that it was told apart by:
  // a peer is said to be missed after 2 s without an answer.
  const ours = () =>
    stage
      .said('kim', 'outage')
      .slice(outages)
      .find(fact => fact.silence_ms >= 2000);
  await until('kim to measure the outage', () => ours() !== undefined);
  const outage = ours()!;
  t.match(outage, { peer: '10.0.10.2' });
  t.equal(outage.ms, (outage.lost + 1) * 200, 'measured by what was lost');
});

await t.test('accel: auto', { skip }, async t => {
  const stage = await Stage.open(t);
  const { guests } = stage;
  const plan = { ...stage.plan('mia', '', { disk: false }), accel: 'auto' as const };
  await guests.start(plan);
  const { accel, accelReason } = stage.observed('mia');
  t.match(accelReason, /\/dev\/kvm|KVM/, `${accel}: ${accelReason}`);
  if (accel === 'kvm') t.match(accelReason, /booted under KVM/);
  await stage.says('mia', 'boot');
  t.pass('and with that it boots');
});

await t.test('a manager is killed', { skip }, async t => {
  const stage = await Stage.open(t);
  await stage.serveDisk('ivan');
  const manager = spawn(
    process.execPath,
    [
      fileURLToPath(new URL('manager.js', import.meta.url)),
      stage.state,
      JSON.stringify(stage.plan('ivan', 'weft.work=disk')),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await new Promise(resolve => manager.stdout.once('data', resolve));
  const ended = new Promise(resolve => manager.once('exit', resolve));
  await stage.says('ivan', 'written', 2);
  manager.kill('SIGKILL');
  await ended;

  await t.test('its guest is taken over, and never noticed', async t => {
    const guests = await stage.takeOver();
    const adopted = stage.observed('ivan');
    t.match(adopted, { state: 'running', reason: null, accel: 'tcg', plan: { name: 'ivan' } });
    t.type(adopted.pid, 'number');
    const count = stage.said('ivan', 'written').length;
    await stage.says('ivan', 'written', count + 2);
    t.equal(stage.said('ivan', 'boot').length, 1);
    await guests.pause('ivan');
    t.match(stage.observed('ivan'), { state: 'paused' });
    await stage.takeOver();
    t.match(stage.observed('ivan'), { state: 'paused', bootId: adopted.bootId, pid: adopted.pid });
    await stage.guests.resume('ivan');
  });

  await t.test('also when its pid was never written down', async t => {
    const { pid } = stage.observed('ivan');
    await stage.guests.detach();
    fs.rmSync(join(stage.guests.paths('ivan').directory, 'pid'));
    await stage.takeOver();
    t.match(stage.observed('ivan'), { state: 'running', pid });
  });

  await t.test('a stuck one does not hold the others up, nor weftd', async t => {
    await stage.guests.start(stage.plan('judy', '', { disk: false }));
    const { pid } = stage.observed('ivan');
    process.kill(pid!, 'SIGSTOP');
    await stage.takeOver();
    t.match(stage.observed('judy'), { state: 'running' });
    t.match(stage.observed('ivan'), { state: 'unresponsive', reason: /kill -CONT/, pid });
    process.kill(pid!, 'SIGCONT');
    await stage.reaches('ivan', 'back', guest => guest.state === 'running');
  });

  await t.test('a guest that powered off meanwhile is told from one whose QEMU died', async t => {
    const line = await stage.guests.console('ivan');
    let text = '';
    line.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
    line.write('\n(sleep 3; poweroff) & echo $((40 + 2))-armed\n');
    await until('the shell to take it', () => text.includes('42-armed'));
    const { pid } = stage.observed('judy');
    await stage.guests.detach();
    process.kill(pid!, 'SIGKILL');
    const log = stage.guests.paths('ivan').serialLog;
    await until('ivan to power off', () => fs.readFileSync(log, 'latin1').includes('Power down'));
    await stage.takeOver();
    t.match(await stage.reaches('ivan', 'off', guest => guest.state === 'stopped'), {
      ended: 'guest-poweroff',
      reason: 'the guest powered off',
    });
    t.match(stage.observed('judy'), { state: 'crashed', ended: 'crashed', reason: /while weftd was down/ });
    await stage.takeOver();
    t.match(stage.observed('ivan'), { state: 'stopped', ended: 'guest-poweroff' }, 'and is remembered');
    t.match(stage.observed('judy'), { state: 'crashed', ended: 'crashed' });
  });

  await t.test('another process that got the same number is not touched', async t => {
    const { directory } = stage.guests.paths('judy');
    const bystander = spawn('sleep', ['1000']);
    const record = JSON.parse(fs.readFileSync(join(directory, 'plan.json'), 'utf8')) as object;
    fs.writeFileSync(join(directory, 'plan.json'), JSON.stringify({ ...record, end: null }), { mode: 0o600 });
    const boot = fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    fs.writeFileSync(join(directory, 'pid'), `${bystander.pid} 1 ${boot}\n`);
    await stage.takeOver();
    t.match(stage.observed('judy'), { state: 'crashed' });
    await stage.guests.kill('judy');
    t.equal(bystander.exitCode, null);
    t.ok(bystander.kill(0));
    bystander.kill();
  });
});
