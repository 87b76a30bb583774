/** Numbers for people. */

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${UNITS[unit]}`;
}

/** As a backup and its snapshot are called when nobody gave a name: to the second, and sortable. */
export function timeName(now_ms: number): string {
  return `backup-${new Date(now_ms).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}
