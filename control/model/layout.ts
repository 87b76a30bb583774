/**
 * Where things are in the state directory (ARCHITECTURE.md draws it): names only, no file is touched here.
 */
export interface Layout {
  state: string;
  lock: string;
  store: string;
  token: string;
  pools: string;
  images: string;
  logs: string;
  run: string;
  exports: string;
  machines: string;
  weftdSocket: string;
  dataplaneSocket: string;
  storageSocket: string;
}

/** `sockaddr_un.sun_path` holds 108 bytes with its end. */
export const SOCKET_PATH_MAX_BYTES = 107;

/** The longest name that weft puts under run/machines/NAME/. */
const LONGEST_MACHINE_SOCKET = 'serial.sock';

export function layoutOf(state: string): Layout {
  const run = `${state}/run`;
  return {
    state,
    lock: `${state}/lock`,
    store: `${state}/store`,
    token: `${state}/token`,
    pools: `${state}/pools`,
    images: `${state}/images`,
    logs: `${state}/logs`,
    run,
    exports: `${run}/exports`,
    machines: `${run}/machines`,
    weftdSocket: `${run}/weftd.sock`,
    dataplaneSocket: `${run}/dataplane.sock`,
    storageSocket: `${run}/storage.sock`,
  };
}

/** What the port of a machine's card is called on its switch. */
export function nicPortName(machine: string, index: number): string {
  return `${machine}.nic${index}`;
}

export function poolDirectory(layout: Layout, name: string, chosen: string | undefined): string {
  return chosen ?? `${layout.pools}/${name}`;
}

export function exportSocket(layout: Layout, name: string, chosen: string | undefined): string {
  return chosen ?? `${layout.exports}/${name}.sock`;
}

/** Bytes of the longest socket path that this machine needs. */
export function machineSocketLength(layout: Layout, name: string): number {
  return Buffer.byteLength(`${layout.machines}/${name}/${LONGEST_MACHINE_SOCKET}`);
}
