// One html, one js, one css with fixed names: culpritd carries them in its own program (pack.mjs).
import { defineConfig } from 'vite'

export default defineConfig({
  base: '/',
  esbuild: { jsx: 'automatic', jsxImportSource: 'preact', legalComments: 'none' },
  build: {
    target: 'es2020',
    outDir: process.env.CULPRIT_PAGE_OUT ?? 'dist',
    emptyOutDir: true,
    cssCodeSplit: false,
    modulePreload: false, // its polyfill would be an inline script, which the page's policy forbids
    assetsInlineLimit: 0,
    rollupOptions: {
      output: { inlineDynamicImports: true, entryFileNames: 'page.js', assetFileNames: 'page[extname]' },
    },
  },
})
