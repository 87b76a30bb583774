/**
 * One question to rtnetlink, and its answers. The kernel answers on the spot, so this is synchronous; a
 * timeout of the socket is there for the day that it does not.
 *
 * A socket is opened for each question (some 10 us): it belongs to the network namespace that the thread is
 * in at that moment, which is what `inNetns` needs.
 */
import { EAGAIN, EBADMSG, EINTR, EMSGSIZE, ETIMEDOUT, HostError, check } from './errno.js';
import { mapAnonymous } from './memory.js';
import { NLMSG_DONE, NLMSG_ERROR, NLM_F_DUMP_INTR, NLM_F_MULTI } from './netlinkCodec.js';
import { readError, readMessages } from './netlinkCodec.js';
import type { Message } from './netlinkCodec.js';
import * as raw from './raw.js';
import {
  AF_NETLINK,
  SOCK_RAW,
  SOL_SOCKET,
  SO_RCVTIMEO,
  setOption,
  setOptionBytes,
  socket,
} from './socket.js';

const NETLINK_ROUTE = 0;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;

const TIMEOUT_S = 5;

/** Datagrams of a dump are at most 32 KiB. */
const RECEIVE_BYTES = 65_536;

/** A dump that the table's changes disturb is asked for again this often. */
const DUMP_ATTEMPTS_MAX = 16;

/** Messages of one dump: some 60,000 interfaces with room to spare. */
const DUMP_MESSAGES_MAX = 1_000_000;

const memory = mapAnonymous(RECEIVE_BYTES);

let sequence = 0;

/** For the header of the next request. */
export function nextSequence(): number {
  sequence = (sequence + 1) >>> 0;
  return sequence;
}

function openSocket(): number {
  const fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, true);
  const timeout = new Uint8Array(16);
  timeout[0] = TIMEOUT_S;
  check(setOptionBytes(fd, SOL_SOCKET, SO_RCVTIMEO, timeout), 'setsockopt', 'SO_RCVTIMEO');
  // The request's body is not echoed, and a refusal comes with words. Older kernels do neither: no matter.
  setOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
  setOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
  return fd;
}

/** Sends the request and returns the messages that answer it. A refusal is thrown; `what` goes into its message. */
export function ask(request: () => Uint8Array, syscall: string, what: string): Message[] {
  for (let attempt = 1; ; attempt++) {
    const answers = askOnce(request(), syscall, what);
    if (answers !== undefined) return answers;
    if (attempt === DUMP_ATTEMPTS_MAX)
      throw new HostError(syscall, EAGAIN, what, 'the table changed all the while it was read');
  }
}

/** Undefined when a dump was interrupted. */
function askOnce(request: Uint8Array, syscall: string, what: string): Message[] | undefined {
  if (request.length > RECEIVE_BYTES) throw new HostError(syscall, EMSGSIZE, what);
  const seq = new DataView(request.buffer).getUint32(8, true);
  const fd = openSocket();
  try {
    memory.bytes.set(request, 0);
    check(raw.send(fd, memory.address, request.length, 0), syscall, what);
    return receive(fd, seq, syscall, what);
  } finally {
    raw.close(fd);
  }
}

function receive(fd: number, seq: number, syscall: string, what: string): Message[] | undefined {
  const answers: Message[] = [];
  let interrupted = false;
  for (;;) {
    const length = raw.recv(fd, memory.address, RECEIVE_BYTES, raw.MSG_TRUNC);
    if (length === -EINTR) continue;
    if (length === -EAGAIN)
      throw new HostError(syscall, ETIMEDOUT, what, `the kernel said nothing for ${TIMEOUT_S} s`);
    check(length, syscall, what);
    if (length > RECEIVE_BYTES) throw new HostError(syscall, EMSGSIZE, what, `an answer of ${length} bytes`);
    // A copy: the bodies are kept, and the next recv comes into the same memory.
    const { messages, wellFormed } = readMessages(memory.bytes.slice(0, length));
    if (!wellFormed || answers.length > DUMP_MESSAGES_MAX)
      throw new HostError(syscall, EBADMSG, what, 'the answer does not hold together');
    for (const message of messages) {
      if (message.seq !== seq) continue;
      interrupted ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
      if (message.type === NLMSG_ERROR) {
        const refusal = readError(message.body, message.flags);
        if (refusal === undefined) throw new HostError(syscall, EBADMSG, what);
        if (refusal.errno !== 0) throw new HostError(syscall, refusal.errno, what, refusal.text);
        return answers;
      }
      if (message.type === NLMSG_DONE) return interrupted ? undefined : answers;
      answers.push(message);
      if ((message.flags & NLM_F_MULTI) === 0) return answers;
    }
  }
}
