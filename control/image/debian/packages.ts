/** Names and versions in what apt and dpkg print. Pure. */

/** Debian's name for Node's `process.arch`. */
export function debianArch(nodeArch: string): string | undefined {
  if (nodeArch === 'x64') return 'amd64';
  return nodeArch === 'arm64' ? 'arm64' : undefined;
}

/**
 * Packages that only depend on the newest kernel, best first: Debian's for virtual machines, which is small and
 * boots quickly; Ubuntu's; Debian's for everything. On arm64 the small one comes last: booted without UEFI, it has
 * no driver for the power button, and such a guest can only be killed.
 */
export function kernelMetaPackages(arch: string): string[] {
  const [small, ubuntu, whole] = [`linux-image-cloud-${arch}`, 'linux-image-virtual', `linux-image-${arch}`];
  return arch === 'arm64' ? [whole, ubuntu, small] : [small, ubuntu, whole];
}

/** `apt-cache depends NAME`: the first dependency that is a kernel by its version. */
export function parseKernelDependency(output: string): string | undefined {
  return /^\s*\|?(?:Pre)?Depends:\s*(linux-image-(?:unsigned-)?\d[\w.+~-]*)\s*$/m.exec(output)?.[1];
}

/** `linux-image-6.1.0-44-cloud-amd64` -> `6.1.0-44-cloud-amd64`. */
export function kernelRelease(packageName: string): string {
  return packageName.replace(/^linux-image-(unsigned-)?/, '');
}

/** `apt-cache depends`: whether that other package is among them. */
export function dependsOn(output: string, name: string): boolean {
  return output.split('\n').some(line => line.trim().replace(/^\|?\w+:\s*/, '') === name);
}

/** Whether it was made for virtual machines, and is the better one for ours (see above). */
export function isForGuests(release: string, arch: string): boolean {
  return arch !== 'arm64' && /-cloud-|-virtual$|-kvm$/.test(release);
}

/** Those for guests before the others, then the newest first. */
export function rankKernels(releases: readonly string[], arch: string): string[] {
  const place = (release: string): number => (isForGuests(release, arch) ? 0 : 1);
  return releases.toSorted((a, b) => place(a) - place(b) || b.localeCompare(a, 'en', { numeric: true }));
}
