/**
 * Certificates by the `openssl` program, in a directory whose files are named as QEMU, libnbd and nbdkit want them, so that
 * what is made here can be given to any of them:
 *
 *   DIR/ca-cert.pem   DIR/ca-key.pem            the authority
 *   DIR/server-cert.pem   DIR/server-key.pem    a server of it
 *   DIR/clients/NAME/{ca-cert,client-cert,client-key}.pem     a client; this directory is what it gets
 *
 * Keys are P-256 without a passphrase, mode 0600. What is made appears when it is whole.
 */
import { execFile } from 'node:child_process';
import { X509Certificate, randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { isIP } from 'node:net';
import { join } from 'node:path';
import { CliError, UsageError } from '../errors.js';

const DEADLINE_MS = 30_000;
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
/** In the scratch directory. */
const WHERE = ['-keyout', 'key', '-out', 'certificate'];
const SIGN = ['x509', '-req', '-in', 'request', '-out', 'certificate', '-extfile', 'extensions'];
/** X.520: common names have 64 characters at most. Others than these would need quoting in a subject. */
const COMMON_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/;
const HOST =
  /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$/;

export interface Made {
  certificate: string;
  key: string;
  authority: string;
  validTo: Date;
}

export function checkName(name: string): string {
  if (COMMON_NAME.test(name)) return name;
  throw new UsageError(
    `"${name}" cannot be the name in a certificate`,
    'Up to 64 letters, digits and . _ @ -, the first a letter or digit.',
  );
}

/** An authority of one's own, unless there is one. Null: it was there. */
export async function makeAuthority(
  directory: string,
  name: string,
  { days, force }: { days: number; force: boolean },
): Promise<Made | null> {
  const [certificate, key] = [join(directory, 'ca-cert.pem'), join(directory, 'ca-key.pem')];
  if (!force && fs.existsSync(certificate) && fs.existsSync(key)) return null;
  refuseToReplace([certificate, key], force);
  fs.mkdirSync(directory, { recursive: true, mode: 0o755 });
  await inScratch(directory, async scratch => {
    const extensions = ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign,cRLSign'];
    await openssl(scratch, [
      'req',
      '-x509',
      ...KEY,
      ...WHERE,
      '-days',
      String(days),
      '-subj',
      `/CN=${checkName(name)}`,
      ...extensions.flatMap(one => ['-addext', one]),
    ]);
    moveInto(scratch, certificate, key);
  });
  return { certificate, key, authority: certificate, validTo: validTo(certificate) };
}

/** `hosts`: names and addresses by which clients will call it. */
export async function makeServer(
  directory: string,
  hosts: readonly string[],
  options: { days: number; force: boolean },
): Promise<Made> {
  const names = hosts.map(host => {
    if (isIP(host) !== 0) return `IP:${host}`;
    if (HOST.test(host)) return `DNS:${host}`;
    throw new UsageError(`"${host}" is neither an address nor a host's name`);
  });
  // The common name is for people; clients compare the alternative names (RFC 6125 6.4.4).
  const name = hosts.find(host => COMMON_NAME.test(host)) ?? 'server';
  const extensions = [`subjectAltName=${names.join(',')}`, 'extendedKeyUsage=serverAuth'];
  const files = [join(directory, 'server-cert.pem'), join(directory, 'server-key.pem')] as const;
  return sign(directory, files, name, extensions, options);
}

/** `name`: the identity that exports allow. */
export async function makeClient(
  directory: string,
  name: string,
  options: { days: number; force: boolean },
): Promise<Made> {
  const place = join(directory, 'clients', checkName(name));
  const files = [join(place, 'client-cert.pem'), join(place, 'client-key.pem')] as const;
  refuseToReplace(files, options.force);
  fs.mkdirSync(place, { recursive: true, mode: 0o700 });
  const made = await sign(directory, files, name, ['extendedKeyUsage=clientAuth'], options);
  fs.copyFileSync(made.authority, join(place, 'ca-cert.pem'));
  return made;
}

/**
 * Another line in a file of pre-shared keys, as `psktool` writes them; made when it is not there. With `force` a key of this
 * identity is replaced.
 */
export function addKey(file: string, identity: string, force: boolean): void {
  checkName(identity);
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  const others = text.split('\n').filter(line => line !== '' && !line.startsWith(`${identity}:`));
  const isThere = text.split('\n').some(line => line.startsWith(`${identity}:`));
  if (isThere && !force)
    throw new CliError('TLS_EXISTS', `${file} has a key of "${identity}" already`, {
      hint: 'With --force it is replaced; who has the old one gets in no more.',
    });
  const scratch = `${file}.${randomBytes(4).toString('hex')}`;
  const lines = [...others, `${identity}:${randomBytes(32).toString('hex')}`];
  fs.writeFileSync(scratch, `${lines.join('\n')}\n`, { mode: 0o600, flag: 'wx' });
  fs.renameSync(scratch, file);
}

async function sign(
  directory: string,
  [certificate, key]: readonly [string, string],
  name: string,
  extensions: readonly string[],
  { days, force }: { days: number; force: boolean },
): Promise<Made> {
  const [authority, authorityKey] = [join(directory, 'ca-cert.pem'), join(directory, 'ca-key.pem')];
  for (const file of [authority, authorityKey])
    if (!fs.existsSync(file))
      throw new CliError('TLS_NO_AUTHORITY', `there is no ${file}`, {
        hint: `"weft tls authority ${directory}" makes an authority, whose certificates the two sides believe.`,
      });
  const end = validTo(authority);
  if (end.getTime() < Date.now() + days * 86_400_000)
    throw new CliError('TLS_AUTHORITY_ENDS', `the authority ends on ${day(end)}, before this would`, {
      hint: 'Say fewer --days, or make a new authority with --force, and all certificates anew.',
    });
  refuseToReplace([certificate, key], force);
  await inScratch(directory, async scratch => {
    await openssl(scratch, ['req', ...KEY, '-keyout', 'key', '-out', 'request', '-subj', `/CN=${name}`]);
    const all = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', ...extensions];
    fs.writeFileSync(join(scratch, 'extensions'), `${all.join('\n')}\n`);
    await openssl(scratch, [
      ...SIGN,
      '-days',
      String(days),
      '-CA',
      authority,
      '-CAkey',
      authorityKey,
      '-set_serial',
      // RFC 5280 4.1.2.2: positive, 20 bytes at most. Random, so that no file has to count.
      `0x7f${randomBytes(15).toString('hex')}`,
    ]);
    moveInto(scratch, certificate, key);
  });
  return { certificate, key, authority, validTo: validTo(certificate) };
}

function refuseToReplace(files: readonly string[], force: boolean): void {
  const there = files.find(file => fs.existsSync(file));
  if (there !== undefined && !force)
    throw new CliError('TLS_EXISTS', `${there} is there already`, {
      hint: 'With --force it is replaced; what was made with it is worth nothing then.',
    });
}

/** Beside what it makes, so that a rename suffices; nobody else may look into it. */
async function inScratch(directory: string, work: (scratch: string) => Promise<void>): Promise<void> {
  const scratch = fs.mkdtempSync(join(directory, '.making-'));
  try {
    await work(scratch);
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
}

function moveInto(scratch: string, certificate: string, key: string): void {
  fs.chmodSync(join(scratch, 'key'), 0o600);
  fs.chmodSync(join(scratch, 'certificate'), 0o644);
  fs.renameSync(join(scratch, 'key'), key);
  fs.renameSync(join(scratch, 'certificate'), certificate);
}

function validTo(file: string): Date {
  return new Date(new X509Certificate(fs.readFileSync(file)).validTo);
}

export function day(date: Date): string {
  return date.toISOString().slice(0, 10);
}

function openssl(directory: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile('openssl', args, { cwd: directory, timeout: DEADLINE_MS }, (error, _stdout, stderr) => {
      if (error === null) return resolve();
      if (error.code === 'ENOENT')
        return reject(
          new CliError('PROGRAM_MISSING', 'the program openssl is not there', {
            hint: 'On Debian: apt-get install openssl.',
          }),
        );
      const [last = error.message] = stderr.trim().split('\n').slice(-1);
      reject(new CliError('TLS_OPENSSL', `openssl ${args[0]} failed: ${last.slice(0, 500)}`));
    });
  });
}
