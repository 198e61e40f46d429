import { defineConfiguration } from './src/configuration.ts'

/** Which plugins are there, and where things listen. Clouds are connected through the API: see the mutation `connectCloud`. */
export default defineConfiguration({
  plugins: ['./plugins/qemu', './plugins/libvirt'],
})
