/** An event as one line. */
import type { WeftEvent } from '../control/api/contract.js';
import type { Style } from './style.js';
import { harmless } from './width.js';

export function formatEvent(event: WeftEvent, style: Style): string {
  const paint = { info: (text: string) => text, warning: style.yellow, error: style.red }[event.level];
  const subject = [event.kind, event.name].filter(part => part !== '').join(' ');
  const level = event.level === 'info' ? '' : `${event.level}: `;
  return harmlessLine(
    `${style.dim(localTime(event.at))}  ${subject === '' ? '' : `${harmless(subject)}: `}${paint(`${level}${event.reason}`)}: ${harmless(event.message)}`,
  );
}

/** Local time with seconds, sortable. */
function localTime(at: string): string {
  const time = new Date(at);
  const two = (n: number) => String(n).padStart(2, '0');
  return (
    `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ` +
    `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
  );
}

function harmlessLine(line: string): string {
  return line.replaceAll('\n', ' ');
}
