import assert from 'node:assert';
import * as wire from '../../../storage/nbd/wire.js';
import type { Target } from '../harness.js';

export const target: Target = {
  says: 'data of NBD_OPT_GO and of meta contexts: what is taken is emitted again, byte by byte',
  samples: [
    wire.emitGo('disk', [wire.NBD_INFO.EXPORT, wire.NBD_INFO.BLOCK_SIZE]),
    wire.emitGo('', []),
    wire.emitMetaContext('disk', ['base:allocation']),
    wire.emitMetaContext('näme', ['base:', 'x:y', '']),
  ],
  run(input) {
    const go = wire.parseGo(input);
    if (go !== null) assert.deepEqual(wire.emitGo(go.name, go.infos), input);
    const context = wire.parseMetaContext(input);
    if (context !== null) assert.deepEqual(wire.emitMetaContext(context.name, context.queries), input);
  },
};
