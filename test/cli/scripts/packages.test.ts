/** scripts/setup/packages.js: what is installed, what is only named, what stops the start. */
import t from 'tap';

interface Machine {
  find(program: string): string | null;
  isDebian(): boolean;
  hasAptLists(): boolean;
  isRoot(): boolean;
  run(command: string, args: string[]): Promise<string>;
  say(line: string): void;
  step<T>(title: string, work: () => Promise<T>): Promise<T>;
}

const url = new URL('../../../../scripts/setup/packages.js', import.meta.url).href;
const { installPackages, needs, findProgram } = (await import(url)) as {
  installPackages: (machine: Machine) => Promise<void>;
  needs: (arch: string) => { program: string; debianPackage: string; must: boolean }[];
  findProgram: (name: string, path?: string) => string | null;
};

async function visit(extra: Partial<Machine>) {
  const ran: string[] = [];
  const said: string[] = [];
  const machine: Machine = {
    find: () => null,
    isDebian: () => true,
    hasAptLists: () => true,
    isRoot: () => true,
    run: async (command, args) => {
      ran.push([command, ...args].join(' '));
      return '';
    },
    say: line => void said.push(line),
    step: (_title, work) => work(),
    ...extra,
  };
  const error = await installPackages(machine).then(
    () => null,
    (thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)),
  );
  return { ran, said: said.join('\n'), error };
}

const everything = (program: string) => `/usr/bin/${program}`;

await t.test('nothing is missing: nothing is said or done', async t => {
  t.same(await visit({ find: everything }), { ran: [], said: '', error: null });
});

await t.test('root on Debian: installed', async t => {
  const { ran, error } = await visit({});
  t.equal(error, null);
  t.match(ran, [
    'apt-get -q update',
    /^apt-get -q install --yes --no-install-recommends qemu-system-\w+ qemu-utils$/,
  ]);
});

await t.test('root on Debian without package lists: fetched, for the kernel of the tiny guest', async t => {
  t.same((await visit({ find: everything, hasAptLists: () => false })).ran, ['apt-get -q update']);
});

await t.test('an ordinary user on Debian is told exactly what to run', async t => {
  const { ran, said, error } = await visit({ isRoot: () => false, hasAptLists: () => false });
  t.same(ran, []);
  t.match(
    said,
    /\n {2}sudo apt-get update && sudo apt-get install --no-install-recommends qemu-system-\w+ qemu-utils$/,
  );
  t.match(error, /cannot start machines without that/);
});

await t.test('what is only nice to have does not stop the start', async t => {
  const { said, error } = await visit({
    isRoot: () => false,
    find: name => (name === 'qemu-img' ? null : name),
  });
  t.equal(error, null);
  t.match(said, /Missing: qemu-img[^]*sudo apt-get install --no-install-recommends qemu-utils$/);
});

await t.test('another distribution: programs are named', async t => {
  const { ran, said, error } = await visit({ isDebian: () => false });
  t.same(ran, []);
  t.match(said, /Missing: qemu-system-\w+ \(runs the machines\)\.\nMissing: qemu-img/);
  t.match(said, /with the package manager of/);
  t.ok(error);
});

await t.test('by processor', async t => {
  t.match(needs('arm64')[0], {
    program: 'qemu-system-aarch64',
    debianPackage: 'qemu-system-arm',
    must: true,
  });
  t.match(needs('x64')[0], { program: 'qemu-system-x86_64', debianPackage: 'qemu-system-x86', must: true });
  t.match(findProgram('sh'), /\/sh$/);
  t.equal(findProgram('no-such-program-anywhere', '/bin'), null);
});
