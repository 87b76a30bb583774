/**
 * What a lab test needs of the machine, so that it can skip aloud when that is not there:
 *
 *   t.test('…', { skip: missing({ root: true, programs: ['tshark'] }) }, async t => …)
 */
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Programs that Debian keeps out of an ordinary user's PATH. */
const SYSTEM_DIRECTORIES = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Program to Debian package. From dist/test/lab/harness/. */
const PACKAGES = new URL('../../../../test/lab/packages', import.meta.url);

function packageOf(program: string): string | undefined {
  for (const line of readFileSync(PACKAGES, 'utf8').split('\n')) {
    const [name, from] = line.split(/\s+/);
    if (name === program) return from;
  }
  return undefined;
}

export function findProgram(name: string): string | null {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), ...SYSTEM_DIRECTORIES];
  for (const directory of directories) {
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there; look on.
    }
  }
  return null;
}

export interface Needs {
  readonly root?: boolean;
  readonly programs?: readonly string[];
  /** Paths that must exist, such as `/dev/net/tun`. */
  readonly paths?: readonly string[];
}

/** In words what is missing; false when all is there. */
export function missing(needs: Needs): string | false {
  const lacks: string[] = [];
  if (needs.root === true && process.getuid?.() !== 0) lacks.push('root');
  for (const program of needs.programs ?? []) {
    if (findProgram(program) !== null) continue;
    const from = packageOf(program);
    lacks.push(from === undefined ? program : `${program} (Debian package ${from})`);
  }
  for (const path of needs.paths ?? []) if (!existsSync(path)) lacks.push(path);
  return lacks.length === 0 ? false : `needs ${lacks.join(', ')}`;
}
