/** How sizes, times and values are written for people; and the forms of `-o`. */
import { Option } from 'commander';
import { stringify } from 'yaml';

export type OutputForm = 'table' | 'wide' | 'yaml' | 'json';

export function outputOption(forms: readonly OutputForm[]): Option {
  return new Option('-o, --output <form>', 'form of the answer').choices([...forms]).default('table');
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function formatBytes(size_bytes: number): string {
  let value = size_bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** `45s`, `12m`, `3h`, `9d`: one number is enough in a table. */
export function formatAge(age_ms: number): string {
  const age_s = Math.max(0, Math.floor(age_ms / 1000));
  if (age_s < 120) return `${age_s}s`;
  if (age_s < 7200) return `${Math.floor(age_s / 60)}m`;
  if (age_s < 172_800) return `${Math.floor(age_s / 3600)}h`;
  return `${Math.floor(age_s / 86_400)}d`;
}

export function formatYaml(value: unknown): string {
  return stringify(value, { lineWidth: 110, aliasDuplicateObjects: false }).trimEnd();
}

export function formatJson(value: unknown): string {
  return JSON.stringify(value, null, 2);
}

/** One line for a value inside a sentence. */
export function formatValue(value: unknown): string {
  if (value === undefined || value === null) return '(none)';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
