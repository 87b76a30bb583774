/**
 * Where the tiny image's kernel and busybox come from: what is installed, or packages of the distribution,
 * fetched by apt-get (which checks their signatures) and unpacked, never installed, into a directory of ours.
 * All of it works as an ordinary user. When the system's package lists are absent or so old that what they name
 * is no longer there, lists of our own are fetched into a temporary directory; the system's stay as they are.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { EM_AARCH64, EM_X86_64, parseProgram } from '../elf.js';
import { ImageError } from '../errors.js';
import { run } from '../program/process.js';
import { NEEDED_APPLETS } from '../recipe.js';
import {
  debianArch,
  dependsOn,
  kernelMetaPackages,
  kernelRelease,
  parseKernelDependency,
  rankKernels,
} from './packages.js';

export interface Kernel {
  release: string;
  /** Where it was found, in words. */
  source: string;
  vmlinuz: string;
  /** …/lib/modules/RELEASE */
  modules: string;
}

export interface Busybox {
  path: string;
  applets: string[];
  version: string;
  source: string;
}

const BUSYBOX_PLACES = ['/bin/busybox', '/usr/bin/busybox', '/bin/busybox-static', '/usr/bin/busybox-static'];

/** Says what is being done. */
export type Say = (stage: string) => void;

export class Debian {
  readonly #scratch: string;
  readonly #signal: AbortSignal | undefined;
  readonly #say: Say;
  /** Options that make apt use lists of our own; null while the system's do. */
  #lists: string[] | null = null;

  /** `scratch`: a directory that may be filled, and is removed by whoever made it. */
  constructor(scratch: string, say: Say, signal?: AbortSignal) {
    this.#scratch = scratch;
    this.#say = say;
    this.#signal = signal;
  }

  /** Kernels that are installed here and may be read, best first. */
  static installedKernels(root = '/'): Kernel[] {
    const releases: string[] = [];
    try {
      for (const name of fs.readdirSync(join(root, 'boot')))
        if (name.startsWith('vmlinuz-')) releases.push(name.slice('vmlinuz-'.length));
    } catch {
      return [];
    }
    return rankKernels(releases, debianArch(process.arch) ?? '')
      .map(release => kernelBelow(root, release, `installed in ${join(root, 'boot')}`))
      .filter(kernel => kernel !== undefined);
  }

