// Exists so that the precompiled header has a translation unit of its own.
