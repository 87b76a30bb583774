import t from 'tap';
import { PortConfig, SwitchConfig } from '../../../dataplane/contract.js';
import { whyNotPort, whyNotSwitch } from '../../../dataplane/offload/reasons.js';

const PORT = { name: 'a', vlan: { mode: 'access', vlan: 1 }, device: { kind: 'tap', ifname: 'a' } } as const;
const port = (more: object) => PortConfig.parse({ ...PORT, ...more });
const network = (more: object) => SwitchConfig.parse({ name: 's', ports: [PORT], ...more });

await t.test('what the configuration says against it', async t => {
  t.equal(whyNotPort(port({})), null);
  t.match(whyNotPort(port({ faults: { drop_ppm: 1 } })), /faults/);
  t.equal(whyNotSwitch(network({})), null);
  t.equal(whyNotSwitch(network({ offload: { mode: 'auto' } })), null);
  t.match(whyNotSwitch(network({ offload: { mode: 'off' } })), /is off/);
});