  async packagedKernel(): Promise<Kernel> {
    const arch = debianArch(process.arch);
    if (arch === undefined)
      throw new ImageError('IMAGE_CANNOT_BUILD', `no kernel package is known for ${process.arch}`);
    // Name and file are of the same lists: old ones name a kernel that newer ones no longer have.
    return this.#withLists(async () => {
      const name = await this.#kernelPackage(arch);
      const release = kernelRelease(name);
      const root = await this.#unpack(name);
      // Ubuntu keeps the modules in a package of their own.
      const modulesPackage = `linux-modules-${release}`;
      const depends = await this.#apt('apt-cache', ['depends', name]);
      if (dependsOn(depends, modulesPackage)) await this.#unpack(modulesPackage);
      const kernel = kernelBelow(root, release, `package ${name}`);
      if (kernel === undefined)
        throw new ImageError(
          'IMAGE_BUILD',
          `package ${name} holds no kernel with modules where they are expected`,
        );
      return kernel;
    });
  }

  async #kernelPackage(arch: string): Promise<string> {
    for (const meta of kernelMetaPackages(arch)) {
      // A package that the lists do not name makes apt-cache fail: the next one may be there.
      const found = parseKernelDependency(await this.#apt('apt-cache', ['depends', meta]).catch(() => ''));
      if (found !== undefined) return found;
    }
    throw new ImageError(
      'IMAGE_CANNOT_BUILD',
      `the package lists name none of ${kernelMetaPackages(arch).join(', ')}; see /etc/apt/sources.list`,
    );
  }

  async busybox(): Promise<Busybox> {
    const problems: string[] = [];
    for (const path of BUSYBOX_PLACES) {
      if (!fs.existsSync(path)) continue;
      const found = await this.#judgeBusybox(path, 'installed');
      if (typeof found !== 'string') return found;
      problems.push(found);
    }
    const root = await this.#withLists(() => this.#unpack('busybox-static'));
    for (const path of BUSYBOX_PLACES.map(place => join(root, place))) {
      if (!fs.existsSync(path)) continue;
      const found = await this.#judgeBusybox(path, 'package busybox-static');
      if (typeof found !== 'string') return found;
      problems.push(found);
    }
    throw new ImageError(
      'IMAGE_CANNOT_BUILD',
      `no busybox will do: ${problems.join('; ') || 'none was found'}`,
    );
  }

  async #judgeBusybox(path: string, source: string): Promise<Busybox | string> {
    const program = parseProgram(fs.readFileSync(path));
    const machine = process.arch === 'arm64' ? EM_AARCH64 : EM_X86_64;
    if (program?.machine !== machine) return `${path} is not a program for ${process.arch}`;
    if (!program.static) return `${path} is not static (the package busybox-static is)`;
    const applets = (await this.#run(path, ['--list'], 'IMAGE_BUILD')).split('\n').filter(Boolean);
    const missing = NEEDED_APPLETS.filter(applet => !applets.includes(applet));
    if (missing.length > 0) return `${path} lacks ${missing.join(', ')}`;
    const help = await this.#run(path, ['--help'], 'IMAGE_BUILD').catch(() => '');
    return { path, applets, source, version: /BusyBox v(\S+)/.exec(help)?.[1] ?? 'unknown' };
  }

  /** Fetch and unpack; the directory that holds it. Asked again for the same name, it is there already. */
  async #unpack(name: string): Promise<string> {
    const root = join(this.#scratch, 'root');
    const debs = join(this.#scratch, 'debs');
    fs.mkdirSync(debs, { recursive: true });
    fs.mkdirSync(root, { recursive: true });
    this.#say(`downloading ${name}`);
    await this.#apt('apt-get', ['-q', 'download', name], debs);
    const file = fs.readdirSync(debs).find(entry => entry.startsWith(`${name}_`) && entry.endsWith('.deb'));
    if (file === undefined) throw new ImageError('IMAGE_DOWNLOAD', `apt-get downloaded nothing for ${name}`);
    this.#say(`unpacking ${name}`);
    await this.#run('dpkg-deb', ['-x', join(debs, file), root], 'IMAGE_BUILD');
    fs.rmSync(join(debs, file));
    return root;
  }

  /** Once with the system's package lists, and when that fails with fresh ones of our own. */
  async #withLists<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      const isOurs = error instanceof ImageError && error.code !== 'IMAGE_ABORTED';
      if (!isOurs || this.#lists !== null) throw error;
    }
    this.#say('fetching package lists');
    const at = join(this.#scratch, 'apt');
    fs.mkdirSync(join(at, 'lists', 'partial'), { recursive: true });
    fs.mkdirSync(join(at, 'cache', 'archives', 'partial'), { recursive: true });
    this.#lists = [
      `Dir::State::lists=${join(at, 'lists')}`,
      `Dir::Cache=${join(at, 'cache')}`,
      'Acquire::Languages=none',
    ].flatMap(option => ['-o', option]);
    try {
      await this.#apt('apt-get', ['-q', 'update']);
    } catch (error) {
      const words = error instanceof Error ? error.message : String(error);
      throw new ImageError('IMAGE_DOWNLOAD', `no package lists could be fetched: ${words}`, { cause: error });
    }
    return work();
  }

  async #apt(command: string, args: readonly string[], cwd?: string): Promise<string> {
    return this.#run(command, [...(this.#lists ?? []), ...args], 'IMAGE_DOWNLOAD', cwd);
  }

  async #run(
    command: string,
    args: readonly string[],
    code: 'IMAGE_DOWNLOAD' | 'IMAGE_BUILD',
    cwd?: string,
  ): Promise<string> {
    return run(command, args, { code, signal: this.#signal, ...(cwd === undefined ? {} : { cwd }) });
  }
}

function kernelBelow(root: string, release: string, source: string): Kernel | undefined {
  const vmlinuz = join(root, 'boot', `vmlinuz-${release}`);
  const modules = ['lib/modules', 'usr/lib/modules']
    .map(place => join(root, place, release))
    .find(place => fs.existsSync(join(place, 'kernel')));
  if (modules === undefined) return undefined;
  try {
    fs.accessSync(vmlinuz, fs.constants.R_OK);
  } catch {
    return undefined;
  }
  return { release, source, vmlinuz, modules };
}
