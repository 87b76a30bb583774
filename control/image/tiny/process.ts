/**
 * Builds the tiny image: a kernel of the distribution, and an initrd of busybox, a dozen modules and our scripts.
 *
 *   STATE/images/NAME/
 *     kernel  initrd        what QEMU boots
 *     manifest.json         what they were made of
 *     parts/                the same taken apart (busybox, modules): when only our scripts have changed, the
 *                           initrd is made anew from these, and nothing is fetched
 *
 * It is built beside its place and moved there when it is whole; what an interrupted build left is removed by
 * the next.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { emitCpio } from '../cpio.js';
import { debianArch, isForGuests } from '../debian/packages.js';
import { Debian, type Kernel } from '../debian/process.js';
import { moduleName, parseModule } from '../elf.js';
import { ImageError } from '../errors.js';
import type { BuildProgress } from '../host.js';
import { run } from '../program/process.js';
import { initrdEntries, loadOrder, NEEDED_MODULES, RECIPE_VERSION, WANTED_MODULES } from '../recipe.js';
import { parseManifest, type Manifest } from './manifest.js';

const compress = promisify(gzip);

/** What a build is made of, wherever it came from. */
interface Parts {
  kernel: { release: string; source: string; bytes: Uint8Array };
  busybox: { version: string; source: string; applets: string[]; bytes: Uint8Array };
  modules: { name: string; bytes: Uint8Array }[];
}

let scripts: ReadonlyMap<string, Uint8Array> | undefined;

/** The guest's scripts lie beside the sources; from dist/ that is three folders up. */
function guestScripts(): ReadonlyMap<string, Uint8Array> {
  if (scripts !== undefined) return scripts;
  for (const place of ['../guest/', '../../../../control/image/guest/']) {
    const directory = fileURLToPath(new URL(place, import.meta.url));
    if (!fs.existsSync(join(directory, 'init.sh'))) continue;
    const names = fs
      .readdirSync(directory)
      .filter(name => name.endsWith('.sh'))
      .toSorted();
    scripts = new Map(names.map(name => [name, fs.readFileSync(join(directory, name))]));
    return scripts;
  }
  throw new ImageError(
    'IMAGE_BUILD',
    "the tiny guest's scripts (control/image/guest) are missing from this installation of weft",
  );
}

export function recipeId(): string {
  const hash = createHash('sha256');
  for (const [name, bytes] of guestScripts()) hash.update(`${name}\0${bytes.length}\0`).update(bytes);
  return `${RECIPE_VERSION}-${hash.digest('hex').slice(0, 16)}`;
}

/** The manifest of a whole image of today's recipe; undefined when it has to be built. */
export function readBuilt(directory: string): Manifest | undefined {
  const manifest = readManifest(directory);
  if (manifest === undefined || manifest.recipe !== recipeId()) return undefined;
  for (const name of ['kernel', 'initrd'] as const) {
    try {
      if (fs.statSync(join(directory, name)).size !== manifest.files[name].size_bytes) return undefined;
    } catch {
      return undefined;
    }
  }
  return manifest;
}

function readManifest(directory: string): Manifest | undefined {
  try {
    const manifest = parseManifest(fs.readFileSync(join(directory, 'manifest.json'), 'utf8'));
    return manifest?.arch === process.arch ? manifest : undefined;
  } catch {
    return undefined;
  }
}

