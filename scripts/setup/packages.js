/**
 * The programs that weft drives, by the Debian packages that bring them. As root on Debian what is missing is installed;
 * else it is named, and only what nothing works without stops the start.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { run, say, SetupError, step } from './step.js';

/** Debian keeps some programs where an ordinary user's PATH does not look. */
const SYSTEM_FOLDERS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

export function needs(arch = process.arch) {
  const qemu =
    arch === 'arm64'
      ? { program: 'qemu-system-aarch64', debianPackage: 'qemu-system-arm' }
      : { program: 'qemu-system-x86_64', debianPackage: 'qemu-system-x86' };
  return [
    { ...qemu, must: true, why: 'runs the machines' },
    { program: 'qemu-img', debianPackage: 'qemu-utils', must: false, why: 'fills volumes from disk images' },
  ];
}

export function findProgram(name, path = process.env.PATH ?? '') {
  for (const folder of [...path.split(delimiter), ...SYSTEM_FOLDERS]) {
    if (folder === '') continue;
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not in this one.
    }
  }
  return null;
}

function isDebian() {
  return existsSync('/etc/debian_version') && findProgram('apt-get') !== null;
}

/** apt's lists, from which the tiny guest's kernel is found too. */
function hasAptLists() {
  try {
    return readdirSync('/var/lib/apt/lists').some(name => name.includes('_Packages'));
  } catch {
    return false;
  }
}

const here = {
  find: findProgram,
  isDebian,
  hasAptLists,
  isRoot: () => process.getuid() === 0,
  run,
  say,
  step,
};

export async function installPackages(machine = here) {
  const { run, say, step } = machine;
  const missing = needs().filter(({ program }) => machine.find(program) === null);
  const debian = machine.isDebian();
  const lists = !debian || machine.hasAptLists();
  if (missing.length === 0 && lists) return;
  const packages = missing.map(({ debianPackage }) => debianPackage);
  if (debian && machine.isRoot()) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    await step('Updating the package lists', () => run('apt-get', ['-q', 'update'], { env }));
    if (packages.length > 0) {
      await step(`Installing Debian packages: ${packages.join(' ')}`, () =>
        run('apt-get', ['-q', 'install', '--yes', '--no-install-recommends', ...packages], { env }),
      );
    }
    return;
  }
  const stop = missing.some(({ must }) => must);
  for (const { program, why } of missing) say(`Missing: ${program} (${why}).`);
  if (!lists) say("Missing: apt's package lists (the guests' kernel is found in them).");
  if (debian) {
    const commands = [];
    if (!lists) commands.push('sudo apt-get update');
    if (packages.length > 0)
      commands.push(`sudo apt-get install --no-install-recommends ${packages.join(' ')}`);
    say(`Please run:\n  ${commands.join(' && ')}`);
  } else {
    say(
      `Please install ${missing.length === 1 ? 'it' : 'them'} with the package manager of ${distribution()}.`,
    );
  }
  if (stop) throw new SetupError('weft cannot start machines without that; then say "npm start" again.');
}

function distribution() {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'this system';
  } catch {
    return 'this system';
  }
}
