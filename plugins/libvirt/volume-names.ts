/**
 * Names of a VM's volumes: `<name>-<uuid>-<role>`. The VM's name is there for people and shortened to plain characters; the unique id finds them again,
 * also after the VM's definition is gone.
 */
export function volumeNames(vm: { name: string; uniqueId: string }) {
  const prefix = `${
    vm.name
      .replace(/[^A-Za-z0-9._]+/g, '-')
      .replace(/^[-.]+|-+$/g, '')
      .slice(0, 40) || 'vm'
  }-${vm.uniqueId}`
  return {
    disk: (index: number) => `${prefix}-disk-${index}.raw`,
    received: (index: number) => `${prefix}-disk-${index}.received.qcow2`,
    overlay: (index: number) => `${prefix}-disk-${index}.overlay.qcow2`,
    console: `${prefix}-console.log`,
    landingKernel: `${prefix}-landing-kernel`,
    landingInitrd: `${prefix}-landing-initrd`,
  }
}
