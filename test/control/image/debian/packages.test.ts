import t from 'tap';
import {
  debianArch,
  dependsOn,
  kernelMetaPackages,
  kernelRelease,
  parseKernelDependency,
  rankKernels,
} from '../../../../control/image/debian/packages.js';

await t.test("the real kernel behind Debian's and Ubuntu's meta packages", async t => {
  const debian = 'linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-44-cloud-amd64\n';
  t.equal(parseKernelDependency(debian), 'linux-image-6.1.0-44-cloud-amd64');
  const ubuntu =
    'linux-image-virtual\n  Depends: linux-image-6.8.0-60-generic\n  Recommends: thermald\n  Suggests: x\n';
  t.equal(parseKernelDependency(ubuntu), 'linux-image-6.8.0-60-generic');
  t.equal(parseKernelDependency('linux-image-cloud-amd64\n'), undefined);
  t.equal(parseKernelDependency(''), undefined);
  t.equal(kernelRelease('linux-image-6.1.0-44-cloud-amd64'), '6.1.0-44-cloud-amd64');
  t.equal(kernelRelease('linux-image-unsigned-6.8.0-60-generic'), '6.8.0-60-generic');
});

await t.test('dependencies', async t => {
  const output =
    'linux-image-6.8.0-60-generic\n  PreDepends: a\n |Depends: kmod\n  Depends: linux-modules-6.8.0-60-generic\n';
  t.ok(dependsOn(output, 'linux-modules-6.8.0-60-generic'));
  t.ok(dependsOn(output, 'kmod'));
  t.notOk(dependsOn(output, 'linux-modules'));
});

await t.test('kernels for guests first, then the newest', async t => {
  t.same(
    rankKernels(['6.1.0-9-amd64', '6.1.0-44-amd64', '6.1.0-9-cloud-amd64', '6.1.0-10-cloud-amd64'], 'amd64'),
    ['6.1.0-10-cloud-amd64', '6.1.0-9-cloud-amd64', '6.1.0-44-amd64', '6.1.0-9-amd64'],
  );
  t.same(rankKernels(['6.1.0-9-cloud-arm64', '6.1.0-44-arm64'], 'arm64'), [
    '6.1.0-44-arm64',
    '6.1.0-9-cloud-arm64',
  ]);
  t.equal(debianArch('x64'), 'amd64');
  t.equal(debianArch('arm64'), 'arm64');
  t.equal(debianArch('s390x'), undefined);
  t.equal(kernelMetaPackages('amd64')[0], 'linux-image-cloud-amd64');
  t.equal(kernelMetaPackages('arm64')[0], 'linux-image-arm64', 'which hears the power button');
});
