/** `weft switch sampling`: what is told to sFlow collectors. */
import { dataplane } from '../../../control/api/contract.js';
import { formatFields } from '../../table.js';
import { view } from './view.js';

export const samplingView = view({
  what: 'sampling',
  description: 'what a switch tells sFlow collectors',
  schema: dataplane.SamplingView,
  lines: ({ collectors, rate, framesSeen, framesSampled, datagrams }) =>
    formatFields([
      ['Collectors', collectors.map(({ address, port }) => `${address} port ${port}`).join('\n')],
      ['Rate', `one frame in ${rate}`],
      ['Frames seen', String(framesSeen)],
      ['Frames sampled', String(framesSampled)],
      ['Datagrams sent', String(datagrams)],
    ]),
});
