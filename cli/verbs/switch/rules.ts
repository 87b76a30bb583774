/** `weft switch rules NAME`: flow rules in the order in which they are asked, and what each has decided. */
import { dataplane } from '../../../control/api/contract.js';
import { formatAge, formatBytes } from '../../format.js';
import { formatTable } from '../../table.js';
import { view } from './view.js';

const rate = (bits: number): string =>
  bits >= 1e9 ? `${bits / 1e9}Gbit` : bits >= 1e6 ? `${bits / 1e6}Mbit` : `${bits / 1e3}kbit`;

export const rulesView = view<dataplane.RulesView>({
  what: 'rules',
  description: 'flow rules in the order in which they are asked, and what each has decided',
  schema: dataplane.RulesView,
  lines({ rules, unmatched, meters, classifier, default: verdict }, session) {
    const rows = rules.map(rule => [
      String(rule.priority),
      rule.name,
      rule.verdict,
      String(rule.frames),
      formatBytes(rule.octets),
      rule.lastHit_ms === null ? 'never' : formatAge(rule.lastHit_ms),
      rule.problem ?? '',
    ]);
    const rest = ['', '(no rule)', verdict, String(unmatched.frames), formatBytes(unmatched.octets), '', ''];
    const lines = formatTable(
      ['PRIORITY', 'RULE', 'DOES', 'FRAMES', 'BYTES', 'LAST', 'PROBLEM'],
      [...rows, rest],
      session.out,
    );
    if (meters.length > 0) {
      const meterRows = meters.map(meter => [
        meter.name,
        rate(meter.rate_bps),
        formatBytes(meter.burst_bytes),
        String(meter.conformedFrames),
        String(meter.exceededFrames),
        formatBytes(meter.exceededOctets),
      ]);
      const headers = ['METER', 'RATE', 'BURST', 'CONFORMED', 'EXCEEDED', 'EXCEEDED BYTES'];
      lines.push('', ...formatTable(headers, meterRows, session.out));
    }
    const { cacheHits, cacheMisses, cacheFlows, entries, tuples } = classifier;
    const asked = cacheHits + cacheMisses;
    const share = asked === 0 ? '' : `, ${((cacheHits / asked) * 100).toFixed(1)} % of frames found there`;
    lines.push('', `${entries} patterns under ${tuples} masks; ${cacheFlows} flows in the cache${share}.`);
    return lines;
  },
});
