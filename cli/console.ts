/**
 * The serial line of a machine on this terminal. On a terminal the keys go through raw, Ctrl-C included, and
 * Ctrl-] leaves; the terminal is put back whatever happens. Where the input is a pipe its bytes are sent as they are,
 * and after its end the line is listened to until it has been silent for a while.
 */
import type { Socket } from 'node:net';
import type { Client } from './client.js';
import { CliError } from './errors.js';
import type { Session } from './session.js';

/** Ctrl-], as telnet and virsh have it. */
const ESCAPE_BYTE = 0x1d;

type Ending = 'escape' | 'closed' | 'silence' | 'signal';

export async function runConsole(
  session: Session,
  client: Client,
  name: string,
  linger_ms: number,
): Promise<void> {
  const { stdin, stdout } = session.io;
  const { socket, head } = await client.upgrade(
    `/v1/machines/${encodeURIComponent(name)}/console`,
    'weft-console',
  );
  const raw = stdin.isTTY === true && stdin.setRawMode !== undefined;
  if (raw) session.say(`On the serial line of machine ${name}. Ctrl-] leaves; Enter wakes a silent shell.`);
  let ending: Ending;
  try {
    if (raw) stdin.setRawMode?.(true);
    if (head.length > 0) stdout.write(head);
    ending = await carry(session, socket, raw, linger_ms);
  } finally {
    if (raw) stdin.setRawMode?.(false);
    stdin.pause();
    socket.destroy();
  }
  if (raw) session.say('\r');
  if (ending === 'closed') {
    throw new CliError('CONSOLE_CLOSED', `the serial line of machine ${name} was closed at the other end`, {
      hint: `The machine may have stopped: "weft get machine ${name}" says.`,
    });
  }
}

function carry(session: Session, socket: Socket, raw: boolean, linger_ms: number): Promise<Ending> {
  const { stdin, stdout } = session.io;
  return new Promise((resolve, reject) => {
    let silence: NodeJS.Timeout | undefined;
    let lastLook: NodeJS.Immediate | undefined;
    let inputEnded = false;
    const listenFor = (time_ms: number) => {
      clearTimeout(silence);
      clearImmediate(lastLook);
      // A machine that held us up may have had something to say meanwhile: it is read before this is called silence.
      silence = setTimeout(() => (lastLook = setImmediate(() => finish('silence'))), time_ms);
    };
    const onInput = (bytes: Buffer | string) => {
      const piece = Buffer.from(bytes);
      const escape = raw ? piece.indexOf(ESCAPE_BYTE) : -1;
      const wanted = escape < 0 ? piece : piece.subarray(0, escape);
      // What a slow guest has not taken yet must not pile up here.
      if (wanted.length > 0 && !socket.write(wanted)) stdin.pause();
      if (escape >= 0) finish('escape');
    };
    const onInputEnd = () => {
      inputEnded = true;
      listenFor(linger_ms);
    };
    const onOutput = (bytes: Buffer) => {
      if (inputEnded) listenFor(linger_ms);
      if (!stdout.write(bytes)) socket.pause();
    };
    const onSocketDrain = () => stdin.resume();
    const onStdoutDrain = () => socket.resume();
    const onClose = () => finish('closed');
    const onError = () => finish('closed');
    const offSignal = session.io.onSignal(() => finish('signal'));
    const finish = (ending: Ending) => {
      clearTimeout(silence);
      clearImmediate(lastLook);
      offSignal();
      stdin.off('data', onInput).off('end', onInputEnd).off('error', reject);
      stdout.off('drain', onStdoutDrain);
      socket.off('data', onOutput).off('drain', onSocketDrain).off('close', onClose);
      resolve(ending);
    };
    // Errors after the end have nobody left to tell.
    socket.on('error', onError);
    socket.on('data', onOutput).on('drain', onSocketDrain).on('close', onClose);
    stdout.on('drain', onStdoutDrain);
    stdin.on('data', onInput).on('end', onInputEnd).on('error', reject);
    stdin.resume();
    socket.resume();
  });
}
