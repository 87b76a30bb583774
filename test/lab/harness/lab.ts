/**
 * The front door of the harness: a Lab is a directory, namespaces, cables and programs that go away together.
 *
 *   const lab = Lab.open();
 *   t.teardown(() => lab.close());
 *   const [a, b] = [await lab.namespace('a'), await lab.namespace('b')];
 *   await lab.veth(a, 'eth0', b, 'eth0');
 *
 * It closes by itself on Ctrl-C, on an exception nobody caught and at the end of the program; what even that
 * could not clean up (kill -9) the next Lab removes when it opens. Read undo.ts and owner.ts for how.
 */
import { chmodSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { removeDirectory, removeLeftovers } from './leftovers.js';
import { Namespace, addVeth } from './network.js';
import { DIRECTORY_VARIABLE, ownedName, owner, seenProcesses } from './owner.js';
import type { SeenProcess } from './owner.js';
import { killSync, run, start } from './processes.js';
import type { RunningProgram, Where } from './processes.js';
import { Undo } from './undo.js';

/** Survives a reboot and lies on a disk even where /tmp is memory: for measurements of files. */
export const DISK_HOME = '/var/tmp';

const KILL_ROUNDS = 20;

export class Lab {
  readonly undo: Undo;
  /** Short, since paths of Unix sockets may have 107 bytes. Removed in the end. */
  readonly directory: string;
  #mountCount = 0;

  private constructor(undo: Undo, directory: string) {
    this.undo = undo;
    this.directory = directory;
  }

  static open(home: string = tmpdir()): Lab {
    for (const what of removeLeftovers([tmpdir(), DISK_HOME])) {
      process.stderr.write(`lab: removed a leftover of an earlier run: ${what}\n`);
    }
    const undo = new Undo();
    const directory = mkdtempSync(join(home, ownedName('')));
    undo.push(`remove ${directory}`, () => removeDirectory(directory));
    // Guests run as users of their own and must be able to pass.
    chmodSync(directory, 0o711);
    // Detached processes (planes, guests) are nobody's children; they are found by their mark.
    undo.push('end what is left of detached processes', () => {
      // Again and again: a supervisor among them starts the others anew until its own turn comes.
      for (let round = 0; round < KILL_ROUNDS; round++) {
        const left = processesBelow(directory);
        if (left.length === 0) return;
        for (const { pid } of left) killSync(pid);
      }
    });
    return new Lab(undo, directory);
  }

  close(): void {
    this.undo.run();
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  async namespace(label: string, options: { ipv6?: boolean } = {}): Promise<Namespace> {
    return Namespace.make(this.undo, label, this.#mark(), options);
  }

  async veth(a: Namespace, ifA: string, b: Namespace, ifB: string): Promise<void> {
    await addVeth(a, ifA, b, ifB);
  }

  start(argv: readonly string[], where: Where = {}): RunningProgram {
    return start(this.undo, argv, { ...where, env: { ...where.env, ...this.#mark() } });
  }

  /** A small file system in memory, to be filled up. Returns where it is mounted. */
  async tmpfs(size_bytes: number): Promise<string> {
    const point = this.path(`tmpfs${this.#mountCount++}`);
    await run(['mkdir', point]);
    await run(['mount', '-t', 'tmpfs', '-o', `size=${size_bytes},mode=0755`, 'weftlab', point]);
    return point;
  }

  /** A directory seen, not changed, by users who may not pass through those above it. Returns where. */
  async seenByAll(directory: string): Promise<string> {
    const point = this.path(`bind${this.#mountCount++}`);
    await run(['mkdir', point]);
    await run(['mount', '--bind', '-o', 'ro', directory, point]);
    return point;
  }

  #mark(): Record<string, string> {
    return { [DIRECTORY_VARIABLE]: this.directory };
  }

  /** Running processes that were started below this lab or name its directory; without our own. */
  processes(): SeenProcess[] {
    return processesBelow(this.directory);
  }
}

function processesBelow(directory: string): SeenProcess[] {
  return seenProcesses().filter(
    seen => seen.pid !== owner.pid && (seen.directory === directory || seen.command.includes(directory)),
  );
}
