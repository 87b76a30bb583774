/** `weft volume …`: what lies in the pools, configured or not. */
import type { Register } from '../resources.js';
import {
  registerClone,
  registerDelete,
  registerFlatten,
  registerRename,
  registerResize,
} from './volume/change.js';
import { registerExport } from './volume/export.js';
import { registerImport } from './volume/import.js';
import { registerMove } from './volume/move.js';
import { registerList, registerShow, registerSnapshots } from './volume/list.js';
import {
  registerDeleteSnapshot,
  registerDiff,
  registerRollback,
  registerSnapshot,
} from './volume/snapshot.js';

export const registerVolume: Register = (program, session) => {
  const group = program.command('volume').description('what lies in the pools, configured or not');
  for (const register of [
    registerList,
    registerShow,
    registerSnapshot,
    registerSnapshots,
    registerRollback,
    registerDeleteSnapshot,
    registerDiff,
    registerClone,
    registerFlatten,
    registerImport,
    registerExport,
    registerResize,
    registerRename,
    registerMove,
    registerDelete,
  ])
    register(group, session);
};
