/**
 * The lab's own house: what it makes goes away, whatever happens to the test that made it.
 *
 *   this test --spawns--> a small program with a Lab: namespace "n", `sleep` inside, directory
 *
 * lab: alone (it looks at all that labs leave).
 */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { Lab } from './harness/lab.js';
import { missing } from './harness/needs.js';
import { isRunning } from './harness/owner.js';
import { RunningProgram, eventually } from './harness/processes.js';

const HARNESS = join(dirname(fileURLToPath(import.meta.url)), 'harness');

/** Opens a lab, tells where it is, then does what `ending` says. */
const program = (ending: string): string[] => [
  process.execPath,
  '--input-type=module',
  '--eval',
  `import { Lab } from '${HARNESS}/lab.js';
   const lab = Lab.open();
   const n = await lab.namespace('n');
   const sleeper = n.start(['sleep', '1000']);
   console.log(JSON.stringify({ directory: lab.directory, netns: n.path, pid: sleeper.pid }));
   ${ending}`,
];

interface Made {
  directory: string;
  netns: string;
  pid: number;
}

async function made(running: RunningProgram): Promise<Made> {
  return running.waitForOutput(stdout => (stdout.includes('\n') ? (JSON.parse(stdout) as Made) : null));
}

const isGone = (what: Made): boolean =>
  !existsSync(what.directory) && !existsSync(what.netns) && !isRunning(what.pid);

const skip = missing({ root: true, programs: ['ip', 'nsenter'] });

// Each part has an end of its own; on a busy machine they are far apart.
t.setTimeout(600_000);

for (const [how, ending, signal, status] of [
  ['at the end of the program', 'process.exit(0)', null, 0],
  ['on an exception that nobody caught', 'throw new Error("planned")', null, 1],
  ['on Ctrl-C', 'setInterval(() => {}, 1000)', 'SIGINT', 130],
  ['on SIGTERM', 'setInterval(() => {}, 1000)', 'SIGTERM', 143],
] as const) {
  await t.test(`a lab is removed ${how}`, { skip }, async t => {
    const running = new RunningProgram(program(ending));
    const what = await made(running);
    if (signal !== null) running.signal(signal);
    t.equal((await running.ended).status, status);
    t.ok(isGone(what), 'directory, namespace and process are gone');
  });
}

await t.test('what a killed lab left is removed by the next one', { skip }, async t => {
  const running = new RunningProgram(program('setInterval(() => {}, 1000)'));
  const what = await made(running);
  running.signal('SIGKILL');
  await running.ended;
  t.notOk(isGone(what), 'it could not clean up');
  Lab.open().close();
  t.ok(isGone(what), 'the next lab did');
});

await t.test('a lab leaves those alone that are in use', { skip }, async t => {
  const running = new RunningProgram(program('setInterval(() => {}, 1000)'));
  const what = await made(running);
  Lab.open().close();
  t.ok(existsSync(what.directory) && existsSync(what.netns) && isRunning(what.pid));
  await running.stop();
});

await t.test('close takes mounts and detached processes along', { skip }, async t => {
  const lab = Lab.open();
  const point = await lab.tmpfs(1024 * 1024);
  const parent = lab.start(['sh', '-c', `setsid sleep 1000 & echo $!`]);
  const pid = await parent.waitForOutput(stdout => (stdout.includes('\n') ? Number(stdout) : null));
  await eventually('sh to end', () => (parent.isRunning ? null : true));
  t.ok(isRunning(pid));
  lab.close();
  t.notOk(isRunning(pid));
  t.notOk(existsSync(point));
  t.notOk(readdirSync(dirname(lab.directory)).includes(lab.directory));
});
