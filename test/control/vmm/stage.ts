/**
 * What the tests with a real QEMU stand on: a state directory, the tiny image, disk servers of other people's,
 * and ways to wait for what guests say. Everything goes away when the test ends, guests included.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import * as fs from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { parseFacts, type Fact } from '../../../control/image/facts.js';
import { HostImages } from '../../../control/image/process.js';
import type { BootPlan, ObservedGuest } from '../../../control/vmm/host.js';
import { QemuHost } from '../../../control/vmm/process.js';
import { findQemu } from '../../../control/vmm/qemu/process.js';
import { SHARED_IMAGES } from '../../lab/harness/tinyImage.js';
import { isListening } from '../../listening.js';

/** A loaded machine without KVM is slow; a fault is told apart from slowness only by never. */
const PATIENCE_ms = 240_000;
const HEARTBEAT_ms = 500;

/** Why there can be no guests here; false when there can. */
export async function whyNot(): Promise<string | false> {
  try {
    await findQemu();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  if (spawnSync('qemu-nbd', ['--version']).status !== 0) return 'qemu-nbd (qemu-utils) is not installed';
  try {
    // Built once, and found again by the next run.
    await new HostImages(SHARED_IMAGES).build('tiny', { tiny: {} }, () => {});
  } catch (error) {
    return `no tiny image: ${error instanceof Error ? error.message : String(error)}`;
  }
  return false;
}

export class DiskServer {
  #child: ChildProcess | undefined;
  readonly #command: readonly string[];
  readonly #socket: string;
  readonly #owner: { uid: number; gid: number } | null;

  constructor(command: readonly string[], socket: string, owner: { uid: number; gid: number } | null) {
    this.#command = command;
    this.#socket = socket;
    this.#owner = owner;
  }

  async start(): Promise<void> {
    fs.rmSync(this.#socket, { force: true });
    const [program = '', ...args] = this.#command;
    this.#child = spawn(program, args, { stdio: 'ignore' });
    await until(`${program} to listen`, () => isListening(this.#socket));
    if (this.#owner !== null) fs.lchownSync(this.#socket, this.#owner.uid, this.#owner.gid);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await ended;
  }
}

export class Stage {
  readonly state: string;
  readonly images: { kernel: string; initrd: string; cmdline: string };
  #guests: QemuHost;
  #servers: DiskServer[] = [];

  static async open(t: Test): Promise<Stage> {
    const files = await new HostImages(SHARED_IMAGES).bootFiles('tiny', { tiny: {} });
    if (files.kind !== 'kernel' || files.initrd === null) throw new Error('the tiny image is a kernel');
    const state = fs.mkdtempSync(join(tmpdir(), 'weft-vmm-'));
    // As weftd does: guests' users pass through.
    fs.chmodSync(state, 0o711);
    const [kernel, initrd] = [join(state, 'kernel'), join(state, 'initrd')];
    // The project may lie where guests' users cannot go.
    fs.copyFileSync(files.kernel, kernel);
    fs.copyFileSync(files.initrd, initrd);
    const stage = new Stage(state, { kernel, initrd, cmdline: files.cmdline });
    t.teardown(() => stage.close());
    return stage;
  }

  private constructor(state: string, images: Stage['images']) {
    this.state = state;
    this.images = images;
    this.#guests = this.newHost();
  }

  get guests(): QemuHost {
    return this.#guests;
  }

  newHost(): QemuHost {
    return new QemuHost({
      runDirectory: join(this.state, 'run'),
      accelFile: join(this.state, 'accel.json'),
      heartbeat_ms: HEARTBEAT_ms,
    });
  }

  /** As when weftd is started anew; the earlier one must have let go, or be dead. */
  async takeOver(): Promise<QemuHost> {
    await this.#guests.detach();
    this.#guests = this.newHost();
    await this.#guests.adopt();
    return this.#guests;
  }

  /** A disk of 32 MiB for the guest's first slot, served by qemu-nbd or by what `command` says. */
  async serveDisk(
    name: string,
    command = (socket: string, image: string): string[] => [
      'qemu-nbd',
      '--persistent',
      '--shared=4',
      '--format=raw',
      '--export-name=disk',
      `--socket=${socket}`,
      image,
    ],
  ): Promise<DiskServer> {
    await this.#guests.prepare(name);
    const image = join(this.state, `${name}.img`);
    if (!fs.existsSync(image)) fs.writeFileSync(image, '');
    fs.truncateSync(image, 32 * 2 ** 20);
    const socket = this.#guests.diskSocket(name, 0);
    const server = new DiskServer(command(socket, image), socket, this.#guests.owner(name));
    this.#servers.push(server);
    await server.start();
    return server;
  }

  plan(name: string, words = '', options: { disk?: boolean } = {}): BootPlan {
    const hasDisk = options.disk ?? true;
    return {
      name,
      cpus: 1,
      memory_bytes: 96 * 2 ** 20,
      accel: 'tcg',
      kernel: {
        path: this.images.kernel,
        initrd: this.images.initrd,
        cmdline: `${this.images.cmdline} ${hasDisk ? 'weft.disk=/dev/vda ' : ''}${words}`,
      },
      disks: hasDisk
        ? [{ socketPath: this.#guests.diskSocket(name, 0), nbdName: 'disk', readOnly: false }]
        : [],
      // A card that needs no plane: these tests have none. vhost has its own (test/lab/vhost-guests.test.ts).
      nics: [
        {
          socketPath: this.#guests.nicSocket(name, 0),
          mac: '52:54:00:77:65:01',
          transport: 'stream',
          queues: 1,
        },
      ],
    };
  }

  observed(name: string): ObservedGuest {
    const guest = this.#guests.list().find(one => one.name === name);
    if (guest === undefined) throw new Error(`no guest ${name} is listed`);
    return guest;
  }

  /** Until the guest is as it should be. */
  async reaches(name: string, what: string, fits: (guest: ObservedGuest) => boolean): Promise<ObservedGuest> {
    await until(`${name} to be ${what}`, () => fits(this.observed(name)));
    return this.observed(name);
  }

  /** Everything that the guest has said in this boot of its QEMU. */
  facts(name: string): Fact[] {
    return parseFacts(this.#serial(name));
  }

  #serial(name: string): string {
    try {
      return fs.readFileSync(this.#guests.paths(name).serialLog, 'utf8');
    } catch {
      return '';
    }
  }

  said<K extends Fact['fact']>(name: string, kind: K): Extract<Fact, { fact: K }>[] {
    return this.facts(name).filter((fact): fact is Extract<Fact, { fact: K }> => fact.fact === kind);
  }

  /** Until the guest has said so `count` times; gives the last. */
  async says<K extends Fact['fact']>(name: string, kind: K, count = 1): Promise<Extract<Fact, { fact: K }>> {
    await until(
      `${name} to say ${kind}`,
      () => this.said(name, kind).length >= count,
      () =>
        `${JSON.stringify(this.observed(name).state)}, last on its serial line:\n${this.#serial(name).slice(-1500)}`,
    );
    return this.said(name, kind).at(-1)!;
  }

  async close(): Promise<void> {
    for (const guest of this.#guests.list()) await this.#guests.kill(guest.name).catch(() => {});
    await this.#guests.detach();
    for (const server of this.#servers) await server.kill();
    fs.rmSync(this.state, { recursive: true, force: true });
  }
}

/** A cable between two guests' cards: what one sends reaches the other, until it is cut. */
export async function cable(pathA: string, pathB: string): Promise<() => void> {
  const [a, b] = [connect(pathA), connect(pathB)];
  for (const end of [a, b]) end.on('error', () => {});
  await Promise.all([a, b].map(end => new Promise(resolve => end.once('connect', resolve))));
  a.pipe(b).pipe(a);
  return () => {
    a.destroy();
    b.destroy();
  };
}

export async function until(what: string, fits: () => boolean, found = () => ''): Promise<void> {
  const end_ms = Date.now() + PATIENCE_ms;
  while (!fits()) {
    if (Date.now() > end_ms) throw new Error(`waited in vain for ${what}; ${found()}`);
    await sleep(20);
  }
}
