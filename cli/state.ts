/**
 * Where weftd is to be found: the state directory by the rule of ARCHITECTURE.md, and the paths in it that
 * the CLI names. Pure: environment, user and home are arguments.
 */
import { isAbsolute, join, resolve } from 'node:path';
import { layoutOf } from '../control/model/layout.js';

export interface Surroundings {
  env: Readonly<Record<string, string | undefined>>;
  cwd: string;
  /** Effective user; -1 where there is no such thing. */
  uid: number;
  home: string;
}

/** `--state DIR`, else $WEFT_STATE, else /var/lib/weft for root, else $XDG_STATE_HOME/weft. */
export function stateDirectory(option: string | undefined, around: Surroundings): string {
  const chosen = option ?? nonEmpty(around.env['WEFT_STATE']);
  if (chosen !== undefined) return resolve(around.cwd, chosen);
  if (around.uid === 0) return '/var/lib/weft';
  const xdg = nonEmpty(around.env['XDG_STATE_HOME']);
  // The XDG base directory specification: a relative path is to be ignored.
  const base = xdg !== undefined && isAbsolute(xdg) ? xdg : join(around.home, '.local', 'state');
  return join(base, 'weft');
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === '' ? undefined : text;
}

export interface StatePaths {
  directory: string;
  apiSocket: string;
  dataplaneSocket: string;
  storageSocket: string;
  machines: string;
  logs: string;
  weftdLog: string;
}

export function statePaths(directory: string): StatePaths {
  const layout = layoutOf(directory);
  return {
    directory,
    apiSocket: layout.weftdSocket,
    dataplaneSocket: layout.dataplaneSocket,
    storageSocket: layout.storageSocket,
    machines: layout.machines,
    logs: layout.logs,
    weftdLog: join(layout.logs, 'weftd.log'),
  };
}