export async function buildTiny(
  images: string,
  name: string,
  onProgress: (progress: BuildProgress) => void,
  signal?: AbortSignal,
): Promise<Manifest> {
  const place = join(images, name);
  // Guests of other users boot from here.
  fs.mkdirSync(images, { recursive: true, mode: 0o755 });
  fs.chmodSync(images, 0o755);
  for (const left of fs.readdirSync(images))
    if (left.startsWith(`.${name}.`)) fs.rmSync(join(images, left), { recursive: true, force: true });
  const scratch = fs.mkdtempSync(join(images, `.${name}.`));
  try {
    let steps = 0;
    const say = (stage: string): void => {
      // Six or so stages, of which fetching is the longest; a rough measure is better than none.
      onProgress({ stage, fraction: Math.min(steps++ / 6, 0.95) });
    };
    const old = readManifest(place);
    const parts =
      (old === undefined ? undefined : readParts(place, old)) ?? (await gather(scratch, say, signal));
    say('packing the initrd');
    const built = join(scratch, 'built');
    const manifest = await pack(built, parts);
    if (signal?.aborted === true)
      throw new ImageError('IMAGE_ABORTED', `building image ${name} was called off`);
    if (fs.existsSync(place)) fs.renameSync(place, join(scratch, 'old'));
    fs.renameSync(built, place);
    onProgress({ stage: 'built', fraction: 1 });
    return manifest;
  } catch (error) {
    // Whatever step it was that failed of it.
    if (signal?.aborted === true)
      throw new ImageError('IMAGE_ABORTED', `building image ${name} was called off`, { cause: error });
    if (error instanceof ImageError) throw error;
    const words = error instanceof Error ? error.message : String(error);
    throw new ImageError('IMAGE_BUILD', `image ${name} could not be built: ${words}`, { cause: error });
  } finally {
    fs.rmSync(scratch, { recursive: true, force: true });
  }
}

/** From the host: an installed kernel for virtual machines, else a packaged one, else any installed one. */
async function gather(scratch: string, say: (stage: string) => void, signal?: AbortSignal): Promise<Parts> {
  const debian = new Debian(scratch, say, signal);
  say('looking for a kernel and busybox');
  const installed = Debian.installedKernels();
  const forGuests = installed.filter(kernel => isForGuests(kernel.release, debianArch(process.arch) ?? ''));
  const problems: string[] = [];
  const attempt = async (
    find: () => Promise<Kernel>,
  ): Promise<(Parts['kernel'] & { modules: Parts['modules'] }) | undefined> => {
    try {
      const kernel = await find();
      const modules = await kernelModules(kernel, scratch, signal);
      return {
        release: kernel.release,
        source: kernel.source,
        bytes: fs.readFileSync(kernel.vmlinuz),
        modules,
      };
    } catch (error) {
      if (!(error instanceof ImageError) || error.code === 'IMAGE_ABORTED') throw error;
      problems.push(error.message);
      return undefined;
    }
  };
  const others = installed.filter(kernel => !forGuests.includes(kernel));
  const finders = [
    ...forGuests.map(kernel => async () => kernel),
    () => debian.packagedKernel(),
    ...others.map(kernel => async () => kernel),
  ];
  let kernel;
  for (const find of finders) {
    kernel = await attempt(find);
    if (kernel !== undefined) break;
  }
  const advice =
    'On a system without apt-get, give the image a kernel of your own: `image: { NAME: { kernel: /path, initrd: /path } }`';
  if (kernel === undefined)
    throw new ImageError(
      'IMAGE_CANNOT_BUILD',
      `no kernel for the tiny guest: ${problems.join('; ')}. ${advice}`,
    );
  let busybox;
  try {
    busybox = await debian.busybox();
  } catch (error) {
    if (!(error instanceof ImageError) || error.code === 'IMAGE_ABORTED') throw error;
    throw new ImageError('IMAGE_CANNOT_BUILD', `no busybox for the tiny guest: ${error.message}. ${advice}`, {
      cause: error,
    });
  }
  const { modules, ...rest } = kernel;
  return { kernel: rest, modules, busybox: { ...busybox, bytes: fs.readFileSync(busybox.path) } };
}

async function kernelModules(
  kernel: Kernel,
  scratch: string,
  signal?: AbortSignal,
): Promise<Parts['modules']> {
  const files = new Map<string, string>();
  for (const entry of fs.readdirSync(join(kernel.modules, 'kernel'), { recursive: true, encoding: 'utf8' }))
    if (/\.ko(\.(xz|zst|gz))?$/.test(entry))
      files.set(moduleName(entry), join(kernel.modules, 'kernel', entry));
  const builtin = new Set(
    fs
      .readFileSync(join(kernel.modules, 'modules.builtin'), 'utf8')
      .split('\n')
      .map(line => moduleName(line)),
  );
  const missing = NEEDED_MODULES.filter(name => !files.has(name) && !builtin.has(name));
  if (missing.length > 0)
    throw new ImageError('IMAGE_CANNOT_BUILD', `kernel ${kernel.release} has no ${missing.join(', ')}`);
  // Read as they are met: `loadOrder` asks for each once, in no order that we know beforehand.
  const bytes = new Map<string, Uint8Array>();
  for (let found = true; found;) {
    found = false;
    const wanted: string[] = [];
    loadOrder(WANTED_MODULES, name => {
      if (bytes.has(name)) return parseModule(bytes.get(name)!);
      if (files.has(name)) wanted.push(name);
      return undefined;
    });
    for (const name of wanted) {
      bytes.set(name, await readModule(files.get(name)!, scratch, signal));
      found = true;
    }
  }
  return loadOrder(WANTED_MODULES, name => (bytes.has(name) ? parseModule(bytes.get(name)!) : undefined)).map(
    name => ({
      name,
      bytes: bytes.get(name)!,
    }),
  );
}

