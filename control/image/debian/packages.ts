/** Names and versions in what apt and dpkg print. Pure. */

/** Debian's name for Node's `process.arch`. */
export function debianArch(nodeArch: string): string | undefined {
  if (nodeArch === 'x64') return 'amd64';
  return nodeArch === 'arm64' ? 'arm64' : undefined;
}

/**
 * Packages that only depend on the newest kernel, best first: Debian's for virtual machines, which is small and
 * boots quickly; Ubuntu's; Debian's for everything.
 */
export function kernelMetaPackages(arch: string): string[] {
  return [`linux-image-cloud-${arch}`, 'linux-image-virtual', `linux-image-${arch}`];
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

/** Newest first; those made for virtual machines before the others. */
export function rankKernels(releases: readonly string[]): string[] {
  const isCloud = (release: string): number => (/-cloud-|-virtual|-kvm$/.test(release) ? 0 : 1);
  return releases.toSorted((a, b) => isCloud(a) - isCloud(b) || b.localeCompare(a, 'en', { numeric: true }));
}
