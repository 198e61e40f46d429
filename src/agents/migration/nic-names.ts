/** systemd .link files that give each interface, known by its MAC, the name that it had. Sorted before everybody else's. Pure. */
export function linkFiles(nics: { mac: string; name: string }[]): { name: string; content: string }[] {
  return nics.map(({ mac, name }) => ({
    name: `00-portolan-${name}.link`,
    content: `# Written when this machine was moved: the interface keeps its name.\n[Match]\nMACAddress=${mac}\nType=ether\n\n[Link]\nName=${name}\n`,
  }))
}
