/** What holds a copy up most, by measured waiting. */
export const bottlenecks = ['SOURCE_DISK', 'SOURCE_CPU', 'LINK', 'DESTINATION_DISK', 'DESTINATION_CPU', 'BANDWIDTH_LIMIT'] as const
export type BottleneckName = (typeof bottlenecks)[number]

/** What an operator can do about it: one sentence each. */
export const bottleneckRemedies: Record<BottleneckName, string> = {
  SOURCE_DISK: "Reading the source's disk is slowest: calm its workload, or give the disk more throughput.",
  SOURCE_CPU: 'Hashing, compressing and encrypting in the source guest is slowest: give it another CPU, or calm its workload.',
  LINK: 'The network between the guests is slowest: give it more bandwidth, or exclude directories that need not be copied.',
  DESTINATION_DISK: "Writing and re-reading the destination's disk is slowest: give it faster storage.",
  DESTINATION_CPU: 'Decrypting and hashing in the destination is slowest: give its virtual machine another CPU.',
  BANDWIDTH_LIMIT: 'The limit of bandwidth holds the copy: raise it with setBandwidthLimit, or wait for the window to end.',
}
