/** A bar with figures, for a terminal; a word on what is done, for a log. Pure. */
import { formatBytes } from '../format.js';

const CELLS = 24;
/** A rate over less is noise. */
const SETTLE_MS = 2000;

export interface Amount {
  done_bytes: number;
  /** null: not known. */
  total_bytes: number | null;
}

export function bar(fraction: number): string {
  const clipped = Math.min(1, Math.max(0, fraction));
  const full = Math.floor(clipped * CELLS);
  return `[${'#'.repeat(full)}${'.'.repeat(CELLS - full)}] ${Math.floor(clipped * 100)}%`;
}

/** `[####....] 45%  1.2 GiB of 3 GiB  230 MiB/s  12 s left`. `elapsed_ms`: since `begun_bytes` were done. */
export function amountText(amount: Amount, elapsed_ms: number, begun_bytes = 0): string {
  const { done_bytes, total_bytes } = amount;
  const words: string[] = [];
  if (total_bytes !== null && total_bytes > 0) words.push(bar(done_bytes / total_bytes));
  words.push(
    total_bytes === null
      ? formatBytes(done_bytes)
      : `${formatBytes(done_bytes)} of ${formatBytes(total_bytes)}`,
  );
  const moved_bytes = done_bytes - begun_bytes;
  if (elapsed_ms >= SETTLE_MS && moved_bytes > 0) {
    const rate_per_s = (moved_bytes * 1000) / elapsed_ms;
    words.push(`${formatBytes(Math.round(rate_per_s))}/s`);
    if (total_bytes !== null && total_bytes > done_bytes)
      words.push(`${timeText((total_bytes - done_bytes) / rate_per_s)} left`);
  }
  return words.join('  ');
}

export function timeText(time_s: number): string {
  if (time_s < 100) return `${Math.ceil(time_s)} s`;
  if (time_s < 6000) return `${Math.ceil(time_s / 60)} min`;
  return `${Math.ceil(time_s / 3600)} h`;
}