/** busybox's insmod takes plain modules only. */
async function readModule(path: string, scratch: string, signal?: AbortSignal): Promise<Uint8Array> {
  const packer = { xz: 'xz', zst: 'zstd', gz: 'gzip' }[/\.(xz|zst|gz)$/.exec(path)?.[1] ?? ''];
  if (packer === undefined) return fs.readFileSync(path);
  const out = join(scratch, 'module.ko');
  await run('/bin/sh', ['-c', `exec ${packer} -dc -- "$1" > "$2"`, 'sh', path, out], {
    code: 'IMAGE_BUILD',
    signal,
  });
  return fs.readFileSync(out);
}

async function pack(built: string, parts: Parts): Promise<Manifest> {
  const recipe = recipeId();
  const entries = initrdEntries({
    busybox: parts.busybox.bytes,
    applets: parts.busybox.applets,
    modules: parts.modules,
    scripts: guestScripts(),
    version: recipe,
  });
  const initrd = await compress(emitCpio(entries), { level: 6 });
  const fact = (bytes: Uint8Array): { size_bytes: number; sha256: string } => ({
    size_bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  });
  const manifest: Manifest = {
    recipe,
    arch: process.arch,
    kernel: { release: parts.kernel.release, source: parts.kernel.source },
    busybox: { version: parts.busybox.version, source: parts.busybox.source, applets: parts.busybox.applets },
    modules: parts.modules.map(module => module.name),
    files: { kernel: fact(parts.kernel.bytes), initrd: fact(initrd) },
    builtAt: new Date().toISOString(),
  };
  fs.mkdirSync(join(built, 'parts'), { recursive: true });
  fs.chmodSync(built, 0o755);
  const write = (name: string, bytes: Uint8Array | string): void =>
    fs.writeFileSync(join(built, name), bytes, { mode: 0o644 });
  write('kernel', parts.kernel.bytes);
  write('initrd', initrd);
  write('parts/busybox', parts.busybox.bytes);
  for (const module of parts.modules) write(`parts/${module.name}.ko`, module.bytes);
  write('manifest.json', `${JSON.stringify(manifest, null, 2)}\n`);
  // On disk before it gets its name: a manifest must not outlive what it speaks of.
  for (const name of ['kernel', 'initrd', 'manifest.json']) {
    const fd = fs.openSync(join(built, name), 'r');
    fs.fsyncSync(fd);
    fs.closeSync(fd);
  }
  return manifest;
}

/** From an earlier build; undefined when one is missing or is not what the manifest says. */
function readParts(place: string, manifest: Manifest): Parts | undefined {
  try {
    const kernel = fs.readFileSync(join(place, 'kernel'));
    if (createHash('sha256').update(kernel).digest('hex') !== manifest.files.kernel.sha256) return undefined;
    // Which modules are wanted is the recipe's to say, not only the scripts': another version gathers anew.
    if (!manifest.recipe.startsWith(`${RECIPE_VERSION}-`)) return undefined;
    return {
      kernel: { ...manifest.kernel, bytes: kernel },
      busybox: { ...manifest.busybox, bytes: fs.readFileSync(join(place, 'parts', 'busybox')) },
      modules: manifest.modules.map(name => ({
        name,
        bytes: fs.readFileSync(join(place, 'parts', `${name}.ko`)),
      })),
    };
  } catch {
    return undefined;
  }
}
